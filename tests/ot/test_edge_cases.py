"""Inputs at the edge: empty sides, forbidden pairs, scales, offsets, tiny and huge regularisation."""

import math

import pytest
import torch

import fastcore_ops as fo

from .problems import assignment, even, far_clouds, l1_grid, l2_grid, quiet, random_problem, true_error, uniform

METHODS = ("auto", "newton", "sinkhorn")
UNIT = {torch.float64: 1.1e-16, torch.float32: 6e-8}


# Masses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["matrix", "transposed", "points"])
def test_zero_masses_give_exact_zeros_and_finite_potentials(source):
    x, y, a, b = far_clouds(14, 11)
    if source == "transposed":
        x, y, a, b = y, x, b, a
    a[[0, 4]] = b[[2, 5, 6]] = 0
    a, b, reg = a / a.sum(), b / b.sum(), 0.05
    cost = (x[:, None] - y).square().sum(2)
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, y) if source == "points" else cost, a, b, reg=reg, tol=1e-12)
    plan = result.plan()
    assert (plan[a == 0] == 0).all() and (plan[:, b == 0] == 0).all()
    assert (result.plan_sparse(0.0).to_dense()[a == 0] == 0).all()
    assert (result.apply(torch.ones_like(b))[a == 0] == 0).all()
    assert true_error(result, a, b) < 2e-12
    # where there is no mass: the c-transform of the other side
    f = -reg * torch.logsumexp(b.log() + (result.g - cost) / reg, dim=1)
    g = -reg * torch.logsumexp(a.log()[:, None] + (result.f[:, None] - cost) / reg, dim=0)
    torch.testing.assert_close(result.f, f, rtol=0, atol=1e-11)
    torch.testing.assert_close(result.g, g, rtol=0, atol=1e-11)


def test_all_mass_on_one_pair():
    cost = uniform(5, 6)
    a, b = torch.zeros(5).double(), torch.zeros(6).double()
    a[3] = b[1] = 2.0
    result = fo.sinkhorn_newton(cost, a, b, reg=0.1)
    assert (
        result.converged
        and float(result.plan()[3, 1]) == pytest.approx(2, rel=1e-14)
        and result.plan().count_nonzero() == 1
    )
    assert result.f.isfinite().all() and result.g.isfinite().all()


@pytest.mark.parametrize("mass", [1e-12, 1e-3, 7.0, 1e9])
def test_unnormalised_masses_scale_the_plan(mass):
    cost, a, b = random_problem(12, 15)
    reg = 0.05
    unit = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-13)
    scaled = fo.sinkhorn_newton(cost, mass * a, mass * b, reg=reg, tol=1e-13)
    torch.testing.assert_close(scaled.plan(), mass * unit.plan(), rtol=1e-9, atol=1e-14 * mass)
    value = mass * float(unit.value) + reg * (mass**2 - mass - mass * math.log(mass))
    assert float(scaled.value) == pytest.approx(value, rel=1e-11)
    assert scaled.marginal_error <= 1e-13
    plan = (mass * a)[:, None] * (mass * b) * ((scaled.f[:, None] + scaled.g - cost) / reg).exp()
    torch.testing.assert_close(scaled.plan(), plan, rtol=1e-9, atol=1e-14 * mass)
    assert abs(float(torch.dot(b, scaled.g))) < 1e-12


def test_slightly_unequal_masses_rescale_b():
    cost, a, b = random_problem(8, 9)
    result = fo.sinkhorn_newton(cost, a, b * (1 + 5e-7), reg=0.1, tol=1e-12)
    torch.testing.assert_close(result.plan().sum(), a.sum(), rtol=1e-11, atol=0)
    torch.testing.assert_close(result.plan().sum(0), b, rtol=1e-10, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [1 / 20, 1 / 1000])
def test_masses_over_thirty_orders(share, method):
    cost = uniform(16, 18)
    a, b = 10.0 ** torch.linspace(-30, 0, 16).double(), 10.0 ** torch.linspace(0, -30, 18).double()
    a, b = a / a.sum(), b / b.sum()
    result = fo.sinkhorn_newton(cost, a, b, reg=share, tol=1e-10, method=method)
    assert result.converged
    assert result.plan().isfinite().all() and result.f.isfinite().all() and result.g.isfinite().all()
    assert true_error(result, a, b) < 1.1e-10


# Forbidden pairs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reg", [0.2, 1e-3])
def test_forbidden_pairs_stay_empty(method, reg):
    cost = uniform(20, 24)
    allowed = (torch.arange(20)[:, None] - torch.arange(24)).abs() <= 8
    cost = cost.masked_fill(~allowed, torch.inf)
    a, b = even(20), even(24)
    result = quiet(fo.sinkhorn_newton, cost, a, b, reg=reg, tol=1e-9, method=method, max_passes=2000)
    assert result.converged or (method == "sinkhorn" and reg < 0.1 and result.status == "max_passes")
    assert true_error(result, a, b) < max(1.1e-9, 1.001 * result.marginal_error)
    assert (result.plan()[~allowed] == 0).all()
    assert result.linear_cost.isfinite() and result.value.isfinite() and result.dual_value.isfinite()


