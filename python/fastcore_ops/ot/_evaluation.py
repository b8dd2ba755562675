"""The expensive moves on one problem, counted: evaluation passes, products with the plan, stored plans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _backend
from . import _reference
from ._problem import Problem

DENSITY_SWITCH = 0.6  # a sparse plan fuller than this is read more slowly than the dense one
_MOST_ENTRIES = 25_000_000  # of a sparse plan between points; a cost matrix takes more than that anyway
_SAMPLE = 16  # one row in so many tells how dense a plan will be
_TINY_COLUMN = 1e-9
_LIMIT_SPARSE = 14.0  # |log v|
_LIMIT_DENSE = {torch.float64: 300.0, torch.float32: 20.0}
_IGNORED_COLUMN = 1e-22  # relative mass below which a column cannot matter to any attainable error


@dataclass
class Evaluation:
    """A point of the semi-dual, evaluated exactly: rows have their masses, columns sum to ``c``."""

    g: Tensor
    reg: float
    row_lse: Tensor
    c: Tensor
    error: float


@dataclass
class Scaled:
    """A point near a stored plan P0: ``P = diag(u) P0 diag(v)`` with exact rows; columns sum to ``c``."""

    v: Tensor
    u: Tensor
    c: Tensor
    error: float


class StoredPlan:
    """The plan of an evaluation, dense or in blocks, as a kernel for Sinkhorn and Newton steps.

    Potentials near the evaluation are reached by scaling: ``g = g0 + reg log v``. That costs one read of what is stored,
    and no exponentials. Of a sparse plan the entries left out were below a hundredth of the goal, so a solution on it is
    one of the problem as long as v stays within ``exp(+-limit)``; an evaluation has the last word.
    """

    def __init__(
        self, evaluator: Evaluator, at: Evaluation, matrix: tuple[Tensor | None, Tensor | None, Tensor]
    ) -> None:
        self.evaluator, self.at, self._matrix = evaluator, at, matrix
        self.limit = _LIMIT_SPARSE if matrix[0] is not None else _LIMIT_DENSE[matrix[2].dtype]
        self.density = matrix[2].numel() / (evaluator.n * evaluator.m)

    @property
    def _is_exact(self) -> bool:
        """Whether everything is stored, in full precision."""
        return self._matrix[0] is None and self._matrix[2].dtype == torch.float64

    def potential(self, point: Scaled) -> Tensor:
        """Potential g of a point."""
        return self.at.g + self.at.reg * self.evaluator.log(point.v)

    def start(self) -> Scaled:
        """The evaluation itself."""
        at = self.at
        return Scaled(torch.ones_like(at.c), torch.ones_like(at.row_lse), at.c, at.error)

    def evaluate(self, v: Tensor) -> Scaled:
        """Rows and columns at ``v``."""
        return self.sinkhorn(v, 1, 0.0)[0]

    def sinkhorn(self, v: Tensor, steps: int, tol: float) -> tuple[Scaled, list[float]]:
        """Up to ``steps`` Sinkhorn steps from ``v``, which moves; the error of each."""
        p = self.evaluator.problem
        u, c, errors = self.evaluator.sinkhorn_steps(*self._matrix, p.a, p.b, v, steps, tol, self.limit)
        seen = [error for error in errors.tolist() if not math.isnan(error)]
        self.evaluator.passes += self.density * max(1, len(seen))
        return Scaled(v, u, c, seen[-1] if seen else math.inf), seen

    def exact(self, point: Scaled) -> Evaluation | None:
        """The point as an evaluation, without a pass, where everything was stored in full precision.

        From ``u_i v_j P0_ij = a_i exp((g_j - C_ij) / reg - L_i)`` follows ``L = L0 - log u``.
        """
        if not self._is_exact:
            return None
        at = self.at
        return Evaluation(self.potential(point), at.reg, at.row_lse - self.evaluator.log(point.u), point.c, point.error)

    def serves(self) -> bool:
        """Whether every column can be raised from here by scaling."""
        return not bool(self.evaluator.vanished(self.at.c, 1e-200 if self._is_exact else _TINY_COLUMN).any())

    def affordable_steps(self) -> int:
        """Steps that the budget still allows, keeping a pass for the evaluation that ends the solve if it takes one."""
        left = self.evaluator.max_passes - (0 if self._is_exact else 1) - self.evaluator.passes
        return max(0, int(left / self.density + 1e-9))

    def inside(self, v: Tensor) -> bool:
        """Whether ``v`` is near enough for the stored plan to stand for the whole."""
        largest = math.exp(self.limit)
        return bool(((v < largest) & (v > 1.0 / largest)).all())

    def newton_direction(
        self, point: Scaled, damping: Tensor, rhs: Tensor, threshold: float, tol: float, cap: int
    ) -> tuple[Tensor, int]:
        """Solve ``(diag(c + damping) - P^T diag(1/a) P) d = rhs`` at a point near the stored plan."""
        a = self.evaluator.problem.a
        direction, info = self.evaluator.cg(
            *self._matrix, point.u, point.v, a, point.c + damping, rhs, threshold, tol, cap
        )
        return direction, int(info[0])


class Evaluator:
    """Runs the operators on one problem and counts passes over the n x m entries."""

    def __init__(self, problem: Problem, backend: str | None, max_passes: int = 1 << 62) -> None:
        self.problem, self.max_passes = problem, max_passes
        self.passes = 0.0
        device = problem.device
        self._row_pass = _backend.pick("ot_row_pass", device, backend, main=True)
        self._sparse = _backend.pick("ot_sparse_build", device, backend)
        self._dense = _backend.pick("ot_dense_build", device, backend)
        self._product = _backend.pick("ot_plan_product", device, backend)
        self.cg = _backend.pick("ot_cg", device, backend)
        self.sinkhorn_steps = _backend.pick("sinkhorn_steps", device, backend)
        # torch wakes every thread for a few hundred logarithms, and on a busy machine waits for them.
        self.exp, self.log = (_backend.pick(name, device, backend) for name in ("vector_exp", "vector_log"))
        self.n, self.m = problem.a.numel(), problem.b.numel()
        entries = self.n * self.m
        self._max_entries = int(DENSITY_SWITCH * entries)
        if problem.is_points:
            self._max_entries = min(self._max_entries, _MOST_ENTRIES)
        self._buffer: Tensor | None = None

    def _error(self, c: Tensor) -> float:
        return float((c - self.problem.b).abs().sum())

    def plain(self, g: Tensor, reg: float) -> Evaluation:
        """Evaluation pass alone."""
        self.passes += 1
        row_lse, c = self._row_pass(*self.problem.source, g, self.problem.a, reg)
        return Evaluation(g, reg, row_lse, c, self._error(c))

    def sparse(self, g: Tensor, reg: float, threshold: float) -> tuple[Evaluation, StoredPlan | None]:
        """Evaluation pass that keeps what exceeds ``threshold * min(a_i, b_j)``; no plan if that is too much."""
        self.passes += 1
        p = self.problem
        row_lse, c, indptr, blocks, values = self._sparse(*p.source, g, p.a, p.b, reg, threshold, self._max_entries)
        at = Evaluation(g, reg, row_lse, c, self._error(c))
        return at, StoredPlan(self, at, (indptr, blocks, values)) if values.numel() else None

    def sample_fits(self, g: Tensor, reg: float, threshold: float) -> bool:
        """Whether a sparse plan is likely to fit, from one row in sixteen."""
        if self.n < 4 * _SAMPLE:
            return True
        p = self.problem
        cost, y, metric, row_shift, col_shift = p.source
        rows = cost[::_SAMPLE].contiguous()
        row_shift = None if row_shift is None else row_shift[::_SAMPLE].contiguous()
        a = p.a[::_SAMPLE].contiguous()
        self.passes += a.numel() / self.n
        most = self._max_entries * a.numel() // self.n
        *_, values = self._sparse(rows, y, metric, row_shift, col_shift, g, a, p.b, reg, threshold, most)
        return values.numel() > 0

    def dense(self, g: Tensor, reg: float) -> tuple[Evaluation, StoredPlan]:
        """Evaluation pass that keeps the whole plan, in a buffer that the next call overwrites."""
        self.passes += 1
        p = self.problem
        if self._buffer is None:
            self._buffer = torch.empty(self.n, self.m, dtype=p.dtype, device=p.device)
        row_lse, c = self._dense(*p.source, g, p.a, reg, self._buffer)
        at = Evaluation(g, reg, row_lse, c, self._error(c))
        return at, StoredPlan(self, at, (None, None, self._buffer))

    def plan(self, g: Tensor, reg: float) -> Tensor:
        """The dense plan, newly allocated."""
        p = self.problem
        plan = torch.empty(self.n, self.m, dtype=p.dtype, device=p.device)
        self._dense(*p.source, g, p.a, reg, plan)
        return plan

    def product(self, g: Tensor, reg: float, v: Tensor | None, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """``P v_k`` and ``P^T w_k`` with entries recomputed on the fly: one pass."""
        self.passes += 1
        return self._product(*self.problem.source, g, self.problem.a, reg, v, w)

    def column_update(self, at: Evaluation) -> Tensor:
        """Sinkhorn's update of g; where a column has all but vanished its sum is taken in the log domain."""
        b = self.problem.b
        log_c = self.log(at.c)
        vanished = self.vanished(at.c)
        if bool(vanished.any()):
            picked = vanished.nonzero().squeeze(1)
            log_c[picked] = self._log_columns(at, picked)
        step = at.reg * (self.log(b) - log_c)
        return at.g + torch.where(step.isfinite(), step, torch.zeros_like(step))

    def vanished(self, c: Tensor, share: float = _TINY_COLUMN) -> Tensor:
        """Columns whose sum has lost its digits."""
        return (c < share * self.problem.b) & (self.problem.b > _IGNORED_COLUMN)

    def _log_columns(self, at: Evaluation, columns: Tensor) -> Tensor:
        cost, y, metric, row_shift, col_shift = self.problem.source
        log_a = self.problem.a.log()
        parts = []
        for picked in columns.split(max(1, (1 << 19) // self.n)):
            if metric == _reference.MATRIX:
                shift = None if col_shift is None else col_shift[picked]
                centred = _reference.cost_rows(cost[:, picked], None, metric, row_shift, shift)
            else:
                assert y is not None
                centred = _reference.cost_rows(cost, y[:, picked], metric, None, None)
            z = (at.g[picked] - centred) / at.reg - at.row_lse[:, None] + log_a[:, None]
            parts.append(torch.logsumexp(z, dim=0))
        self.passes += columns.numel() / self.m
        return torch.cat(parts)
