"""What every iterative solver returns: the outcome, told without being asked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any


class ConvergenceWarning(UserWarning):
    """A solver ended before its tolerance was reached; the message names the figure reached."""


class ConvergenceError(RuntimeError):
    """Raised by ``result.raise_if_failed()`` when a solver did not converge."""


_ENDINGS = {
    "max_passes": "the budget of passes was used up",
    "precision_limit": "rounding in this dtype allows no smaller error",
    "infeasible_or_stalled": "no progress: the constraints may admit no solution",
    "interrupted": "interrupted from the keyboard",
    "stopped": "stopped by the callback",
}


@dataclass
class SolveResult:
    """Outcome common to all solvers.

    Attributes
    ----------
    status : str
        ``"converged"``, ``"max_passes"``, ``"precision_limit"``, ``"infeasible_or_stalled"``, ``"interrupted"`` or
        ``"stopped"``.
    history : list of dict
        One record per step, plain numbers only.
    """

    operation: str
    status: str
    error: float
    tol: float
    history: list[dict[str, Any]] = field(repr=False)

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached."""
        return self.status == "converged"

    @property
    def message(self) -> str:
        """How the solve ended and the error reached, in a sentence."""
        if self.converged:
            return f"{self.operation}: converged, error {self.error:.3g} <= tol {self.tol:.3g}"
        ending = _ENDINGS[self.status]
        return f"{self.operation}: not converged ({self.status}): {ending}; error {self.error:.3g}, tol {self.tol:.3g}"

    def raise_if_failed(self) -> None:
        """Raise ``ConvergenceError`` unless the solver converged."""
        if not self.converged:
            raise ConvergenceError(self.message)

    def warn_if_failed(self, stacklevel: int = 3) -> None:
        """Warn once, naming the error reached, unless the solver converged."""
        if not self.converged:
            warnings.warn(self.message, ConvergenceWarning, stacklevel=stacklevel + 1)
