"""Section by section, what numerics promise: offsets, outliers, ties, half inputs, NaN, layouts, equal clouds, threads."""

import math

import pytest
import torch

import fastcore_ops as fo
from fastcore_ops import mmd

LAWS = [(1, "auto"), (2, "circle"), (7, "orthogonal"), (70, "hadamard"), (70, "gaussian")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def both(x, y, **options):
    """Value and gradients."""
    leaves = [cloud.clone().requires_grad_() for cloud in (x, y)]
    value = fo.sliced_mmd(*leaves, **options)
    return value.detach(), *torch.autograd.grad(value.sum(), leaves)


@pytest.mark.parametrize(
    ("offset", "value_error", "gradient_error"), [(0, 1e-6, 2e-3), (1e4, 5e-5, 2e-2), (1e6, 2e-2, 0.2)]
)
@pytest.mark.parametrize("slices", ["gaussian", "hadamard"])
def test_offsets_in_float32(offset, value_error, gradient_error, slices):
    """Against the same numbers in float64; what is left is the rounding of the points themselves."""
    x, y = normal(300, 70), normal(200, 70, seed=1) + 0.3
    options = {"slices": slices, "num_slices": 64}
    truth = both((x.double() + offset), (y.double() + offset), generator=seeded(), **options)
    rows = both(x + offset, y + offset, generator=seeded(), **options)
    if slices == "gaussian":  # directions drawn in another dtype are others
        directions = mmd.make_directions(70, 64, slices="gaussian", generator=seeded())
        truth = both(x.double() + offset, y.double() + offset, directions=directions.double())
        rows = both(x + offset, y + offset, directions=directions)
    assert abs(float(rows[0]) / float(truth[0]) - 1) < value_error
    for got, want in zip(rows[1:], truth[1:], strict=True):
        assert float((got.double() - want).norm() / want.norm()) < gradient_error


@pytest.mark.parametrize("slices", ["gaussian", "hadamard"])
def test_one_outlier_leaves_the_other_ranks_alone(slices):
    x, y = normal(100, 70, dtype=torch.float64), normal(80, 70, seed=1, dtype=torch.float64) + 0.3
    far = x.clone()
    far[3] = 1e15
    options = {"slices": slices, "num_slices": 64}
    plain, moved = (fo.sliced_mmd_grad(cloud.float(), y.float(), generator=seeded(), **options) for cloud in (x, far))
    others = torch.arange(100) != 3
    # One point of a hundred elsewhere moves each rank by one count at most.
    constant = mmd.slicing_constant(128 if slices == "hadamard" else 70, 1)
    assert float((plain - moved)[others].norm(dim=1).max()) < 2.1 * 2 * constant / 100**2
    wild = x.float()
    wild[3] = 1e30
    assert bool(fo.sliced_mmd_grad(wild, y.float(), generator=seeded(), **options).isfinite().all())


def test_the_line_is_ranked_as_it_is():
    """Moved by their centre, these neighbours would merge."""
    x = torch.tensor([1.0, 1.0 + 2**-23, 1e8])[:, None]
    y = torch.tensor([1.0 + 2**-23, 1.0 + 2**-22])[:, None]
    want = fo.sliced_mmd_grad(x.double(), y.double(), method="exact")
    for options in ({}, {"num_slices": 50}, {"slices": "gaussian"}, {"directions": torch.ones(1, 1)}):
        got = fo.sliced_mmd_grad(x, y, method="sliced", **options)
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_ranked_in_float32(dtype):
    x, y = normal(40, 9, dtype=dtype), normal(30, 9, seed=1, dtype=dtype)
    rows = mmd.make_directions(9, 16, generator=seeded())
    for directions in (rows, rows.to(dtype)):
        wide = directions.float()
        value, grad_x, grad_y = both(x, y, directions=directions)
        want = both(x.float(), y.float(), directions=wide)
        assert value.dtype == torch.float32
        assert torch.equal(value, want[0])
        assert grad_x.dtype == grad_y.dtype == dtype
        assert torch.equal(grad_x, want[1].to(dtype))
        assert torch.equal(fo.sliced_mmd_grad(x, y, directions=directions), grad_x)


def test_float64_is_double_all_the_way():
    x, y = normal(40, 9, dtype=torch.float64), normal(30, 9, seed=1, dtype=torch.float64)
    value, grad, _ = both(x, y, num_slices=8)
    assert value.dtype == grad.dtype == torch.float64
    close = x + 1e-12 * normal(40, 9, seed=2, dtype=torch.float64)
    assert 0 < float(fo.sliced_mmd(x, close, num_slices=8)) < 1e-12


@pytest.mark.native
@pytest.mark.parametrize(("d", "slices"), LAWS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kernel", ["riesz", "gaussian", "laplace"])
def test_anything_not_finite_makes_everything_nan(d, slices, bad, kernel):
    for side in (0, 1):
        clouds = [normal(20, d), normal(15, d, seed=1)]
        clouds[side][4, d // 2] = bad
        options = {"slices": slices, "num_slices": 5, "kernel": kernel, "bandwidth": 1.0}
        for output in both(*clouds, **options):
            assert bool(output.isnan().all())
        assert bool(fo.sliced_mmd_grad(*clouds, **options).isnan().all())


def test_nan_in_the_other_calls():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    x[2, 1] = math.nan
    result = mmd.mmd_test(x, y, num_permutations=9, num_slices=4)
    assert math.isnan(result.statistic)
    assert math.isnan(result.p_value)
    assert math.isnan(mmd.mmd_test(x, y, num_permutations=9, num_slices=4, kernel="gaussian").p_value)
    assert math.isnan(float(mmd.sliced_wasserstein(x, y)))
    assert math.isnan(float(fo.sliced_mmd(x, mmd.SlicedTarget.standard_normal(3))))
    assert math.isnan(float(fo.sliced_mmd(y, mmd.SlicedTarget(x))))


@pytest.mark.parametrize(("d", "slices"), LAWS)
def test_equal_clouds_in_any_order(d, slices):
    for n in (1, 30, 33, 1003):
        x = normal(n, d)
        order = torch.randperm(n, generator=seeded())
        value, *gradients = both(x, x[order], slices=slices, num_slices=20)
        assert float(value) == 0.0
        for grad in gradients:
            assert torch.equal(grad, torch.zeros_like(grad))


def test_one_slice_gets_a_twin():
    """MKL's product of one row depends on where a point stands."""
    x = normal(999, 50)
    order = torch.randperm(999, generator=seeded())
    assert float(fo.sliced_mmd(x, x[order], slices="gaussian", num_slices=1)) == 0.0


def test_one_point_each():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, -2.0]])
    value, grad, _ = both(x, y, method="exact")
    assert float(value) == pytest.approx(10.0)
    torch.testing.assert_close(grad, torch.tensor([[-1.2, 1.6]]))
    sliced, _, _ = both(x, y, num_slices=512)
    assert float(sliced) == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize("d", [1, 3, 70])
