"""Sorting slices once, ranking against them, and the two relatives: permuted labels and Wasserstein distances."""

import pytest
import torch

from . import rank_problems as problems

pytestmark = pytest.mark.native


@pytest.fixture(params=["cpp", "reference"])
def pick(request, require):
    require(request.param)
    return lambda name: problems.operator(name, request.param)


@pytest.mark.parametrize("law", problems.LAWS)
@pytest.mark.parametrize("n", [1, 63, 64, 1000, 7000])
def test_sort(pick, law, n, dtype):
    generator = torch.Generator().manual_seed(n)
    y = problems.sample(law, 2, n, generator, dtype)
    weights = torch.rand(2, n, generator=generator, dtype=torch.float64)
    points, cumulative = pick("mmd_sort")(y, weights)
    want = y.sort(dim=1, stable=True)
    assert torch.equal(points, want.values)
    torch.testing.assert_close(cumulative[:, 1:], weights.gather(1, want.indices).cumsum(1), rtol=1e-12, atol=0)
    assert not cumulative[:, 0].any()
    assert pick("mmd_sort")(y, None)[1].shape == (0,)


def test_sort_of_neighbouring_doubles(require):
    """Keys that agree in their upper halves, in short and in long runs."""
    require("cpp")
    generator = torch.Generator().manual_seed(1)
    for n in (50, 900, 5000):
        y = 1.0 + 2.0**-52 * torch.randint(0, n, (2, n), generator=generator, dtype=torch.int64).double()
        assert torch.equal(problems.operator("mmd_sort")(y, None)[0], y.sort(dim=1).values)


@pytest.mark.parametrize("law", problems.LAWS)
@pytest.mark.parametrize("weighted", [False, True])
def test_ranks_against_a_sorted_side(pick, law, weighted, dtype):
    generator = torch.Generator().manual_seed(2)
    x, y = problems.sample(law, 3, 310, generator, dtype), problems.sample(law, 3, 270, generator, dtype)
    a, b = (torch.rand(size, generator=generator, dtype=torch.float64) if weighted else None for size in (310, 270))
    points, cumulative = pick("mmd_sort")(y, b)
    outputs = 13 if law != "range" or dtype == torch.float32 else 5
    found = pick("mmd_rank_sorted")(x, points, a, cumulative if weighted else None, False, outputs)
    grad_x, _, value, potential_x, _ = pick("mmd_rank")(x, y, a, b, False, outputs)
    for got, want in zip(found, (grad_x, value, potential_x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6 if got.dtype == torch.float32 else 1e-10, atol=1e-300)


def test_permutation_agrees_with_ranks(pick, dtype):
    generator = torch.Generator().manual_seed(3)
    z = problems.sample("ties", 4, 90, generator, dtype)
    labels = torch.stack([torch.randperm(90, generator=generator) < 37 for _ in range(70)])
    found = pick("mmd_permutation")(z, labels.to(torch.uint8))
    for b in (0, 1, 63, 64, 69):
        split = (z[:, labels[b]].contiguous(), z[:, ~labels[b]].contiguous())
        want = problems.operator("mmd_rank", "reference")(*split, None, None, False, 4)[2]
        torch.testing.assert_close(found[:, b], want, rtol=1e-12, atol=0)


def test_equal_labels_give_equal_bits(pick):
    """An observed labelling that turns up among the permutations ties with itself exactly."""
    generator = torch.Generator().manual_seed(4)
    z = problems.sample("normal", 3, 200, generator)
    one = (torch.randperm(200, generator=generator) < 80).to(torch.uint8)
    found = pick("mmd_permutation")(z, one.expand(130, -1).contiguous())
    assert torch.equal(found, found[:, :1].expand_as(found))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (40, 40), (30, 45), (7, 100), (13, 1)])
def test_wasserstein_against_repeated_points(pick, p, n, m):
    """Both samples repeated to a common size: sorted differences, and autograd through them."""
    generator = torch.Generator().manual_seed(5)
    x, y = (problems.sample("normal", 3, size, generator, torch.float64).requires_grad_() for size in (n, m))
    many_x, many_y = (side.repeat_interleave(times, 1).sort(1).values for side, times in ((x, m), (y, n)))
    want = (many_x - many_y).abs().pow(p).mean(1)
    grads = torch.autograd.grad(want.sum(), (x, y))
    found = pick("mmd_wasserstein")(x.detach(), y.detach(), p, 7)
    for got, expected in zip(found, (*grads, want), strict=True):
        torch.testing.assert_close(got, expected.detach(), rtol=1e-12, atol=1e-14)


def test_wasserstein_of_equal_samples_is_zero(pick, dtype):
    generator = torch.Generator().manual_seed(6)
    x = problems.sample("ties", 2, 500, generator, dtype)
    y = x[:, torch.randperm(500, generator=generator)].contiguous()
    for p in (1.0, 2.0, 2.5):
        assert not any(output.any() for output in pick("mmd_wasserstein")(x, y, p, 7))


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf])
def test_slices_that_are_not_finite(pick, spoil, dtype):
    generator = torch.Generator().manual_seed(7)
    z = problems.sample("normal", 3, 90, generator, dtype)
    z[1, 40] = spoil
    labels = torch.stack([torch.randperm(90, generator=generator) < 30 for _ in range(3)]).to(torch.uint8)
    found = [pick("mmd_permutation")(z, labels), *pick("mmd_wasserstein")(z, z[:, :50].contiguous(), 2.0, 7)]
    points, _ = pick("mmd_sort")(z, None)
    found += pick("mmd_rank_sorted")(z[[0, 2, 2]].contiguous(), points, None, None, False, 13)
    for output in found:
        assert bool(output[1].isnan().all())
        assert bool(output[[0, 2]].isfinite().all())
