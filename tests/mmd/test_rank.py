"""Energy distances of projections: exact ranks, values, gradients in points and weights."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from . import rank_problems as problems

pytestmark = pytest.mark.native
BACKENDS = ("cpp", "reference")


@pytest.fixture(params=BACKENDS)
def rank(request, require):
    require(request.param)
    return problems.operator("mmd_rank", request.param)


def row(*numbers, dtype=torch.float64):
    return torch.tensor([numbers], dtype=dtype)


def test_golden_values(rank, dtype):
    x, y = row(0, 1, 3, dtype=dtype), row(2, 2, 5, dtype=dtype)
    grad_x, _, value, _, _ = rank(x, y, None, None, False, problems.ALL)
    assert torch.equal(grad_x, (row(-1, -3, -1) / 9).to(dtype))
    assert value.item() == pytest.approx(7 / 9, rel=1e-15)
    assert rank(x, y, None, None, True, problems.ALL)[2].item() == pytest.approx(1 / 9, rel=1e-14)


def test_golden_values_weighted(rank):
    a, b = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.6, 0.4]).double()
    grad_x, _, value, _, _ = rank(row(0, 1, 3), row(2, 5), a, b, False, problems.ALL)
    torch.testing.assert_close(grad_x, row(-0.04, -0.21, -0.15), rtol=1e-6, atol=0)
    assert value.item() == pytest.approx(0.62, rel=1e-6)


def test_golden_ties(rank):
    grad_x, _, value, _, _ = rank(row(0, 0, 1), row(0, 1, 1), None, None, False, problems.ALL)
    assert torch.equal(grad_x, row(-1, -1, -1) / 9)
    assert value.item() == pytest.approx(1 / 9, rel=1e-15)


@pytest.mark.parametrize("law", problems.LAWS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 40), (330, 290)])
def test_ranks_are_exact(rank, law, n, m, dtype):
    """Both gradients are the integer numerator, rounded: not one count is wrong, whatever the law."""
    generator = torch.Generator().manual_seed(n + m)
    x, y = problems.sample(law, 2, n, generator, dtype), problems.sample(law, 2, m, generator, dtype)
    want_x, want_y = problems.gradient(x, y), problems.gradient(y, x)
    for outputs in (1, 3, 7):
        grad_x, grad_y = rank(x, y, None, None, False, outputs)[:2]
        for got, want in ((grad_x, want_x), (grad_y, want_y))[: 1 + (outputs > 1)]:
            assert bool(((got - want).abs() <= 2 * torch.finfo(dtype).eps * want.abs()).all())


@pytest.mark.parametrize("law", problems.LAWS)
@pytest.mark.parametrize(("n", "m"), [(3200, 40), (40, 3200), (1100, 1900)])
def test_long_slices_agree_with_the_reference(law, n, m, dtype, require):
    """Bits of the gradients: the same numerators, rounded in float64 alike."""
    require("cpp")
    generator = torch.Generator().manual_seed(n)
    x, y = problems.sample(law, 2, n, generator, dtype), problems.sample(law, 2, m, generator, dtype)
    for unbiased in (False, True):
        found, want = (problems.operator("mmd_rank", name)(x, y, None, None, unbiased, 3)[:2] for name in BACKENDS)
        for got, truth in zip(found, want, strict=True):
            torch.testing.assert_close(got, truth, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("law", problems.LAWS)
@pytest.mark.parametrize("n", [1, 3, 50, 900])
def test_equal_samples_in_any_order_have_gradient_zero(rank, law, n, dtype):
    generator = torch.Generator().manual_seed(n)
    x = problems.sample(law, 3, n, generator, dtype)
    y = x[:, torch.randperm(n, generator=generator)].contiguous()
    outputs = 7 if law == "range" else problems.ALL  # potentials of 1e38 overflow nothing, but are not asked here
    for grad in rank(x, y, None, None, False, outputs)[:3]:
        assert not grad.any()


def test_equal_weighted_samples_have_gradient_zero(rank):
    generator = torch.Generator().manual_seed(3)
    x = problems.sample("normal", 3, 500, generator)
    weights = torch.rand(500, generator=generator, dtype=torch.float64)
    order = torch.randperm(500, generator=generator)
    found = rank(x, x[:, order].contiguous(), weights, weights[order].contiguous(), False, problems.ALL)
    assert not any(output.any() for output in found)


@pytest.mark.parametrize("n", [40, 500])
def test_zero_weight_has_no_influence(rank, n):
    generator = torch.Generator().manual_seed(4)
    x, y = (problems.sample("normal", 2, n, generator) for _ in range(2))
    a, b = torch.full((n,), 1 / n, dtype=torch.float64), torch.full((n,), 1 / n, dtype=torch.float64)
    more = torch.cat([x, torch.full((2, 1), 0.2)], 1)
    with_more = rank(more, y, torch.cat([a, a.new_zeros(1)]), b, False, problems.ALL)
    without = rank(x, y, a, b, False, problems.ALL)
    assert not with_more[0][:, -1].any()
    torch.testing.assert_close(with_more[0][:, :-1], without[0])
    torch.testing.assert_close(with_more[2], without[2], rtol=1e-13, atol=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unbiased", [False, True])
def test_against_all_distances(rank, weighted, unbiased):
    """Value, and gradients in points and weights, as autograd finds them."""
    if weighted and unbiased:
        pytest.skip("the U-statistic has uniform weights")
    generator = torch.Generator().manual_seed(5)
    n, m = 60, 41
    x, y = (problems.sample("ties", 3, size, generator, torch.float64).requires_grad_() for size in (n, m))
    a, b = (torch.full((3, size), 1 / size, dtype=torch.float64) for size in (n, m))
    if weighted:  # signed, totals differ
        a, b = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (n, m))
    a, b = a.requires_grad_(), b.requires_grad_()
    own = (n / (n - 1), m / (m - 1)) if unbiased else (1.0, 1.0)
    value = problems.value(x, y, a, b, *own)
    grad_x, grad_y, by_a, by_b = torch.autograd.grad(value.sum(), (x, y, a, b))
    weights = (a.detach(), b.detach()) if weighted else (None, None)
    found = rank(x.detach(), y.detach(), *weights, unbiased, problems.ALL)
    for got, want in zip(found, (grad_x, grad_y, value, by_a, by_b), strict=True):
        torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=1e-13 * float(want.detach().abs().max()))


@pytest.mark.parametrize("outputs", [0, 1, 2, 4, 8, 16, 5, 12, 20, 27])
def test_what_is_not_wanted_is_empty(rank, outputs):
    generator = torch.Generator().manual_seed(6)
    x, y = problems.sample("normal", 2, 30, generator), problems.sample("normal", 2, 20, generator)
    every = rank(x, y, None, None, False, problems.ALL)
    for bit, (got, want) in enumerate(zip(rank(x, y, None, None, False, outputs), every, strict=True)):
        assert got.dtype == want.dtype
        if outputs >> bit & 1:
            torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
        else:
            assert got.shape == (0,)


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("n", [1, 20, 300])
def test_a_slice_that_is_not_finite_is_nan_alone(rank, spoil, n, dtype):
    generator = torch.Generator().manual_seed(7)
    x, y = problems.sample("normal", 3, n, generator, dtype), problems.sample("normal", 3, n + 1, generator, dtype)
    clean = rank(x, y, None, None, False, problems.ALL)
    x[0, n // 2] = spoil
    y[2, n] = spoil
    for got, want in zip(rank(x, y, None, None, False, problems.ALL), clean, strict=True):
        assert bool(got[[0, 2]].isnan().all())
        assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-5, 1e-8])
def test_value_does_not_cancel(rank, gap):
    """Two samples that differ by a small shift of one point: D^2 by rational arithmetic."""
    generator = torch.Generator().manual_seed(8)
    x = problems.sample("normal", 1, 400, generator, torch.float64)
    y = x.clone()
    y[0, 17] += gap
    union = sorted([(Fraction(v), 1) for v in x[0].tolist()] + [(Fraction(v), -1) for v in y[0].tolist()])
    running, total = 0, Fraction(0)
    for (here, sign), (there, _) in pairwise(union):
        running += sign
        total += (there - here) * running**2
    found = rank(x, y, None, None, False, 7)[2].item()
    assert found == pytest.approx(float(total / 400**2), rel=1e-9)


def test_an_offset_costs_nothing(rank):
    generator = torch.Generator().manual_seed(9)
    x, y = ((8 * problems.sample("normal", 2, 900, generator, torch.float64)).round() / 8 for _ in range(2))
    near, far = (rank(x + shift, y + shift, None, None, False, 7) for shift in (0.0, 1e6))
    assert torch.equal(near[0], far[0])
    torch.testing.assert_close(near[2], far[2], rtol=1e-10, atol=0)


def test_counts_beyond_32_bits(require):
    """N M > 2^32: products of counts need more than an int32."""
    require("cpp")
    rank = problems.operator("mmd_rank")
    n = 70_000
    x = torch.arange(n, dtype=torch.float32)[None]
    grad_x, grad_y, value, _, _ = rank(x, x + n, None, None, False, 7)
    # x lies below y: G = 0, F = (2 i + 1) / 2 N
    want = -(2 * torch.arange(n, dtype=torch.float64) + 1) / n**2
    torch.testing.assert_close(grad_x[0].double(), want, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad_y[0].flip(0), -grad_x[0])
    # D^2 of uniform laws on [0, n) and [n, 2 n): E|X-Y| = n, E|X-X'| = (n - 1/n) / 3
    assert value.item() == pytest.approx(n - (n - 1 / n) / 3, rel=1e-12)


@pytest.mark.isa
@pytest.mark.parametrize("law", ["normal", "ties", "cauchy"])
def test_threads_give_the_same_bits(law, dtype, require):
    require("cpp")
    rank = problems.operator("mmd_rank")
    generator = torch.Generator().manual_seed(10)
    x, y = problems.sample(law, 40, 500, generator, dtype), problems.sample(law, 40, 700, generator, dtype)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(rank(x, y, None, None, False, problems.ALL))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(left, right) for left, right in zip(found[0], other, strict=True))
