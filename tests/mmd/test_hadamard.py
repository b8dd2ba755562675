"""Random Hadamard projections: the matrix they are, and what slicing by them gives."""

import pytest
import torch

from . import rank_problems as problems

pytestmark = pytest.mark.native


@pytest.fixture(params=["cpp", "reference"])
def hadamard(request, require):
    require(request.param)
    return problems.operator("mmd_hadamard", request.param)


def draw_signs(depth, generator, dtype=torch.float64):
    return (2 * torch.randint(0, 2, (3, depth), generator=generator) - 1).to(dtype)


def sylvester(depth):
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < depth:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), matrix)
    return matrix


def dense(signs):
    depth, transform = signs.shape[1], sylvester(signs.shape[1])
    return transform @ (signs[2, :, None] * transform) @ (signs[1, :, None] * transform) * signs[0] / depth**1.5


@pytest.mark.parametrize("depth", [1, 2, 8, 32, 64, 256, 512, 1024])
def test_is_the_matrix(hadamard, depth, dtype):
    generator = torch.Generator().manual_seed(depth)
    signs = draw_signs(depth, generator, dtype)
    matrix = dense(signs.double())
    d, size, points = max(1, depth * 3 // 4), max(1, depth - 5), 150 if depth < 500 else 21
    x = torch.randn(points, d, generator=generator, dtype=torch.float64).to(dtype)
    slices = torch.randn(size, points, generator=generator, dtype=torch.float64).to(dtype)
    scale = 40 * torch.finfo(dtype).eps
    forward = matrix[:size, :d] @ x.double().t()
    back = slices.double().t() @ matrix[:size, :d]
    torch.testing.assert_close(
        hadamard(x, signs, size, False).double(), forward, rtol=0, atol=scale * float(x.abs().max())
    )
    torch.testing.assert_close(
        hadamard(slices, signs, d, True).double(), back, rtol=0, atol=scale * float(slices.norm(dim=0).max())
    )


def test_one_pass_above_the_radix(require):
    """D = 8192: two stages of butterflies beyond the blocks. The rows are orthonormal, so that the transpose undoes them."""
    require("cpp")
    hadamard = problems.operator("mmd_hadamard")
    generator = torch.Generator().manual_seed(1)
    signs = draw_signs(8192, generator)
    x = torch.randn(17, 8192, generator=generator, dtype=torch.float64)
    projected = hadamard(x, signs, 8192, False)
    torch.testing.assert_close(projected.norm(dim=0), x.norm(dim=1), rtol=1e-13, atol=0)
    torch.testing.assert_close(hadamard(projected, signs, 8192, True), x, rtol=0, atol=1e-13)
    few = problems.operator("mmd_hadamard", "reference")(x, signs, 70, False)
    torch.testing.assert_close(hadamard(x, signs, 70, False), few, rtol=0, atol=1e-13)


def test_a_row_does_not_depend_on_its_place(hadamard, dtype):
    generator = torch.Generator().manual_seed(2)
    signs = draw_signs(128, generator, dtype)
    x = torch.randn(151, 100, generator=generator, dtype=torch.float64).to(dtype)
    order = torch.randperm(151, generator=generator)
    assert torch.equal(hadamard(x, signs, 128, False)[:, order], hadamard(x[order].contiguous(), signs, 128, False))


def test_backward_is_the_transpose(hadamard):
    generator = torch.Generator().manual_seed(3)
    signs = draw_signs(256, generator)
    x = torch.randn(37, 200, generator=generator, dtype=torch.float64)
    slices = torch.randn(99, 37, generator=generator, dtype=torch.float64)
    left = (hadamard(x, signs, 99, False) * slices).sum()
    right = (hadamard(slices, signs, 200, True) * x).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_a_large_point_does_not_overflow(hadamard):
    """No sum on the way is larger than the point is long."""
    signs = draw_signs(1024, torch.Generator().manual_seed(4), torch.float32)
    x = torch.full((3, 1024), 1e36)
    assert bool(hadamard(x, signs, 1024, False).isfinite().all())


def test_a_point_that_is_not_finite_spoils_itself_alone(hadamard):
    generator = torch.Generator().manual_seed(5)
    signs = draw_signs(64, generator)
    x = torch.randn(40, 64, generator=generator, dtype=torch.float64)
    clean = hadamard(x, signs, 64, False)
    x[7, 3] = torch.nan
    found = hadamard(x, signs, 64, False)
    assert bool(found[:, 7].isnan().all())
    others = torch.arange(40) != 7
    assert torch.equal(found[:, others], clean[:, others])


def test_slicing_by_hadamard_rows_is_unbiased(hadamard):
    """The mean over signs of |<row, v>| times c_{D,1} is |v|, one-hot differences too: one diagonal would be 25 % off."""
    depth, generator = 64, torch.Generator().manual_seed(6)
    constant = torch.exp(
        0.5 * torch.tensor(torch.pi).log()
        + torch.lgamma(torch.tensor((depth + 1) / 2))
        - torch.lgamma(torch.tensor(depth / 2))
    )
    v = torch.zeros(3, depth, dtype=torch.float64)
    v[0, 5] = 1
    v[1] = depth**-0.5
    v[2] = torch.nn.functional.normalize(torch.randn(depth, generator=generator, dtype=torch.float64), dim=0)
    total = torch.zeros(3, dtype=torch.float64)
    for _ in range(400):
        total += hadamard(v, draw_signs(depth, generator), depth, False).abs().mean(0)
    torch.testing.assert_close(total / 400 * constant, torch.ones(3, dtype=torch.float64), rtol=0.01, atol=0)