def test_zero_weight_has_no_gradient_and_no_influence(d):
    x, y = normal(20, d, dtype=torch.float64), normal(15, d, seed=1, dtype=torch.float64)
    a = torch.rand(20, generator=seeded(), dtype=torch.float64)
    a[::3] = 0
    a /= a.sum()
    _, grad, _ = both(x, y, x_weights=a, num_slices=6, generator=seeded(), method="sliced")
    assert torch.equal(grad[::3], torch.zeros_like(grad[::3]))
    moved = x.clone()
    moved[::3] += 5
    values = [fo.sliced_mmd(c, y, x_weights=a, num_slices=6, generator=seeded(), method="sliced") for c in (x, moved)]
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)


def test_signed_weights_and_unequal_totals():
    x, y = normal(6, 2, dtype=torch.float64), normal(5, 2, seed=1, dtype=torch.float64)
    a = torch.tensor([0.5, -0.2, 0.3, 0.3, 0.4, 0.1], dtype=torch.float64)
    b = torch.full((5,), 0.3, dtype=torch.float64)
    options = {"x_weights": a, "y_weights": b, "signed": True}
    exact = fo.sliced_mmd(x, y, method="exact", **options)
    assert float(fo.sliced_mmd(x, y, num_slices=512, **options)) == pytest.approx(float(exact), rel=1e-3)


def test_layouts_do_not_matter():
    x, y = normal(20, 6), normal(15, 6, seed=1)
    rows = mmd.make_directions(6, 8, generator=seeded())
    a = torch.full((20,), 0.05)
    want = both(x, y, directions=rows, x_weights=a)
    strided = torch.stack([x, x + 1], -1)[..., 0]
    assert not strided.is_contiguous()
    other_rows = rows.t().contiguous().t()
    got = both(strided, y.t().contiguous().t(), directions=other_rows, x_weights=torch.tensor(0.05).expand(20))
    for left, right in zip(got, want, strict=True):
        assert torch.equal(left, right)
    single = x[:1].expand(20, 6)
    torch.testing.assert_close(
        fo.sliced_mmd(single, y, directions=rows), fo.sliced_mmd(single.contiguous(), y, directions=rows)
    )


def test_results_repeat_bitwise():
    x, y = normal(333, 40), normal(222, 40, seed=1)
    for slices in ("orthogonal", "hadamard"):
        first, second = (both(x, y, slices=slices, generator=seeded()) for _ in range(2))
        for left, right in zip(first, second, strict=True):
            assert torch.equal(left, right)


