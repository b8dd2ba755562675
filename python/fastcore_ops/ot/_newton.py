"""Sinkhorn-Newton: the policy. Annealing in reg; on each level an evaluation, then cheap steps on the plan it stored.

The semi-dual Phi(g) = <b, g> - reg sum_i a_i L_i(g) has gradient b - c and minus its Hessian is S / reg with
S = diag(c) - P^T diag(1/a) P. See X. Tang et al., "Accelerating Sinkhorn Algorithm with Sparse Newton Iterations"
(ICLR 2024), for dropping entries by mass Z. Tang and Y. Qiu, "Safe and Sparse Newton Method for Entropic-Regularized OT"
(NeurIPS 2024), and for scaling a stored kernel that is absorbed now and then B. Schmitzer, "Stabilized Sparse Scaling
Algorithms for Entropy Regularized Transport Problems" (2016).
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from .._loop import Record
from ._evaluation import Evaluation, Evaluator, Scaled, StoredPlan
from ._newton_step import SEARCH_TRIALS, SUFFICIENT, NewtonStep
from ._schedule import Budget, descent, keep_threshold, schedule
from ._watch import Watch

_CHI2_GATE = 0.5  # above: the quadratic model is worthless, take Sinkhorn steps
_MOST_SINKHORN_STEPS = 50  # per stored plan, then Newton is tried all the same
_FEW_STEPS, _CHUNK = 2, 20
_NEWTON_READS = 12  # reads of the stored plan that the rest of a solve takes by Newton, roughly
_LEVEL_TOL = 0.05
_GOAL_SHARE = 0.3  # of tol, on a stored plan: what the last evaluation may add
_STUCK_ABOVE, _MOST_REHEATS, _CAREFUL_TOL = 1e-4, 3, 1e-3
_LEAPS = 3
_CAREFUL_BELOW = 2e-4  # of the range


def _pace(before: float, errors: list[float]) -> float:
    """Factor by which the error falls in a step."""
    first, count = (before, len(errors)) if len(errors) < 2 else (errors[0], len(errors) - 1)
    return (errors[-1] / first) ** (1 / count) if first > 0 else 0.0


class SinkhornNewton:
    """State of one solve; ``step`` makes one move and reports it.

    A move is an evaluation (one pass with exponentials), a few Sinkhorn steps or a Newton step on the stored plan, or,
    where the plan cannot be stored, a Sinkhorn or Newton step by passes alone.
    """

    def __init__(self, evaluator: Evaluator, g: Tensor, reg: float, tol: float, budget: Budget) -> None:
        self.evaluator, self.tol, self.budget = evaluator, tol, budget
        self.levels = schedule(evaluator.problem.cost_range, reg) if budget.anneal else [reg]
        self.level, self._reheats = 0, 0
        self._level_tol = _CAREFUL_TOL if reg < _CAREFUL_BELOW * evaluator.problem.cost_range else _LEVEL_TOL
        self.n_newton = self.n_cg = 0
        self._started = time.perf_counter()
        self._watch = Watch(evaluator.problem.precision_floor(reg))
        self._before: tuple[float, Tensor] | None = None  # (reg, g) at the end of the level before
        self._newton = NewtonStep(evaluator)
        self.stored: StoredPlan | None = None
        self.coarse: StoredPlan | None = None
        self._sinkhorn_steps = 0  # on the stored plan
        self._leaps = _LEAPS  # steps out of a stored plan's reach that are still taken on trust
        self.best: Evaluation = self._evaluate(g)

    # Where we are --------------------------------------------------------------------------------------------------

    @property
    def passes(self) -> int:
        """Reads of all n x m entries so far; partial reads, as of a sparse plan, are added up."""
        return math.floor(self.evaluator.passes + 1e-9)

    @property
    def reg(self) -> float:
        """Regularisation of the level."""
        return self.levels[self.level]

    @property
    def _last_level(self) -> bool:
        return self.level == len(self.levels) - 1

    @property
    def _goal(self) -> float:
        return _GOAL_SHARE * self.tol if self._last_level else max(self._level_tol, self.tol)

    @property
    def error(self) -> float:
        """Marginal error at the current point."""
        return self.point.error if self.stored is not None else self.at.error

    def _newton_left(self) -> bool:
        return self.n_newton < self.budget.max_newton

    # Moves ---------------------------------------------------------------------------------------------------------

    def _evaluate(self, g: Tensor, expected_error: float = 1.0) -> Evaluation:
        """Evaluate at g, storing the plan if the next moves can use it.

        Where it cannot be stored whole (between points), a coarser one is kept for the direction of one Newton step.
        """
        at, stored, coarse = self._evaluate_and_keep(g, expected_error)
        # A column that has all but vanished must be raised in the log domain first.
        stored = stored if stored is not None and stored.serves() else None
        coarse = coarse if coarse is not None and coarse.serves() else None
        self.at, self.stored, self.coarse, self._sinkhorn_steps, self._pace = at, stored, coarse, 0, 1.0
        if stored is not None:
            self.point: Scaled = stored.start()
        if self._last_level:
            self._note(at)
        return at

    def _evaluate_and_keep(self, g: Tensor, expected: float) -> tuple[Evaluation, StoredPlan | None, StoredPlan | None]:
        evaluator, reg, budget = self.evaluator, self.reg, self.budget
        if budget.plain:
            return evaluator.plain(g, reg), None, None
        fine = keep_threshold(self._goal, evaluator.n, evaluator.m)
        at = None
        tried = budget.worth_sparse(reg, fine, evaluator.problem.is_points)
        if tried and budget.may_sample and not evaluator.sample_fits(g, reg, fine):
            budget.note_density(reg, False)
        elif tried:
            at, stored = evaluator.sparse(g, reg, fine)
            budget.note_density(reg, stored is not None)
            if stored is not None:
                return at, stored, None
        if not evaluator.problem.is_points:
            return *evaluator.dense(g, reg), None
        coarse = budget.coarse_threshold(expected, evaluator.n, evaluator.m)
        if at is None and self._newton_left() and coarse is not None:
            at, stored = evaluator.sparse(g, reg, coarse)
            budget.note_coarse(coarse, stored is not None, evaluator.n, evaluator.m)
            return at, None, stored
        return evaluator.plain(g, reg) if at is None else at, None, None

    def _note(self, at: Evaluation) -> None:
        if not self._watch.evaluations or at.error < self.best.error:
            self.best = at
        self._watch.evaluations.append(self.best.error)

    def _potential(self) -> Tensor:
        return self.stored.potential(self.point) if self.stored is not None else self.at.g

    def _cool(self) -> None:
        """Next level: extrapolate g linearly in reg from the last two."""
        reg, g = self.reg, self._potential()
        self.level = len(self.levels) - 1 if self.budget.annealing_is_over(self.evaluator.passes) else self.level + 1
        guess = g
        if self._before is not None:
            reg_before, g_before = self._before
            guess = g + (g - g_before) * ((self.reg - reg) / (reg - reg_before))
        self._before = (reg, g)
        self._enter(guess)

    def _enter(self, g: Tensor) -> None:
        self._watch.new_level(self.evaluator.passes)
        self._leaps = _LEAPS
        self._newton.forget()
        self.budget.new_level()
        self._evaluate(g)

    def _is_stuck(self) -> bool:
        """Whether a level that should be quick is not: at a tiny reg the potentials are then too far off to walk."""
        if not self.budget.anneal or not self._newton_left() or self._reheats >= _MOST_REHEATS:
            return False
        if self.error < _STUCK_ABOVE or self.evaluator.passes > 0.5 * self.budget.max_passes:
            return False
        return self._watch.stuck(self.evaluator.passes)

    def _reheat(self) -> None:
        """Go back to a larger reg, further each time, and come down again with more care."""
        self._reheats += 1
        g, target = self._potential(), self.levels[-1]
        start = min(self.reg * 16.0**self._reheats, 0.02 * self.evaluator.problem.cost_range)
        self.levels = descent(start, target, 2.0)
        self.level, self._before, self._level_tol = 0, None, _CAREFUL_TOL
        self._enter(g)

    def _steps_left(self) -> float:
        """Sinkhorn steps to the goal at the pace of the last ones."""
        if not 0 < self._pace < 1:
            return math.inf
        return math.log(self._goal / self.error) / math.log(self._pace)

    def _wants_newton(self, chi2: float) -> bool:
        """Newton where its model holds and Sinkhorn, at the pace just seen, would take longer."""
        if not (self._newton_left() and math.isfinite(chi2)):
            return False
        if self.budget.eager and chi2 <= _CHI2_GATE:
            return True
        if self._sinkhorn_steps < _FEW_STEPS:
            return False
        if chi2 > _CHI2_GATE:
            return self._sinkhorn_steps >= _MOST_SINKHORN_STEPS
        return self._steps_left() > (_NEWTON_READS if self._last_level else _FEW_STEPS)

    def _chunk(self, chi2: float) -> int:
        if self._sinkhorn_steps < _FEW_STEPS or (self._newton_left() and chi2 > _CHI2_GATE):
            return _FEW_STEPS
        return min(_CHUNK, max(_FEW_STEPS, math.ceil(min(self._steps_left(), _CHUNK))))

    def _stored_move(self, stored: StoredPlan) -> tuple[str, dict[str, Any]]:
        """One move on the stored plan; falls back to an evaluation when the plan has served its time."""
        point = self.point
        chi2 = float(((self.evaluator.problem.b - point.c).square() / point.c).sum())
        if self._wants_newton(chi2):
            self.n_newton += 1
            made = self._newton.on_stored(stored, point, chi2, self._goal)
            self.n_cg += made.cg
            if made.point is not None:
                self.point = made.point
                return "newton", made.detail | {"density": stored.density}
            if made.left and made.direction is not None and self._leaps > 0:
                self._leaps -= 1
                self._evaluate(stored.potential(point) + self.reg * made.direction, point.error)
                return "evaluation", made.detail
            if made.left and made.direction is not None:  # leaping led nowhere: search along it by evaluations
                g, residual = stored.potential(point), self.evaluator.problem.b - point.c
                alpha = self._search_by_passes(g, made.direction, residual, made.detail["lambda"], chi2, point.error)
                return "evaluation", made.detail | {"alpha": alpha}
        steps = min(self._chunk(chi2), stored.affordable_steps())
        before = point.error
        v = point.v * (self.evaluator.problem.b / point.c)
        if steps == 0:
            return "newton", {}  # failed, and used the budget up
        if stored.inside(v):
            self.point, errors = stored.sinkhorn(v, steps, self._goal)
            self._sinkhorn_steps += len(errors)
            self._pace = _pace(before, errors)
            if self.point.error < before * (1 + 1e-12):
                return "sinkhorn", {"density": stored.density, "steps": len(errors)}
        self._evaluate(
            self.evaluator.column_update(self.at) if stored.at.error <= self.point.error else self._potential()
        )
        return "evaluation", {}

    def _pass_move(self) -> tuple[str, dict[str, Any]]:
        """One move by passes alone: Newton on the coarse plan or with products on the fly, else a column update."""
        chi2 = float(((self.evaluator.problem.b - self.at.c).square() / self.at.c).sum())
        self.budget.leave_plain(chi2)
        newton = self._pass_newton(chi2) if self._newton_left() and not self.budget.plain else None
        if newton is not None:
            return "newton", newton
        self._evaluate(self.evaluator.column_update(self.at), self.at.error)
        self.budget.note_sinkhorn(self.at.error)
        return "column update", {}

    def _pass_newton(self, chi2: float) -> dict[str, Any] | None:
        """Newton step whose line search evaluates; None if it is not the time for one or nothing helps."""
        at = self.at
        if not chi2 <= _CHI2_GATE:
            return None
        if self.coarse is not None:
            self.n_newton += 1
            direction, cg, lam = self._newton.on_coarse(self.coarse, chi2, self._goal)
        elif self.budget.sinkhorn_is_slow(at.error, self.tol):
            self.n_newton += 1
            direction, cg = self._newton.on_the_fly(self.evaluator, at, self._goal)
            lam = 0.0
        else:
            return None
        self.n_cg += cg
        alpha = self._search_by_passes(at.g, direction, self.evaluator.problem.b - at.c, lam, chi2, at.error)
        if alpha is None:
            self.at, self.stored, self.coarse = at, None, None
            return None
        return {"alpha": alpha, "lambda": lam, "cg": cg}

    def _search_by_passes(
        self, g: Tensor, direction: Tensor, residual: Tensor, lam: float, chi2: float, error: float
    ) -> float | None:
        """Line search on the derivative whose trials are evaluations; moves there and returns alpha, None if all failed."""
        slope, alpha = float(torch.dot(residual, direction)), 1.0
        for _ in range(SEARCH_TRIALS if slope > 0 else 0):
            if self.passes >= self.budget.max_passes:
                return None
            self._evaluate(g + (self.reg * alpha) * direction, error * error)
            slope_there = float(torch.dot(self.evaluator.problem.b - self.at.c, direction))
            if slope_there >= -SUFFICIENT * slope:
                self._newton.adapt(lam, chi2, alpha)
                return alpha
            alpha *= min(max(slope / (slope - slope_there), 0.1), 0.6) if math.isfinite(slope_there) else 0.1
        self._newton.dampen(lam, chi2)
        return None

    # The step of the solve loop ------------------------------------------------------------------------------------

    def step(self) -> tuple[Record, str | None]:
        """Make one move; return its record and, at the end, the status."""
        move: str = "none"
        detail: dict[str, Any] = {}
        status = self._status()
        if status is None:
            move, detail = self._move()
            status = self._status()
        if status not in (None, "converged"):
            status = self.end(status)
        return self._record(move, detail), status

    def end(self, status: str) -> str:
        """End before convergence: tell the true error of where the solve had come, and the status that it makes."""
        self._settle()
        return "converged" if self._status() == "converged" else status

    def _move(self) -> tuple[str, dict[str, Any]]:
        late = self.budget.annealing_is_over(self.evaluator.passes)
        if not self._last_level and (self.error <= self._goal or late):
            self._cool()
            return "cool", {}
        if self._is_stuck():
            self._reheat()
            return "reheat", {}
        if self.stored is None:
            return self._pass_move()
        if self.error <= self._goal:
            self._verify()
            return "evaluation", {}
        return self._stored_move(self.stored)

    def _verify(self) -> None:
        """Evaluate where the stored plan says that we are done."""
        g, stored = self._potential(), self.stored
        at = stored.exact(self.point) if stored is not None else None
        at = self.evaluator.plain(g, self.reg) if at is None else at
        self._note(at)
        self.at, self.stored, self.coarse = at, None, None
        if at.error > self.tol and stored is not None and not self.budget.plain:
            self._evaluate(self.evaluator.column_update(at))

    def _settle(self) -> None:
        """At the end of a solve that did not converge: one evaluation tells the true error of where it led."""
        at: Evaluation | None = None
        if not self._last_level:  # the budget ended on the way down: what counts is the target reg
            g, self.level = self._potential(), len(self.levels) - 1
        elif self.stored is not None and self.point.error != self.stored.at.error:
            g, at = self._potential(), self.stored.exact(self.point)
        else:
            self.stored = None
            return
        at = self.evaluator.plain(g, self.reg) if at is None else at
        self._note(at)
        self.at, self.stored, self.coarse = at, None, None

    def _status(self) -> str | None:
        if self._last_level and self.best.error <= self.tol and self.best.reg == self.reg:
            return "converged"
        if self.passes >= self.budget.max_passes or (self.stored is not None and self.stored.affordable_steps() < 1):
            return "max_passes"
        if self._watch.halved(self.evaluator.passes, self.error):
            self._leaps = _LEAPS
        if not self._last_level:
            return None
        return self._watch.verdict(self.evaluator.passes, self.error, self.best.error)

    def _record(self, move: str, detail: dict[str, Any]) -> Record:
        return {
            "move": move,
            "reg": self.reg,
            "error": self.error,
            "alpha": detail.get("alpha"),
            "lambda": detail.get("lambda"),
            "density": detail.get("density"),
            "cg": detail.get("cg", 0),
            "passes": self.passes,
            "seconds": time.perf_counter() - self._started,
        }
