"""How far to anneal, what to store, and what the budget allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_DIRECT = 1 / 150  # of the range: above, a solve starts at its target
_START, _RATIO = 0.02, 4.0
_LEAST_PASSES, _FEW_NEWTON_STEPS, _FEW_PASSES = 30, 5, 200
_SURE_CHI2 = 1e-4  # below: a Newton step is as good as certain to pay
_ANNEALING_SHARE = 1 / 3  # of the passes
_LIKELY = 0.25  # expected density up to which a sparse plan is tried
_COARSEST = 0.05  # share of the mass that a coarse plan may drop


def descent(first: float, last: float, ratio: float) -> list[float]:
    """Levels from ``first`` to ``last``, both included, in equal ratios of about ``ratio``."""
    if not first > last:
        return [last]
    count = max(1, round(math.log(first / last, ratio)))
    return [first * (last / first) ** (k / count) for k in range(count)] + [last]


def schedule(cost_range: float, reg: float) -> list[float]:
    """Levels of the annealing, largest first, down to ``reg``; a moderate ``reg`` needs none."""
    return descent(_START * cost_range, reg, _RATIO) if reg < _DIRECT * cost_range else [reg]


def keep_threshold(goal: float, n: int, m: int) -> float:
    """Entries below this share of min(a_i, b_j) are left out: together they are below a hundredth of the goal."""
    return max(1e-2 * goal, 1e-16) / max(n, m)


def direction_threshold(error: float, n: int, m: int) -> float:
    """For the direction of one Newton step at an evaluation the dropped mass may be as large as the error squared."""
    return max(0.1 * min(error * error, 0.05), 1e-16) / max(n, m)


def is_small(max_newton: int, max_passes: int) -> bool:
    """Whether a budget is too small to be invested: it is then spent as plain Sinkhorn would spend it.

    A solve must never end worse than Sinkhorn's iteration after as many passes at the target reg.
    """
    return max_passes < _LEAST_PASSES or (max_newton <= _FEW_NEWTON_STEPS and max_passes <= _FEW_PASSES)


@dataclass
class Budget:
    """Limits of a solve and what it has learnt about its problem."""

    max_newton: int
    max_passes: int
    cost_range: float
    anneal: bool = True
    plain: bool = False  # column updates by evaluations alone, until Newton is sure to help
    eager: bool = False  # Newton wherever its model holds, whatever Sinkhorn's pace
    fitted_before: bool = False  # a sparse plan did: at a smaller reg it will again
    _too_dense_above: float = math.inf
    _coarse_floor: float = 0.0
    _errors: list[float] = field(default_factory=list)

    def leave_plain(self, chi2: float) -> None:
        """End plain Sinkhorn when a Newton step is left and sure to pay."""
        if self.plain and self.max_newton > 0 and self.max_passes >= _LEAST_PASSES and chi2 <= _SURE_CHI2:
            self.plain = False

    def annealing_is_over(self, passes: float) -> bool:
        """Whether the rest of the passes should go to the target reg."""
        return passes >= _ANNEALING_SHARE * self.max_passes

    def worth_sparse(self, reg: float, threshold: float, points: bool) -> bool:
        """Whether a sparse plan is likely: for a cost spread evenly, its density is about reg log(1/threshold) / range.

        Between points in order it is less, and there is no dense plan to turn to.
        """
        expected = reg * -math.log(threshold) / max(self.cost_range, 1e-300)
        return expected < (1.0 if points else _LIKELY) and reg < self._too_dense_above

    @property
    def may_sample(self) -> bool:
        """Whether a share of a pass may go into finding out if a plan is sparse; a small budget has none to spare."""
        return not self.fitted_before and self.max_passes > _FEW_PASSES

    def note_density(self, reg: float, fitted: bool) -> None:
        """Remember at which reg a sparse plan did not fit."""
        self.fitted_before = fitted
        if not fitted:
            self._too_dense_above = min(self._too_dense_above, reg)

    def coarse_threshold(self, error: float, n: int, m: int) -> float | None:
        """Threshold of a coarse plan that is likely to fit; None if even the coarsest useful one did not."""
        threshold = max(direction_threshold(error, n, m), self._coarse_floor / max(n, m))
        return threshold if threshold * max(n, m) < _COARSEST else None

    def note_coarse(self, threshold: float, fitted: bool, n: int, m: int) -> None:
        """After a misfit drop ten times more; the direction is then good to about what was dropped."""
        if not fitted:
            self._coarse_floor = 10 * threshold * max(n, m)

    def new_level(self) -> None:
        """A smaller reg makes sparser plans: try anew."""
        self._coarse_floor = 0.0
        self._errors.clear()

    def note_sinkhorn(self, error: float) -> None:
        """Remember how Sinkhorn converges."""
        self._errors.append(error)

    def sinkhorn_is_slow(self, error: float, tol: float) -> bool:
        """Whether, at the pace of the last updates, more than 15 passes are left (a Newton step on the fly takes about ten)."""
        if self.eager:
            return True
        seen = self._errors[-3:]
        if len(seen) < 3 or not 0 < error < 0.1:
            return False
        pace = (seen[-1] / seen[0]) ** (1 / 2)
        return pace >= 1 or math.log(tol / error) / math.log(pace) > 15
