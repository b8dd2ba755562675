"""Never worse than Sinkhorn: on any budget the error is at most 1.05x that of plain Sinkhorn after the same passes."""

import pytest
import torch

import fastcore_ops as fo

from .problems import assignment, far_clouds, l1_grid, l2_grid, plain_errors, quiet, random_problem, true_error

BUDGETS = [1, 2, 3, 5, 8, 15, 30, 31, 32, 35, 58, 60, 100]
REGS = {"twentieth": 1 / 20, "hundredth": 1 / 100, "1200th": 1 / 1200, "ten_thousandth": 1e-4}
PROBLEMS = {
    "assignment": assignment(25),
    "larger_assignment": assignment(40),
    "wide": random_problem(20, 33),
    "l1_grid": l1_grid(6),
    "l2_grid": l2_grid(6),
    "wide_masses": (random_problem(30, 30)[0], *(torch.softmax(8 * random_problem(30, 30)[k], 0) for k in (1, 2))),
}
SLACK = 1e-12  # rounding: below it nothing is worse than anything


def offenders(solve, reference, a, b):
    """(passes, error, plain error) wherever the solver is worse."""
    found = []
    for passes in BUDGETS:
        result = solve(passes)
        assert result.n_passes <= passes, f"{result.n_passes} passes used of {passes}"
        error = true_error(result, a, b)
        assert error == pytest.approx(result.marginal_error, rel=1e-6, abs=1e-13), (
            "the error told is not that of the plan"
        )
        if error > 1.05 * reference[passes - 1] + SLACK:
            found.append(f"{passes} passes: {error:.3e} against {reference[passes - 1]:.3e} ({result.status})")
    return found


@pytest.mark.parametrize("max_newton", [0, 1, 2, 5])
@pytest.mark.parametrize("share", REGS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_sinkhorn_newton_is_never_worse_than_sinkhorn(name, share, max_newton):
    cost, a, b = PROBLEMS[name]
    reg = REGS[share] * float(cost.max() - cost.min())
    reference = plain_errors(cost, a, b, reg, BUDGETS[-1])

    def solve(passes):
        return quiet(fo.sinkhorn_newton, cost, a, b, reg=reg, tol=1e-13, max_newton=max_newton, max_passes=passes)

    found = offenders(solve, reference, a, b)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("max_newton", [0, 2])
@pytest.mark.parametrize("share", ["hundredth", "1200th"])
def test_points_are_never_worse_than_sinkhorn(share, max_newton):
    x, y, a, b = far_clouds(30, 25)
    cost = (x[:, None] - y).square().sum(2)
    reg = REGS[share] * float(cost.max())
    reference = plain_errors(cost, a, b, reg, BUDGETS[-1])

    def solve(passes):
        source = fo.ot.PointCloud(x, y)
        return quiet(fo.sinkhorn_newton, source, a, b, reg=reg, tol=1e-13, max_newton=max_newton, max_passes=passes)

    found = offenders(solve, reference, a, b)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("share", REGS)
def test_sinkhorn_is_never_worse_than_itself(share):
    """``sinkhorn`` anneals and re-uses stored plans; that must not cost accuracy either."""
    cost, a, b = PROBLEMS["l1_grid"]
    reg = REGS[share] * float(cost.max())
    reference = plain_errors(cost, a, b, reg, BUDGETS[-1])
    found = offenders(
        lambda passes: quiet(fo.sinkhorn, cost, a, b, reg=reg, tol=1e-13, max_passes=passes), reference, a, b
    )
    assert not found, "\n".join(found)


def test_sinkhorn_without_annealing_is_plain_sinkhorn():
    """The plain loop of this file is what ``eps_scaling=False`` runs, pass for pass."""
    cost, a, b = PROBLEMS["l2_grid"]
    reg = 0.05 * float(cost.max())
    reference = plain_errors(cost, a, b, reg, 10)
    for passes in (1, 2, 10):
        result = quiet(fo.sinkhorn, cost, a, b, reg=reg, tol=1e-13, max_passes=passes, eps_scaling=False)
        assert result.marginal_error <= 1.05 * reference[passes - 1]
