"""Long solves: callback, progress, Ctrl-C, statuses and warnings, pickling, warm starts."""

import copy
import os
import pickle
import re
import signal
import sys
import warnings

import pytest
import torch

import fastcore_ops as fo

from .problems import BATTERY, far_clouds, l1_grid, quiet, random_problem, uniform

KEYS = {"move", "reg", "error", "alpha", "lambda", "density", "cg", "passes", "seconds"}


def hard(**options):
    """A solve of dozens of moves."""
    cost, a, b = BATTERY["l1_grid"]
    return fo.sinkhorn_newton(cost, a, b, reg=float(cost.max()) / 1000, tol=1e-12, **options)


def test_callback_sees_every_record():
    seen = []
    result = hard(callback=seen.append)
    assert result.converged and seen == result.history and len(seen) > 5
    for record in seen:
        assert set(record) >= KEYS
        assert all(value is None or isinstance(value, (int, float, str)) for value in record.values())
    passes = [record["passes"] for record in seen]
    assert passes == sorted(passes) and passes[-1] == result.n_passes
    assert seen[-1]["error"] == pytest.approx(result.marginal_error)
    assert {record["reg"] for record in seen} >= {result.reg}


def test_callback_stops_the_solve():
    with pytest.warns(fo.ConvergenceWarning, match="stopped by the callback") as caught:
        result = hard(callback=lambda record: record["passes"] >= 4)
    assert len(caught) == 1
    assert result.status == "stopped" and not result.converged
    assert 4 <= result.n_passes < 10
    assert result.plan().isfinite().all() and result.f.isfinite().all()


def test_callback_must_return_true_to_stop():
    assert hard(callback=lambda record: "yes").converged


def test_callback_error_passes_through():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        hard(callback=lambda record: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("keyboard_interrupt")
def test_interrupt_ends_at_the_next_step():
    before = signal.getsignal(signal.SIGINT)
    handlers = []

    def interrupt(record):
        handlers.append(signal.getsignal(signal.SIGINT))
        if len(handlers) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(fo.ConvergenceWarning, match="interrupted from the keyboard"):
        result = hard(callback=interrupt)
    assert result.status == "interrupted"
    assert len(result.history) in (3, 4)
    assert handlers[0] is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert result.plan().isfinite().all()
    assert re.search(r"error \d", result.message)


@pytest.mark.usefixtures("keyboard_interrupt")
def test_second_interrupt_raises():
    before = signal.getsignal(signal.SIGINT)

    def twice(record):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        hard(callback=twice)
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    result = hard(progress=True)
    shown = capsys.readouterr().err
    assert "sinkhorn_newton" in shown and "error" in shown and f"{result.n_passes} passes" in shown


def test_progress_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'fastcore_ops\[progress\]'"):
        hard(progress=True)


def test_statuses_warn_once_and_name_the_error():
    cost, a, b = random_problem(20, 20)
    infeasible = torch.full((3, 3), torch.inf).double()
    infeasible[0] = infeasible[:, 0] = 1.0
    calls = {
        "max_passes": lambda: fo.sinkhorn(cost, a, b, reg=1e-3, tol=1e-12, max_passes=5),
        "precision_limit": lambda: fo.sinkhorn_newton(cost.float(), a, b, reg=1e-3, tol=1e-13),
        "infeasible_or_stalled": lambda: fo.sinkhorn_newton(infeasible, reg=0.5),
        "stopped": lambda: fo.sinkhorn_newton(cost, a, b, reg=1e-2, tol=1e-12, callback=lambda record: True),
    }
    for status, call in calls.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        assert result.status == status and not result.converged
        (warning,) = caught
        assert warning.category is fo.ConvergenceWarning
        assert status in str(warning.message) and f"{result.marginal_error:.3g}" in str(warning.message)
        assert warning.filename == __file__, "the warning does not point at the caller"
        with pytest.raises(fo.ConvergenceError, match=status):
            result.raise_if_failed()


def test_converged_is_silent():
    cost, a, b = random_problem(10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fo.sinkhorn_newton(cost, a, b, reg=0.05)
    result.raise_if_failed()
    assert result.converged and "converged" in result.message


@pytest.mark.parametrize("points", [False, True])
def test_result_pickles_and_copies(points):
    x, y, a, b = far_clouds(9, 7)
    cost = torch.cdist(x, y).requires_grad_()
    result = fo.sinkhorn_newton(fo.ot.PointCloud(x.requires_grad_(), y) if points else cost, a, b, reg=0.1)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert twin.status == result.status and twin.history == result.history
        assert not twin.value.requires_grad, "a pickle has no graph"
        for name in ("f", "g", "value", "dual_value"):
            assert torch.equal(getattr(twin, name), getattr(result, name).detach())
        assert torch.equal(twin.plan(), result.plan().detach())
        assert torch.equal(twin.apply(b), result.apply(b).detach())


def test_warm_start_takes_far_fewer_passes():
    cost, a, b = l1_grid(10)
    reg = float(cost.max()) / 1000
    moved = cost * (1 + 0.01 * (2 * uniform(*cost.shape, seed=9) - 1))
    before = fo.sinkhorn_newton(cost, a, b, reg=reg, tol=1e-11)
    cold = fo.sinkhorn_newton(moved, a, b, reg=reg, tol=1e-11)
    from_result = fo.sinkhorn_newton(moved, a, b, reg=reg, tol=1e-11, init=before)
    from_potentials = fo.sinkhorn_newton(moved, a, b, reg=reg, tol=1e-11, init=(before.f, before.g.numpy()))
    assert cold.converged and from_result.converged and from_potentials.converged
    assert from_result.n_passes == from_potentials.n_passes
    assert from_result.n_passes <= 0.6 * cold.n_passes, (from_result.n_passes, cold.n_passes)
    torch.testing.assert_close(from_result.value, cold.value, rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", [(14, 22), (22, 14)])
def test_warm_start_from_the_solution_is_immediate(shape):
    cost, a, b = random_problem(*shape)
    a[3] = b[5] = 0
    a, b = a / a.sum(), b / b.sum()
    solved = fo.sinkhorn_newton(cost, a, b, reg=0.01, tol=1e-10)
    again = fo.sinkhorn_newton(cost, a, b, reg=0.01, tol=2e-10, init=solved)
    assert again.converged and again.n_passes <= 2
    torch.testing.assert_close(again.plan(), solved.plan(), rtol=1e-6, atol=1e-11)


def test_warm_start_keeps_to_the_budget():
    cost, a, b = random_problem(14, 22)
    solved = fo.sinkhorn_newton(cost, a, b, reg=0.1)
    assert quiet(fo.sinkhorn_newton, cost, a, b, reg=0.001, tol=1e-12, init=solved, max_passes=3).n_passes <= 3