@pytest.mark.parametrize("method", METHODS)
def test_infeasible_pattern_is_told(method):
    """Rows 1 and 2 may only use column 0, which cannot take both."""
    cost = torch.tensor([[1.0, 2, 3], [1, torch.inf, torch.inf], [1, torch.inf, torch.inf]], dtype=torch.float64)
    with pytest.warns(fo.ConvergenceWarning, match="infeasible_or_stalled"):
        result = fo.sinkhorn_newton(cost, reg=0.5, method=method)
    assert not result.converged and result.status == "infeasible_or_stalled"
    assert result.marginal_error > 0.1
    for value in (result.f, result.g, result.plan(), result.value, result.linear_cost, result.dual_value):
        assert value.isfinite().all()
    assert result.n_passes < 10_000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_feasible_without_interior_is_never_falsely_converged(tol, method):
    """C = [[0, inf], [0, 0]]: the only plan is diagonal, the potentials run away, Sinkhorn converges like 1 / (2 t + 1)."""
    cost = torch.tensor([[0.0, torch.inf], [0.0, 0.0]], dtype=torch.float64)
    a = torch.tensor([0.5, 0.5], dtype=torch.float64)
    result = quiet(fo.sinkhorn_newton, cost, a, a, reg=1.0, tol=tol, method=method, max_passes=3000)
    error = true_error(result, a, a)
    assert error == pytest.approx(result.marginal_error, rel=1e-6, abs=1e-15)
    assert result.converged == (error <= tol)
    assert result.plan().isfinite().all() and result.f.isfinite().all() and result.g.isfinite().all()
    if tol == 1e-2:
        assert result.converged


# Sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_one_row_or_column_is_solved_at_once(shape, method):
    cost, a, b = random_problem(*shape)
    result = fo.sinkhorn_newton(10 * cost, a, b, reg=1e-3, tol=1e-12, method=method)
    assert result.converged and result.n_passes <= 3
    torch.testing.assert_close(result.plan(), a[:, None] * b, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.value, (10 * cost * a[:, None] * b).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e6])
def test_constant_cost_gives_the_product(constant):
    a, b = random_problem(7, 5)[1:]
    result = fo.sinkhorn_newton(torch.full((7, 5), constant, dtype=torch.float64), a, b, reg=0.01)
    assert result.converged and result.n_passes <= 3
    torch.testing.assert_close(result.plan(), a[:, None] * b, rtol=1e-14, atol=0)
    assert float(result.value) == pytest.approx(constant, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 40), (40, 2), (9, 8), (16, 17), (65, 1030)])
def test_odd_shapes(shape):
    cost, a, b = random_problem(*shape)
    result = fo.sinkhorn_newton(cost, a, b, reg=0.02, tol=1e-11)
    assert result.converged and true_error(result, a, b) < 1.2e-11


