"""Which way to go: annealing or not, Newton or Sinkhorn, for the budget at hand."""

from __future__ import annotations

import torch
from torch import Tensor

from ._evaluation import Evaluator
from ._newton import Newton, schedule


def plan_of_attack(
    evaluator: Evaluator,
    start: Tensor | None,
    reg: float,
    tol: float,
    max_newton: int,
    max_passes: int,
    method: str,
    eps_scaling: bool,
) -> Newton:
    """Return the solver, ready to step."""
    problem = evaluator.problem
    levels = schedule(problem.cost_range, reg) if eps_scaling and start is None else [reg]
    g = torch.zeros_like(problem.b) if start is None else start
    return Newton(evaluator, g, levels, tol, max_newton, max_passes)