def test_a_walk_of_many_blocks_is_a_walk_of_one(monkeypatch):
    from fastcore_ops.mmd import _walk

    x, y = normal(50, 70, dtype=torch.float64), normal(40, 70, seed=1, dtype=torch.float64)
    for slices in ("gaussian", "hadamard"):
        whole = both(x, y, slices=slices, num_slices=200, generator=seeded())
        with monkeypatch.context() as patch:
            patch.setattr(_walk, "_BLOCK_ELEMENTS", 1)
            patch.setattr(_walk, "_CHUNK", 16)
            cut = both(x, y, slices=slices, num_slices=200, generator=seeded())
        for left, right in zip(whole, cut, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-14)
    assert _walk.pieces(17, 10**9) == [(0, 8), (8, 17)]
    assert _walk.pieces(1, 10**9) == [(0, 1)]


@pytest.mark.parametrize("chunk", [16, 2048])
def test_transforms_walk_together_as_one_by_one(monkeypatch, chunk):
    """As on a GPU: short transforms share a block of slices, and nothing comes out otherwise."""
    from fastcore_ops.mmd import _slices, _walk

    monkeypatch.setattr(_walk, "_MOST_BLOCK", 300)
    monkeypatch.setattr(_walk, "_CHUNK", chunk)
    x, y, shift = normal(50, 70), normal(40, 70, seed=1), normal(1, 70, seed=2)
    drawn = _slices.draw(70, 600, "hadamard", seeded(), torch.float32, torch.device("cpu"))

    def walked(slices, groups):
        blocks, seen = [], []

        def visit(start, stop, tx, ty):
            blocks.append((start, stop))
            seen.append(torch.cat((tx, ty), 1))
            return tx.square(), ty.abs()

        monkeypatch.setattr(_walk, "_groups", groups)
        grads = _walk.walk(slices, x, y, shift, visit, (True, True), None)
        return blocks, (torch.cat(seen), *grads)

    apart = _walk._groups
    together = lambda parts, columns, on_gpu: apart(parts, columns, True)  # noqa: E731
    for slices in (drawn, drawn.between(5, 590), drawn.select(torch.arange(0, 600, 2))):
        (each, want), (shared, got) = walked(slices, apart), walked(slices, together)
        assert each[-1][1] == shared[-1][1] == slices.count
        assert len(shared) < len(each) == len(slices.transforms)
        assert all(stop - start <= 300 for start, stop in shared)
        assert torch.equal(got[0], want[0])
        for left, right in zip(got[1:], want[1:], strict=True):  # sums over transforms, in groups
            torch.testing.assert_close(left, right, rtol=0, atol=1e-6 * float(right.abs().max()))


def test_memory_is_that_of_a_block(monkeypatch):
    """No buffer of the walk holds more than a block of slices."""
    from fastcore_ops.mmd import _walk

    largest = 0
    empty = torch.Tensor.new_empty

    def spied(self, *shape, **options):
        nonlocal largest
        made = empty(self, *shape, **options)
        largest = max(largest, made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, "new_empty", spied)
    x, y = normal(4000, 5), normal(4000, 5, seed=1)
    fo.sliced_mmd_grad(x, y, num_slices=3000)
    assert 0 < largest <= _walk._BLOCK_ELEMENTS < 3000 * 4000


EMPTY = {
    "exact": lambda x, y: fo.sliced_mmd(x, y, method="exact"),
    "sliced": lambda x, y: fo.sliced_mmd(x, y, method="sliced"),
    "gaussian": lambda x, y: fo.sliced_mmd(x, y, kernel="gaussian", num_slices=8),
    "given bandwidth": lambda x, y: fo.sliced_mmd(x, y, kernel="gaussian", bandwidth=1.0, num_slices=8),
    "target": lambda x, y: fo.sliced_mmd(x, mmd.SlicedTarget(torch.ones(6, 5))),
    "weights": lambda x, y: fo.sliced_mmd(x, y, x_weights=torch.full((4,), 0.25), num_slices=8),
    "wasserstein": mmd.sliced_wasserstein,
    "energy": mmd.energy_distance,
    "divergence": mmd.cauchy_schwarz_divergence,
    "information": lambda x, y: mmd.cauchy_schwarz_mutual_information(x, y[:, :, :4]),
}


@pytest.mark.parametrize("call", EMPTY.values(), ids=EMPTY)
def test_a_batch_without_elements_has_no_values_and_gradients_without_elements(call):
    x, y = torch.ones(0, 3, 4, 5, requires_grad=True), torch.ones(0, 1, 6, 5, requires_grad=True)
    value = call(x, y)
    assert value.shape == (0, 3)
    value.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("method", ["exact", "sliced"])
def test_the_gradient_over_a_batch_without_elements(method):
    assert fo.sliced_mmd_grad(torch.ones(0, 4, 5), torch.ones(6, 5), method=method).shape == (0, 4, 5)
    shared = fo.sliced_mmd_grad(torch.ones(4, 5), torch.ones(0, 6, 5), method=method)  # a sum of nothing
    assert torch.equal(shared, torch.zeros(4, 5))
