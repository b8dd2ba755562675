"""Readable truth of the public calls: Sinkhorn's plain iteration and the definitions of plan and value, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_sinkhorn(
    cost: Tensor, a: Tensor, b: Tensor, reg: float, passes: int, tol: float = 0.0
) -> tuple[Tensor, Tensor, list[float]]:
    """Sinkhorn's iteration in the log domain from g = 0: potentials (f, g) and the error after each pass.

    A pass makes the rows exact, ``f = -reg log sum_j b_j exp((g_j - C_ij) / reg)``, and measures the columns; then
    ``g = -reg log sum_i a_i exp((f_i - C_ij) / reg)``. The g that comes back is the one that was measured.
    """
    cost, a, b = cost.double(), a.double(), b.double()
    log_a, log_b = a.log(), b.log()
    f, g, errors = torch.zeros_like(a), torch.zeros_like(b), []
    following = g
    for _ in range(passes):
        g = following
        f = -reg * torch.logsumexp(log_b + (g - cost) / reg, dim=1)
        following = -reg * torch.logsumexp(log_a[:, None] + (f[:, None] - cost) / reg, dim=0)
        errors.append(float((b * ((g - following) / reg).exp() - b).abs().sum() / b.sum()))
        if errors[-1] <= tol:
            break
    return f, g, errors


def solution(cost: Tensor, a: Tensor, b: Tensor, reg: float, passes: int = 20_000) -> dict[str, Tensor]:
    """Potentials with <b, g> = 0, plan ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``, ``<C, P>`` and
    ``<C, P> + reg KL(P | a b^T)`` with ``KL(P | Q) = sum P log(P / Q) - P + Q``; solved to rounding.
    """  # fmt: skip
    b = b * (a.sum() / b.sum())
    f, g, _ = plain_sinkhorn(cost, a, b, reg, passes, tol=2e-15)
    gauge = torch.dot(b, g) / b.sum()
    f, g = f + gauge, g - gauge
    product = a[:, None] * b
    exponent = (f[:, None] + g - cost) / reg
    plan = product * exponent.exp()
    none = torch.zeros_like(plan)
    linear = (plan * cost.where(plan > 0, none)).sum()
    divergence = (plan * exponent.where(plan > 0, none) - plan + product).sum()
    return {"f": f, "g": g, "plan": plan, "linear_cost": linear, "value": linear + reg * divergence}
