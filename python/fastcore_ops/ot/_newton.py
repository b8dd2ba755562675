"""Sinkhorn-Newton: the policy. Column updates far from the solution, sparse Newton steps near it, annealing in reg.

The semi-dual Phi(g) = <b, g> - reg sum_i a_i L_i(g) has gradient b - c and minus its Hessian is S / reg with
S = diag(c) - P^T diag(1/a) P. See X. Tang et al., "Accelerating Sinkhorn Algorithm with Sparse Newton Iterations"
(ICLR 2024), and for dropping by mass Z. Tang and Y. Qiu, "Safe and Sparse Newton Method for Entropic-Regularized OT"
(NeurIPS 2024).
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from .._loop import Record
from ._evaluation import Evaluation, Evaluator

_CHI2_GATE = 0.5  # above: the quadratic model is worthless, take a column update
_MOST_COLUMN_UPDATES = 50  # per level, then Newton is tried all the same
_CG_CAP = 2000
_SUFFICIENT = 0.9
_LINE_SEARCH_TRIALS = 4
_DAMPING_TRIALS = 12
_LEVEL_TOL = 0.05
_COOLING = 0.25
_STALL_STEPS = 5


def schedule(cost_range: float, reg: float) -> list[float]:
    """Levels of the annealing, largest first, ending with ``reg``."""
    levels, level = [], _COOLING * cost_range
    while level > reg * 1.0001:
        levels.append(level)
        level *= _COOLING
    return [*levels, reg]


def _threshold(error: float, sides: int) -> float:
    return max(0.1 * min(error * error, 0.05) / sides, 1e-16 / sides)


class Newton:
    """State of one solve; ``step`` makes one move and reports it."""

    def __init__(
        self,
        evaluator: Evaluator,
        g: Tensor,
        levels: list[float],
        tol: float,
        max_newton: int,
        max_passes: int,
        use_newton: bool = True,
    ) -> None:
        self.evaluator, self.levels, self.tol = evaluator, levels, tol
        self.max_newton, self.max_passes, self.use_newton = max_newton, max_passes, use_newton
        self.level = 0
        self.n_newton = self.n_cg = 0
        self._sides = max(evaluator.n, evaluator.m)
        self._before: tuple[float, Tensor] | None = None  # (reg, g) at the end of the level before
        self._mu = 0.0  # damping carried from step to step, in units of sqrt(chi2)
        self._dense = False  # whether the plan of this level is kept dense
        self._updates = 0
        self._started = time.perf_counter()
        self._floor = evaluator.problem.precision_floor(levels[-1])
        self.at = self._evaluate(g, levels[0], 1.0)
        self.best = self.at
        self._recent: list[float] = []

    # Evaluations ---------------------------------------------------------------------------------------------------

    def _newton_left(self) -> bool:
        return self.use_newton and self.n_newton < self.max_newton

    def _evaluate(self, g: Tensor, reg: float, expected_error: float) -> Evaluation:
        """Evaluate, keeping the plan as the next Newton step will want it."""
        if not self._newton_left():
            return self.evaluator.plain(g, reg)
        if self._dense:
            return self.evaluator.plain(g, reg) if self.evaluator.problem.is_points else self.evaluator.dense(g, reg)
        return self.evaluator.sparse(g, reg, _threshold(expected_error, self._sides))

    def _with_plan(self, at: Evaluation) -> Evaluation | None:
        """Return the evaluation with a plan, evaluating again if it was too dense to keep; None where it cannot be kept."""
        if at.values is not None:
            return at
        self._dense = True
        return None if self.evaluator.problem.is_points else self.evaluator.dense(at.g, at.reg)

    # Moves ---------------------------------------------------------------------------------------------------------

    def _chi2(self) -> float:
        residual = self.evaluator.problem.b - self.at.c
        return float((residual.square() / self.at.c).sum())

    def _column_update(self) -> None:
        self._updates += 1
        self.at = self._evaluate(self.evaluator.column_update(self.at), self.at.reg, self.at.error)

    def _next_level(self) -> None:
        """Cool: extrapolate g linearly in reg from the last two levels, then one column update."""
        reg, g = self.at.reg, self.at.g
        self.level += 1
        following = self.levels[self.level]
        guess = g
        if self._before is not None:
            reg_before, g_before = self._before
            guess = g + (g - g_before) * ((following - reg) / (reg - reg_before))
        self._before = (reg, g)
        self._dense, self._mu, self._updates = False, 0.0, 0
        self._recent = []
        self.at = self.evaluator.plain(guess, following)
        self._column_update()

    def _newton_step(self, at: Evaluation, chi2: float) -> Record | None:
        """One damped Newton step with a line search on the derivative; None when no damping helps."""
        problem = self.evaluator.problem
        b, residual = problem.b, problem.b - at.c
        log_ratio = (b / at.c).log()
        rhs = at.c * (log_ratio - float((at.c * log_ratio).sum() / at.c.sum()))
        lam = self._mu * math.sqrt(chi2)
        cg_tol = max(min(0.1, at.error), 0.25 * self.tol / at.error)
        cg_total = 0
        for _ in range(_DAMPING_TRIALS):
            diagonal = at.c + lam * torch.maximum(b, at.c)
            direction, cg = self.evaluator.solve(at, diagonal, rhs, cg_tol, _CG_CAP)
            cg_total += cg
            self.n_cg += cg
            direction = at.reg * (direction - torch.dot(b, direction))
            accepted = self._search(at, direction, residual)
            if accepted is not None:
                self.at, alpha = accepted
                self._mu = lam / math.sqrt(chi2)
                self._mu = self._mu / 4 if alpha == 1.0 else max(self._mu, 0.05)
                self._mu = 0.0 if self._mu < 1e-3 else self._mu
                return {"alpha": alpha, "lambda": lam, "cg": cg_total}
            if self.evaluator.passes >= self.max_passes:
                return None
            lam = max(4 * lam, 0.1 * math.sqrt(chi2))
        return None

    def _search(self, at: Evaluation, direction: Tensor, residual: Tensor) -> tuple[Evaluation, float] | None:
        """Accept when the derivative along the step has not turned over: comparing values fails below 1e-8."""
        slope = float(torch.dot(residual, direction))
        if not slope > 0:
            return None
        alpha = 1.0
        for _ in range(_LINE_SEARCH_TRIALS):
            if self.evaluator.passes >= self.max_passes:
                return None
            trial = self._evaluate(at.g + alpha * direction, at.reg, at.error * at.error)
            slope_there = float(torch.dot(self.evaluator.problem.b - trial.c, direction))
            if slope_there >= -_SUFFICIENT * slope:
                return trial, alpha
            shrink = slope / (slope - slope_there) if math.isfinite(slope_there) else 0.0
            alpha *= min(max(shrink, 0.1), 0.6)
        return None

    # The step of the solve loop ------------------------------------------------------------------------------------

    def step(self) -> tuple[Record, str | None]:
        """Make one move; return its record and, at the end, the status."""
        status = self._status()
        if status is not None:
            return self._record("none", {}), status
        detail: dict[str, Any] = {}
        move = "column update"
        last = self.level == len(self.levels) - 1
        if not last and self.at.error <= max(_LEVEL_TOL, self.tol):
            move = "cool"
            self._next_level()
        else:
            chi2 = self._chi2()
            wants_newton = self._newton_left() and (chi2 <= _CHI2_GATE or self._updates >= _MOST_COLUMN_UPDATES)
            at = self._with_plan(self.at) if wants_newton and math.isfinite(chi2) else None
            made = None
            if at is not None:
                detail["density"] = at.density
                self.n_newton += 1
                made = self._newton_step(at, chi2)
            if made is not None:
                move = "newton"
                detail.update(made)
            else:
                self._column_update()
        self._note_best()
        return self._record(move, detail), self._status()

    def _note_best(self) -> None:
        if self.level == len(self.levels) - 1:
            if self.best.reg != self.at.reg or self.at.error < self.best.error:
                self.best = self.at
            self._recent.append(self.at.error)

    def _status(self) -> str | None:
        last = self.level == len(self.levels) - 1
        if last and self.at.error <= self.tol:
            return "converged"
        if self.evaluator.passes >= self.max_passes:
            return "max_passes"
        if last and len(self._recent) > _STALL_STEPS:
            recent = self._recent
            stalled = min(recent[-_STALL_STEPS:]) > 0.5 * min(recent[:-_STALL_STEPS])
            if stalled and min(recent) < 100 * self._floor:
                return "precision_limit"
        return None

    def _record(self, move: str, detail: dict[str, Any]) -> Record:
        return {
            "move": move,
            "reg": self.at.reg,
            "error": self.at.error,
            "alpha": detail.get("alpha"),
            "lambda": detail.get("lambda"),
            "density": detail.get("density"),
            "cg": detail.get("cg", 0),
            "passes": self.passes,
            "seconds": time.perf_counter() - self._started,
        }

    @property
    def passes(self) -> int:
        """Passes so far, rounded up."""
        return math.ceil(self.evaluator.passes - 1e-9)