# Ties and symmetry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_duplicate_points(metric):
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, x, metric), reg=0.05, tol=1e-12)
    plan = result.plan()
    assert result.converged
    torch.testing.assert_close(plan[0], plan[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(plan[:, 2], plan[:, 3], rtol=1e-10, atol=0)
    torch.testing.assert_close(plan, plan.t(), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("make", [l1_grid, l2_grid])
def test_tied_costs_are_permutation_equivariant(make):
    cost, a, b = make(6)
    reg = float(cost.max()) / 500
    rows, cols = torch.randperm(36, generator=torch.Generator().manual_seed(1)), torch.arange(35, -1, -1)
    straight = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-12)
    shuffled = fo.sinkhorn_newton(cost[rows][:, cols], a[rows], b[cols], reg=reg, tol=1e-12)
    assert straight.converged and shuffled.converged
    torch.testing.assert_close(shuffled.plan(), straight.plan()[rows][:, cols], rtol=1e-5, atol=2e-12)
    torch.testing.assert_close(shuffled.value, straight.value, rtol=1e-11, atol=0)


def test_many_equal_costs():
    cost = torch.randint(0, 3, (30, 30), generator=torch.Generator().manual_seed(0)).double()
    result = fo.sinkhorn_newton(cost, reg=2 / 1000, tol=1e-11)
    assert result.converged and true_error(result, even(30), even(30)) < 1.1e-11


# Scales and offsets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-12, 1e12, 1e-200])
def test_scale_of_the_cost_does_not_matter(factor):
    cost, a, b = random_problem(20, 18)
    plain = fo.sinkhorn_newton(cost, a, b, reg=2e-3, tol=1e-12)
    scaled = fo.sinkhorn_newton(factor * cost, a, b, reg=factor * 2e-3, tol=1e-12)
    torch.testing.assert_close(scaled.plan(), plain.plan(), rtol=1e-7, atol=1e-13)
    torch.testing.assert_close(scaled.value, factor * plain.value, rtol=1e-10, atol=0)


@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_offset_of_the_cost_does_not_matter(offset):
    cost, a, b = random_problem(20, 18)
    rounded = (cost + offset) - offset  # what survives in the input
    plain = fo.sinkhorn_newton(rounded, a, b, reg=2e-3, tol=1e-12)
    moved = fo.sinkhorn_newton(cost + offset, a, b, reg=2e-3, tol=1e-12)
    assert moved.converged
    torch.testing.assert_close(moved.plan(), plain.plan(), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(moved.value - offset, plain.value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_row_and_column_offsets_do_not_matter(offset):
    cost, a, b = random_problem(20, 18)
    heap = offset * (uniform(20, 1, seed=5) + uniform(1, 18, seed=6))
    plain = fo.sinkhorn_newton(cost, a, b, reg=1 / 1200, tol=1e-9)
    moved = fo.sinkhorn_newton(cost + heap, a, b, reg=1 / 1200, tol=1e-9)
    assert moved.converged
    torch.testing.assert_close(moved.plan(), plain.plan(), rtol=0, atol=1e-6 * float(plain.plan().max()))


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_offset_of_the_points_does_not_matter(offset):
    x, y, a, b = far_clouds(20, 18)
    x, y = ((t * 1024).round() / 1024 for t in (x, y))  # so that the offset is exact
    plain = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=0.02, tol=1e-11)
    moved = fo.sinkhorn_newton(fo.ot.PointCloud(x + offset, y + offset), a, b, reg=0.02, tol=1e-11)
    torch.testing.assert_close(moved.plan(), plain.plan(), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(moved.value, plain.value, rtol=1e-7, atol=0)


def test_clouds_far_apart():
    """Squared distances of 1e8 with structure of 1: each cloud is centred on its own mean."""
    x, y, a, b = far_clouds(20, 18)
    x, y = ((t * 1024).round() / 1024 for t in (x, y))
    plain = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=0.02, tol=1e-11)
    apart = fo.sinkhorn_newton(fo.ot.PointCloud(x, y + 10_000), a, b, reg=0.02, tol=1e-11)
    assert apart.converged
    torch.testing.assert_close(apart.plan(), plain.plan(), rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("share", [1e-6, 1e-5, 1e-4, 1e-2, 1.0, 1e3, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("problem", ["assignment", "random", "l1_grid"])
def test_any_reg_converges_or_meets_the_floor(problem, dtype, share):
    """From a millionth to a thousand times the range: tol, or precision_limit within 100 x of the floor 0.2 u range / reg."""
    cost, a, b = {"assignment": assignment(25), "random": random_problem(20, 26), "l1_grid": l1_grid(5)}[problem]
    cost = cost.to(dtype)
    reg = share * float(cost.max() - cost.min())
    tol = 1e-9 if dtype == torch.float64 else 1e-6
    result = quiet(fo.sinkhorn_newton, cost, a, b, reg=reg, tol=tol)
    floor = 0.2 * UNIT[dtype] / share
    assert result.converged or (result.status == "precision_limit" and result.marginal_error <= 100 * floor), result
    assert true_error(result, a, b) <= 1.1 * max(tol, result.marginal_error) + 40 * UNIT[dtype]
    assert result.value.isfinite() and result.f.isfinite().all() and result.g.isfinite().all()
    if share >= 1e3:
        assert result.n_passes <= 3


@pytest.mark.parametrize("reg", [0.1, 1e-3])
def test_a_tolerance_below_rounding_ends_at_the_precision_limit(reg):
    cost, a, b = random_problem(20, 30)
    result = quiet(fo.sinkhorn_newton, cost, a, b, reg=reg, tol=1e-17)
    assert result.status == "precision_limit" or result.marginal_error <= 1e-17
    assert result.marginal_error < 1e-14


def test_both_potentials_of_a_start_are_checked():
    cost, a, b = random_problem(6, 9)
    good = torch.zeros(6, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    for f, g, name in (
        (good[0][1:], good[1], "f"),
        (good[0], good[1] * float("nan"), "g"),
        (good[0], good[1][:, None], "g"),
    ):
        with pytest.raises(ValueError, match=f"`init` with `{name}`"):
            fo.sinkhorn_newton(cost, a, b, reg=0.1, init=(f, g))
    with pytest.raises(TypeError, match="`init`"):
        fo.sinkhorn_newton(cost, a, b, reg=0.1, init=(good[0].to(torch.complex128), good[1]))
    with pytest.raises(TypeError, match="`callback`"):
        fo.sinkhorn_newton(cost, a, b, reg=0.1, callback=3)
