"""``sinkhorn_newton`` and ``sinkhorn``: entropic optimal transport between two histograms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend, _checks, _loop
from .._arrays import to_tensor
from ._evaluation import Evaluator
from ._newton import SinkhornNewton
from ._problem import Problem, prepare
from ._schedule import Budget, is_small
from ._transport_result import OTResult

_METHODS = ("auto", "newton", "sinkhorn")


def sinkhorn_newton(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    tol: float | None = None,
    max_newton: int = 500,
    max_passes: int = 10_000,
    init: Any = None,
    method: str = "auto",
    eps_scaling: bool = True,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OTResult:
    """Entropic optimal transport by Sinkhorn's iteration, then sparse Newton steps, to machine precision.

    Minimises ``<C, P> + reg * KL(P | a b^T)`` over plans with ``P 1 = a`` and ``P^T 1 = b``.

    Parameters
    ----------
    cost : tensor or array, shape (n, m), or PointCloud
        Float32 or float64; half precision is computed in float32, integers in float64. ``inf`` forbids a pair. With a
        ``PointCloud`` nothing of size n x m is ever stored.
    a, b : tensor or array, shapes (n,) and (m,), optional
        Masses, uniform when absent; zeros are allowed. Their sums may differ by 1e-6, relative; then ``b`` is rescaled.
    reg : float
        Strength of the entropy, in the units of the cost (the convention of POT).
    tol : float, optional
        Ends when ``(|P 1 - a|_1 + |P^T 1 - b|_1) / sum(a)`` is at most this. Default 1e-6, for float32 1e-5.
    max_newton : int, default 500
        Most Newton steps; column updates go on after them.
    max_passes : int, default 10_000
        Most reads of all n x m entries.
    init : OTResult or (f, g), optional
        Start from an earlier result or potentials, at the target ``reg``.
    method : {"auto", "newton", "sinkhorn"}
        "newton" takes Newton steps as soon as they make sense, "sinkhorn" none, "auto" what is faster.
    eps_scaling : bool, default True
        Approach a small ``reg`` from above.
    callback : callable, optional
        Called with a record (dict) after each step; returning True ends the solve with status "stopped".
    progress : bool, default False
        Show a tqdm bar.
    backend : {"cpp", "cuda", "triton", "reference"}, optional
        Force a backend for this call.

    Returns
    -------
    OTResult
        Potentials, values, the plan on demand, and how the solve ended. Not converged: one ``ConvergenceWarning``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    X. Tang, M. Shavlovsky, H. Rahmanian, E. Tardini, K. Thekumparampil, T. Xiao, L. Ying, "Accelerating Sinkhorn
    Algorithm with Sparse Newton Iterations", ICLR 2024, arXiv:2401.12253. Z. Tang, Y. Qiu, "Safe and Sparse Newton Method
    for Entropic-Regularized Optimal Transport", NeurIPS 2024.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> cost = torch.rand(200, 200, dtype=torch.float64)
    >>> res = fo.sinkhorn_newton(cost, reg=1e-3, tol=1e-12)
    >>> res.converged
    True
    """
    return _solve(
        "sinkhorn_newton",
        cost,
        a,
        b,
        reg,
        tol,
        max_newton,
        max_passes,
        init,
        method,
        eps_scaling,
        callback,
        progress,
        backend,
    )


def sinkhorn(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    tol: float | None = None,
    max_passes: int = 10_000,
    init: Any = None,
    eps_scaling: bool = True,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OTResult:
    """Entropic optimal transport by Sinkhorn's iteration alone.

    The same call as ``sinkhorn_newton`` with ``method="sinkhorn"``, without ``method`` and ``max_newton``; see there for
    parameters and result.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> res = fo.sinkhorn(torch.rand(50, 60), reg=0.1)
    """
    return _solve(
        "sinkhorn", cost, a, b, reg, tol, 0, max_passes, init, "sinkhorn", eps_scaling, callback, progress, backend
    )


def _solve(
    operation: str,
    cost: Any,
    a: Any,
    b: Any,
    reg: float,
    tol: float | None,
    max_newton: int,
    max_passes: int,
    init: Any,
    method: str,
    eps_scaling: bool,
    callback: Callable[[dict[str, Any]], Any] | None,
    progress: bool,
    backend: str | None,
) -> OTResult:
    reg = _checks.positive_float(operation, "reg", reg)
    if callback is not None and not callable(callback):
        _checks.reject(operation, "`callback` to be callable", repr(callback), kind=TypeError)
    max_newton = _checks.count(operation, "max_newton", max_newton, 0)
    max_passes = _checks.count(operation, "max_passes", max_passes, 1)
    if _checks.one_of(operation, "method", method, _METHODS) == "sinkhorn":
        max_newton = 0
    backend = _backend.forced(backend)
    small = is_small(max_newton, max_passes)
    problem = prepare(operation, cost, a, b, backend, may_transpose=not small)
    default_tol = 1e-6 if problem.dtype == torch.float64 else 1e-5
    tol = default_tol if tol is None else _checks.positive_float(operation, "tol", tol)
    with torch.no_grad():
        evaluator = Evaluator(problem, backend, max_passes)
        start = _starting_potential(operation, problem, reg, init)
        anneal = eps_scaling and start is None and not small
        budget = Budget(max_newton, max_passes, problem.cost_range, anneal, plain=small, eager=method == "newton")
        if start is None:  # a small budget starts where Sinkhorn starts, at g = 0; else at the centred cost's own zero
            start = reg * problem.b.log() - problem.cols.offset if small else torch.zeros_like(problem.b)
        solver = SinkhornNewton(evaluator, start, reg, tol, budget)
        status, history = _loop.run(solver.step, title=operation, callback=callback, progress=progress)
        if status in ("stopped", "interrupted"):
            status = solver.end(status)
        best = solver.best
        result = OTResult(
            operation=operation,
            status=status,
            error=best.error,
            tol=tol,
            history=history,
            reg=reg,
            problem=problem,
            centred_g=best.g,
            row_lse=best.row_lse,
            col_sum=best.c,
            n_newton=solver.n_newton,
            n_passes=solver.passes,
            n_cg=solver.n_cg,
            backend=backend,
        )
    result.warn_if_failed()
    return result


def _starting_potential(operation: str, problem: Problem, reg: float, init: Any) -> Tensor | None:
    """Centred absolute potential of the columns from an earlier result or from (f, g)."""
    if init is None:
        return None
    if isinstance(init, OTResult):
        f, g = init.detached_potentials()
    elif isinstance(init, (tuple, list)) and len(init) == 2:
        parts = [to_tensor(operation, "init", part).detach() for part in init]
        for part in parts:
            _checks.require_real(operation, "init", part)
        f, g = (part.double() for part in parts)
    else:
        _checks.reject(operation, "`init` to be an OTResult or a pair (f, g)", type(init).__name__, kind=TypeError)
    sizes = problem.rows.mass.shape[0], problem.cols.mass.shape[0]
    for name, part, size in zip("fg", (f, g), sizes[::-1] if problem.transposed else sizes, strict=True):
        if tuple(part.shape) != (size,):
            _checks.reject(operation, f"`init` with `{name}` of shape ({size},) to match `cost`", tuple(part.shape))
        if not bool(part.isfinite().all()):
            _checks.reject(operation, f"`init` with `{name}` finite", "NaN or infinity")
    potential = (f if problem.transposed else g).to(problem.device)
    kept = problem.cols.gather(potential)
    return kept - problem.cols.offset + reg * problem.b.log()
