"""What happens to gradients before the rule sees them: clipping to a norm, projection off the parameter, limits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-30


def needs_sums(group: dict[str, Any]) -> bool:
    """Whether a group's step needs sums over whole gradients."""
    return group["max_norm"] is not None or group["skip_nonfinite"] or group["perp_grad"]


def total_norm(squares: float, grad_scale: float) -> float:
    """Norm of all unscaled gradients."""
    return math.sqrt(squares) / grad_scale if squares >= 0 else math.nan


def coefficients(
    group: dict[str, Any], params: list[Tensor], sums: Tensor | None, norm: float, grad_scale: float
) -> Tensor | None:
    """Factor, scale, share along the parameter and limit of each gradient, (4, n) float64; None where nothing changes.

    The prologue computes ``(f g - along p) * scale`` with f = factor * sign / grad_scale, then cuts to the limit.
    """
    limit = math.inf if group["clip_value"] is None else float(group["clip_value"])
    if not needs_sums(group) and limit == math.inf:
        return None
    rows = torch.ones(4, len(params), dtype=torch.float64)
    rows[2], rows[3] = 0.0, limit
    if group["max_norm"] is not None:
        rows[0] = min(1.0, float(group["max_norm"]) / (norm + 1e-6)) if not math.isnan(norm) else math.nan
    if group["perp_grad"] and sums is not None:
        sign = -1.0 if group["maximize"] else 1.0
        _project(rows, sums.cpu(), rows[0] * sign / grad_scale, group, params)
    return rows


def _project(rows: Tensor, sums: Tensor, factor: Tensor, group: dict[str, Any], params: list[Tensor]) -> None:
    """Take out the part along the parameter and give the rest the length of the whole; what is rounding alone becomes 0."""
    square_p, product, square_g = sums
    share = product / (square_p + _TINY)
    left = (square_g - product * product / square_p.clamp_min(_TINY)).clamp_min(0.0).sqrt()
    whole = square_g.sqrt()
    scale = whole / (left + _TINY) if group["perp_rescale"] else torch.ones_like(whole)
    eps = torch.finfo(params[0].dtype).eps
    scale = torch.where(left <= 4 * eps * whole, torch.zeros_like(scale), scale)
    large = torch.tensor([p.numel() >= group["perp_min_numel"] for p in params])
    rows[1] = torch.where(large, scale, 1.0)
    rows[2] = torch.where(large, share * factor, 0.0)
