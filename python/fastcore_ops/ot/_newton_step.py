"""One damped Newton step: log residual, conjugate gradients, a line search that looks at derivatives alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ._evaluation import Evaluation, Evaluator, Scaled, StoredPlan
from ._schedule import direction_threshold

_CG_CAP = 2000
_CG_CAP_ON_THE_FLY = 60  # each iteration is a pass
SUFFICIENT = 0.9
SEARCH_TRIALS = 4
_DAMPING_TRIALS = 12


@dataclass
class Made:
    """What a step led to: a point, or a direction to follow by an evaluation, or neither."""

    point: Scaled | None = None
    direction: Tensor | None = None
    left: bool = False  # the step leads out of the stored plan's reach
    cg: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


class NewtonStep:
    """Levenberg-Marquardt damping carried from step to step, in units of sqrt(chi2)."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._b, self._exp, self._log = evaluator.problem.b, evaluator.exp, evaluator.log
        self._mu = 0.0

    def forget(self) -> None:
        """Start a level undamped."""
        self._mu = 0.0

    def _log_residual(self, c: Tensor) -> Tensor:
        """C (log(b / c) - kappa), summing to zero: equal to b - c to first order, and exact for decoupled columns."""
        log_ratio = self._log(self._b / c)
        return c * (log_ratio - torch.dot(c, log_ratio) / c.sum())

    def _cg_tol(self, error: float, goal: float) -> float:
        return max(min(0.1, error), 0.25 * goal / error)

    def _centred(self, direction: Tensor) -> Tensor:
        return direction - torch.dot(self._b, direction)

    def on_stored(self, stored: StoredPlan, point: Scaled, chi2: float, goal: float) -> Made:
        """Step on a stored plan; ``direction`` is in units of reg."""
        b, c = self._b, point.c
        residual, rhs = b - c, self._log_residual(c)
        root = math.sqrt(chi2)
        lam, total = self._mu * root, 0
        threshold = direction_threshold(point.error, point.u.numel(), c.numel())
        for _ in range(_DAMPING_TRIALS):
            damping = lam * torch.maximum(b, c)
            solved, cg = stored.newton_direction(
                point, damping, rhs, threshold, self._cg_tol(point.error, goal), _CG_CAP
            )
            total += cg
            direction = self._centred(solved)
            made = self._search(stored, point, direction, residual)
            if made.left:
                return Made(direction=made.direction, left=True, cg=total, detail={"lambda": lam, "cg": total})
            if made.point is not None:
                alpha = made.detail["alpha"]
                self.adapt(lam, chi2, alpha)
                return Made(made.point, cg=total, detail={"alpha": alpha, "lambda": lam, "cg": total})
            if stored.affordable_steps() < 1:
                break
            lam = max(4 * lam, 0.1 * root)
        return Made(cg=total)

    def adapt(self, lam: float, chi2: float, alpha: float) -> None:
        """After a success: less damping for a full step, some at least for a short one."""
        mu = lam / math.sqrt(chi2)
        mu = mu / 4 if alpha == 1.0 else max(mu, 0.05)
        self._mu = 0.0 if mu < 1e-3 else mu

    def dampen(self, lam: float, chi2: float) -> None:
        """After a failure."""
        self._mu = max(4 * lam / math.sqrt(chi2), 0.1)

    def on_coarse(self, coarse: StoredPlan, chi2: float, goal: float) -> tuple[Tensor, int, float]:
        """Direction at an evaluation from a plan that dropped more: the full diagonal makes what is missing damp."""
        point = coarse.start()
        lam = self._mu * math.sqrt(chi2)
        damping = lam * torch.maximum(self._b, point.c)
        tol = self._cg_tol(point.error, goal)
        direction, cg = coarse.newton_direction(point, damping, self._log_residual(point.c), 0.0, tol, _CG_CAP)
        return self._centred(direction), cg, lam

    def _search(self, stored: StoredPlan, point: Scaled, direction: Tensor, residual: Tensor) -> Made:
        """Accept when the derivative along the step has not turned over: comparing values fails below 1e-8."""
        slope = float(torch.dot(residual, direction))
        if not slope > 0:
            return Made()
        alpha = 1.0
        for _ in range(min(SEARCH_TRIALS, stored.affordable_steps())):
            v = point.v * self._exp(alpha * direction)
            if not stored.inside(v):
                # Follow a sound step out of the plan's reach; a wild one is shortened first.
                if alpha * float(direction.abs().max()) <= 2 * stored.limit:
                    return Made(direction=alpha * direction, left=True)
                alpha *= 0.4
                continue
            trial = stored.evaluate(v)
            slope_there = float(torch.dot(self._b - trial.c, direction))
            if slope_there >= -SUFFICIENT * slope:
                return Made(trial, detail={"alpha": alpha})
            shrink = slope / (slope - slope_there) if math.isfinite(slope_there) else 0.0
            alpha *= min(max(shrink, 0.1), 0.6)
        return Made()

    def on_the_fly(self, evaluator: Evaluator, at: Evaluation, goal: float) -> tuple[Tensor, int]:
        """Direction by conjugate gradients whose products recompute the plan: for dense plans that cannot be stored."""
        rhs, diagonal = self._log_residual(at.c), at.c
        tol = max(self._cg_tol(at.error, goal), 1e-4)
        x, r, p = torch.zeros_like(rhs), rhs.clone(), torch.zeros_like(rhs)
        size, rho_before, iterations = float(r.abs().sum()), 1.0, 0
        while (
            iterations < _CG_CAP_ON_THE_FLY
            and evaluator.passes + 2 < evaluator.max_passes
            and float(r.abs().sum()) > tol * size
        ):
            z = r / diagonal
            rho = float(torch.dot(r, z))
            p = z + (rho / rho_before if iterations else 0.0) * p
            q = diagonal * p - evaluator.product(at.g, at.reg, p[None], None)[1][0]
            curvature = float(torch.dot(p, q))
            if not curvature > 0:
                break
            x += (rho / curvature) * p
            r -= (rho / curvature) * q
            rho_before, iterations = rho, iterations + 1
        return self._centred(x), iterations
