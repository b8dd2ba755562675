"""Projections and the way back: float32 products, and the same by bfloat16 parts."""

import pytest
import torch

from fastcore_ops import sliced_mmd
from fastcore_ops.mmd import _products, _reference_split

EPS = torch.finfo(torch.float32).eps


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def split_products(cloud, shift, most):
    return _products.SplitProducts(cloud, shift, most, _reference_split.split)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(_products, "_SPLIT_CHUNK", 64)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("n", "d", "most", "slices"), [(1, 3, 2, 2), (64, 16, 8, 8), (128, 40, 8, 5), (131, 300, 20, 17)]
)
def test_split_products_are_as_exact_as_float32(n, d, most, slices):
    cloud, shift, rows, gradient = draw(n, d), draw(1, d, seed=1), draw(slices, d, seed=2), draw(slices, n, seed=3)
    want = rows.double() @ (cloud - shift).double().t()
    bound = rows.double().abs() @ (cloud - shift).double().abs().t()
    back, back_bound = gradient.double().t() @ rows.double(), gradient.double().abs().t() @ rows.double().abs()
    for make in (split_products, _products.Products):
        products = make(cloud, shift, most)
        # In eps of the sum of magnitudes; the worst seen: 0.5 split, 0.9 in float32.
        assert float(((products.project(rows) - want).abs() / bound).max()) < 3 * EPS
        grad = torch.ones(n, d)
        products.add_back(grad, gradient, rows)
        assert float(((grad - 1 - back).abs() / (back_bound + 2)).max()) < 3 * EPS


@pytest.mark.usefixtures("small_chunks")
def test_split_products_do_not_depend_on_the_place():
    """All chunks are of one size."""
    cloud, rows = draw(150, 33), draw(7, 33, seed=1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    found = split_products(cloud, None, 7).project(rows)
    assert torch.equal(split_products(cloud[order], None, 7).project(rows), found[:, order])


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf, 3.4e38])
def test_a_number_that_is_not_finite_stays_in_its_point(wrong):
    """Nor is what rounds to infinity in bfloat16."""
    cloud, rows = draw(20, 9), draw(4, 9, seed=1)
    cloud[5, 3] = wrong
    found = split_products(cloud, None, 4).project(rows)
    assert not found[:, 5].isfinite().any()
    assert found[:, [i for i in range(20) if i != 5]].isfinite().all()


def test_numbers_of_all_sizes_are_the_sums_of_their_parts():
    x = draw(40, 64) * 2.0 ** torch.linspace(-100, 100, 64)
    parts = _reference_split.split(x, None, 0, 40, False, False).float().chunk(6, 1)
    assert torch.equal((parts[0] + parts[1]) + parts[2], x)


def test_only_large_float32_clouds_on_a_gpu_are_split():
    assert isinstance(_products.products(draw(300, 300), None, 300, None), _products.Products)


def on_gpu(test):
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")(test))


@pytest.fixture
def large(require):
    """More points than a chunk has, of a number that chunks do not divide."""
    require("cuda")
    if not _products._has_fast_bfloat16(torch.device("cuda")):
        pytest.skip("float32 products are as fast")
    return draw(9001, 300).cuda(), draw(1, 300, seed=1).cuda(), draw(270, 300, seed=2).cuda()


@on_gpu
def test_cuda_products_are_as_exact_as_float32(large):
    cloud, shift, rows = large
    gradient = draw(270, 9001, seed=3).cuda()
    products = _products.products(cloud, shift, 270, None)
    assert isinstance(products, _products.SplitProducts)
    points = (cloud - shift).double()
    error = (products.project(rows) - rows.double() @ points.t()).abs() / (rows.double().abs() @ points.abs().t())
    assert float(error.max()) < 3 * EPS
    grad = torch.zeros_like(cloud)
    products.add_back(grad, gradient, rows)
    back = gradient.double().t() @ rows.double()
    assert float(((grad - back).abs() / (gradient.double().abs().t() @ rows.double().abs())).max()) < 3 * EPS


@on_gpu
def test_cuda_products_do_not_depend_on_the_place(large):
    cloud, _, rows = large
    order = torch.randperm(len(cloud), device="cuda")
    found = _products.products(cloud, None, 270, None).project(rows)
    assert torch.equal(_products.products(cloud[order], None, 270, None).project(rows), found[:, order])


@on_gpu
def test_cuda_products_leave_tf32_to_the_user(large):
    cloud, _, _ = large
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert isinstance(_products.products(cloud, None, 270, None), _products.Products)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert isinstance(_products.products(cloud, None, 270, "reference"), _products.Products)


@on_gpu
def test_cuda_gradients_by_split_products(large):
    """Against float64: what remains are neighbours that change places within the rounding of their projections."""
    x, _, rows = large
    y, rows = (draw(9001, 300, seed=5) + 0.3).cuda(), torch.nn.functional.normalize(rows)
    x32, x64 = x.clone().requires_grad_(), x.double().requires_grad_()
    sliced_mmd(x32, y, directions=rows).backward()
    sliced_mmd(x64, y.double(), directions=rows.double()).backward()
    assert float((x32.grad - x64.grad).norm() / x64.grad.norm()) < 1e-4
