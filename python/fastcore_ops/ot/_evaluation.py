"""The expensive moves on one problem, counted: evaluation passes, products with the plan, Newton's linear system."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _backend
from . import _reference
from ._problem import Problem

_DENSITY_SWITCH = 0.3
_MOST_ENTRIES = 25_000_000  # of a sparse plan between points; a stored matrix already costs more
_TINY_COLUMN = 1e-9
_IGNORED_COLUMN = 1e-22  # relative mass below which a column cannot matter to any attainable error


@dataclass
class Evaluation:
    """A point of the semi-dual: rows exact, column sums ``c``, and the plan if it was kept.

    ``indptr`` None with ``values`` set is a dense plan; ``values`` None means that no plan was kept.
    """

    g: Tensor
    reg: float
    row_lse: Tensor
    c: Tensor
    error: float
    indptr: Tensor | None = None
    indices: Tensor | None = None
    values: Tensor | None = None
    threshold: float = 0.0

    @property
    def density(self) -> float:
        """Share of entries in the plan that was kept."""
        if self.values is None:
            return 0.0
        return self.values.numel() / (self.row_lse.numel() * self.c.numel())


class Evaluator:
    """Runs the operators on one problem and counts passes over the n x m entries."""

    def __init__(self, problem: Problem, backend: str | None) -> None:
        self.problem = problem
        self.passes = 0.0
        device = problem.device
        self._row_pass = _backend.pick("ot_row_pass", device, backend, main=True)
        self._sparse = _backend.pick("ot_sparse_build", device, backend)
        self._dense = _backend.pick("ot_dense_build", device, backend)
        self._product = _backend.pick("ot_plan_product", device, backend)
        self._cg = _backend.pick("ot_cg", device, backend)
        self._steps = _backend.pick("sinkhorn_steps", device, backend)
        self.n, self.m = problem.a.numel(), problem.b.numel()
        entries = self.n * self.m
        self.max_entries = int(_DENSITY_SWITCH * entries)
        if problem.is_points:
            self.max_entries = min(self.max_entries, _MOST_ENTRIES)

    def _error(self, c: Tensor) -> float:
        return float((c - self.problem.b).abs().sum())

    def plain(self, g: Tensor, reg: float) -> Evaluation:
        """Evaluation pass alone."""
        self.passes += 1
        row_lse, c = self._row_pass(*self.problem.source, g, self.problem.a, reg)
        return Evaluation(g, reg, row_lse, c, self._error(c))

    def sparse(self, g: Tensor, reg: float, threshold: float) -> Evaluation:
        """Evaluation pass that keeps the entries above ``threshold * min(a_i, b_j)``, unless they are too many."""
        self.passes += 1
        p = self.problem
        row_lse, c, indptr, indices, values = self._sparse(*p.source, g, p.a, p.b, reg, threshold, self.max_entries)
        kept = values.numel() > 0
        return Evaluation(
            g,
            reg,
            row_lse,
            c,
            self._error(c),
            indptr if kept else None,
            indices if kept else None,
            values if kept else None,
            threshold,
        )

    def dense(self, g: Tensor, reg: float) -> Evaluation:
        """Evaluation pass that keeps the whole plan."""
        self.passes += 1
        row_lse, c, plan = self._dense(*self.problem.source, g, self.problem.a, reg)
        return Evaluation(g, reg, row_lse, c, self._error(c), values=plan)

    def solve(self, at: Evaluation, diagonal: Tensor, rhs: Tensor, tol: float, max_iter: int) -> tuple[Tensor, int]:
        """Direction of Newton's system at an evaluation that kept its plan, and the CG iterations it took."""
        assert at.values is not None
        direction, info = self._cg(at.indptr, at.indices, at.values, self.problem.a, diagonal, rhs, tol, max_iter)
        return direction, int(info[0])

    def product(self, g: Tensor, reg: float, v: Tensor | None, w: Tensor | None) -> tuple[Tensor, Tensor]:
        """``P v_k`` and ``P^T w_k`` with entries recomputed on the fly: one pass."""
        self.passes += 1
        return self._product(*self.problem.source, g, self.problem.a, reg, v, w)

    def kernel_steps(self, plan: Tensor, v: Tensor, steps: int, tol: float, limit: float) -> Tensor:
        """Sinkhorn steps on a stored plan; ``v`` moves, the errors come back. One pass each."""
        _, errors = self._steps(plan, self.problem.a, self.problem.b, v, steps, tol, limit)
        errors = errors[~errors.isnan()]
        self.passes += errors.numel()
        return errors

    def column_update(self, at: Evaluation) -> Tensor:
        """Sinkhorn's update of g; where a column has all but vanished its sum is taken in the log domain."""
        b = self.problem.b
        log_c = at.c.log()
        vanished = (at.c < _TINY_COLUMN * b) & (b > _IGNORED_COLUMN)
        if bool(vanished.any()):
            picked = vanished.nonzero().squeeze(1)
            log_c[picked] = self._log_columns(at, picked)
        step = at.reg * (b.log() - log_c)
        return at.g + torch.where(step.isfinite(), step, torch.zeros_like(step))

    def _log_columns(self, at: Evaluation, columns: Tensor) -> Tensor:
        cost, y, metric, row_shift, col_shift = self.problem.source
        log_a = self.problem.a.log()
        parts = []
        for picked in columns.split(max(1, (1 << 22) // self.n)):
            if metric == _reference.MATRIX:
                assert row_shift is not None and col_shift is not None
                centred = _reference.cost_rows(cost[:, picked], None, metric, row_shift, col_shift[picked])
            else:
                assert y is not None
                centred = _reference.cost_rows(cost, y[:, picked], metric, None, None)
            z = (at.g[picked] - centred) / at.reg - at.row_lse[:, None] + log_a[:, None]
            parts.append(torch.logsumexp(z, dim=0))
        self.passes += columns.numel() / self.m
        return torch.cat(parts)
