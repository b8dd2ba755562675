"""How far float32 goes: what the difference g - C loses is kept, so the floor is that of the exponent itself."""

import pytest
import torch

import fastcore_ops as fo

from .problems import assignment, far_clouds, l2_grid, quiet, random_problem, true_error

# Marginal error that float32 reaches, by range / reg: what the method page states.
FLOORS = {20: 3e-8, 100: 5e-8, 1200: 1e-7, 10_000: 1e-6}
PROBLEMS = {"assignment": assignment(60), "random": random_problem(50, 40), "l2_grid": l2_grid(7)}


@pytest.mark.parametrize("share", FLOORS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_float32_floor(name, share):
    cost, a, b = PROBLEMS[name]
    single = cost.float()
    reg = float(single.max() - single.min()) / share
    result = quiet(fo.sinkhorn_newton, single, a, b, reg=reg, tol=1e-11)
    assert result.status == "precision_limit"
    assert result.marginal_error <= FLOORS[share], f"{result.marginal_error:.2e}"
    assert result.plan().dtype == torch.float32
    plain = 0.2 * 6e-8 * share  # without the compensation
    if share >= 1200:
        assert result.marginal_error < plain / 5


@pytest.mark.parametrize("share", [100, 1200])
def test_float32_default_tolerance_is_reached(share):
    for cost, a, b in PROBLEMS.values():
        result = fo.sinkhorn_newton(cost.float(), a.float(), b.float(), reg=float(cost.max()) / share)
        assert result.converged and result.tol == 1e-5
        assert true_error(result, a, b) <= 1.2e-5


def test_float32_points():
    x, y, a, b = (t.float() for t in far_clouds(60, 50, 3))
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), a, b, reg=2e-3, tol=3e-7)
    assert result.converged
    assert true_error(result, a, b) <= 1e-6


def test_float32_close_to_float64():
    cost, a, b = random_problem(40, 30)
    double = fo.sinkhorn_newton(cost.float().double(), a, b, reg=1e-3, tol=1e-12)
    single = quiet(fo.sinkhorn_newton, cost.float(), a, b, reg=1e-3, tol=1e-9)
    assert single.f.dtype == single.g.dtype == single.value.dtype == torch.float64
    torch.testing.assert_close(single.value, double.value, rtol=3e-7, atol=0)
    torch.testing.assert_close(single.f, double.f, rtol=0, atol=1e-6)
    torch.testing.assert_close(single.plan().double(), double.plan(), rtol=0, atol=1e-4 * float(double.plan().max()))


def test_float32_precision_limit_is_honest():
    """The error told is that of the exact plan at these potentials, not a lucky rounding."""
    cost, a, b = random_problem(40, 30)
    single = cost.float()
    result = quiet(fo.sinkhorn_newton, single, a, b, reg=1e-3, tol=1e-12)
    plan = a[:, None] * b * ((result.f[:, None] + result.g - single.double()) / 1e-3).exp()
    exact = float((plan.sum(0) - b).abs().sum() + (plan.sum(1) - a).abs().sum())
    assert exact <= 3e-6  # the centred cost is rounded once; f and g belong to the rounded one
