"""How far to anneal, what to store, and what the budget allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ._evaluation import DENSITY_SWITCH

_START, _RATIO = 0.25, 4.0


def schedule(cost_range: float, reg: float) -> list[float]:
    """Levels of the annealing, largest first, in equal ratios down to ``reg``."""
    first = _START * cost_range
    if not first > reg:
        return [reg]
    count = max(1, round(math.log(first / reg, _RATIO)))
    return [first * (reg / first) ** (k / count) for k in range(count)] + [reg]


def keep_threshold(goal: float, n: int, m: int) -> float:
    """Entries below this share of min(a_i, b_j) are left out: together they are below a hundredth of the goal."""
    return max(1e-2 * goal, 1e-16) / max(n, m)


@dataclass
class Budget:
    """Limits of a solve and what it has learnt about its problem."""

    max_newton: int
    max_passes: int
    cost_range: float
    anneal: bool = True
    plain: bool = False  # column updates by passes alone
    _too_dense_above: float = math.inf
    _errors: list[float] = field(default_factory=list)

    def worth_sparse(self, reg: float, threshold: float) -> bool:
        """Whether a sparse plan is likely: for a cost spread evenly, its density is about reg log(1/threshold) / range."""
        expected = reg * -math.log(threshold) / max(self.cost_range, 1e-300)
        return expected < 2.0 * DENSITY_SWITCH and reg < self._too_dense_above

    def note_density(self, reg: float, fitted: bool) -> None:
        """Remember at which reg a sparse plan did not fit."""
        if not fitted:
            self._too_dense_above = min(self._too_dense_above, reg)

    def note_sinkhorn(self, error: float) -> None:
        """Remember how Sinkhorn converges."""
        self._errors.append(error)

    def sinkhorn_is_slow(self, error: float, tol: float) -> bool:
        """Whether, at the pace of the last updates, more than 60 passes are left."""
        seen = self._errors[-4:]
        if len(seen) < 4 or not 0 < error < 0.1:
            return False
        pace = (seen[-1] / seen[0]) ** (1 / 3)
        return pace >= 1 or math.log(tol / error) / math.log(pace) > 60
