"""Whether a solve still gets anywhere."""

from __future__ import annotations

import math

_STALLED_EVALUATIONS = 4
_STALLED_PASSES, _STALLED_NEAR_FLOOR, _STUCK_PASSES = 400, 20, 40
_NEAR_FLOOR = 100


class Watch:
    """Follows the error of a solve; ``floor`` is what rounding alone makes."""

    def __init__(self, floor: float) -> None:
        self._floor = floor
        self.evaluations: list[float] = []  # least error so far after each evaluation of the last level
        self._entered = 0.0  # passes when the level was entered
        self._halved_at, self._last_half = 0.0, math.inf  # passes when the error last halved, and the error then
        self._fell_at, self._least = 0.0, math.inf  # the same for a fall by a thousandth

    def new_level(self, passes: float) -> None:
        """Start anew: another reg, another error."""
        self._entered = self._halved_at = passes
        self._last_half = math.inf

    def halved(self, passes: float, error: float) -> bool:
        """Take note of the error; whether it has halved since it last did."""
        if not error < 0.5 * self._last_half:
            return False
        self._last_half, self._halved_at = error, passes
        return True

    def stuck(self, passes: float) -> bool:
        """Whether a level that should be quick is not."""
        return passes - max(self._entered, self._halved_at) > _STUCK_PASSES

    def verdict(self, passes: float, error: float, best: float) -> str | None:
        """Status of a solve that no longer gets better; None while it does."""
        if min(error, best) < 0.999 * self._least:
            self._fell_at, self._least = passes, min(error, best)
        near_floor = min(error, best) < _NEAR_FLOOR * self._floor
        seen = self.evaluations
        if near_floor and self._halved_at + _STALLED_NEAR_FLOOR < passes and len(seen) > _STALLED_EVALUATIONS:
            if seen[-1] > 0.5 * seen[-1 - _STALLED_EVALUATIONS]:
                return "precision_limit"
        if passes - self._fell_at > _STALLED_PASSES:
            return "precision_limit" if near_floor else "infeasible_or_stalled"
        return None
