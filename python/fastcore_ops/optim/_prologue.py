"""What happens to gradients before the rule sees them: clipping to a norm, projection off the parameter, limits.

Everything is computed by tensor operations where the parameters are, so that nobody waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._call import Call, Scaling, plain_rows, total

_TINY = 1e-30


def needs_sums(group: dict[str, Any]) -> bool:
    """Whether a group's step must look at whole gradients first."""
    return (
        group["max_norm"] is not None
        or group["skip_nonfinite"]
        or group["perp_grad"]
        or group["clip_quantile"] is not None
    )


def constant_rows(group: dict[str, Any], call: Call) -> Tensor | None:
    """Coefficients that no gradient has a say in, (4, n); None where nothing changes."""
    if group["clip_value"] is None:
        return None
    rows = plain_rows(len(call.params), call.device)
    rows[3] = float(group["clip_value"])
    return rows


def prepare_rows(
    calls: list[Call], scaling: Scaling, limit: Callable[[Tensor, Scaling], Tensor] | None, clips_gradient: bool
) -> Scaling:
    """Give each call its coefficients; the scaling returned tells whether a gradient that is not finite skips the step.

    A call's coefficients are factor, scale, share along the parameter and limit: the kernel computes ``(f g - along p) *
    scale`` with ``f = factor * sign / grad_scale`` and cuts it to the limit. ``limit`` makes a norm to clip all of them to.
    """
    clips = limit is not None or (clips_gradient and any(call.group["max_norm"] is not None for call in calls))
    for call in calls:
        call.rows = constant_rows(call.group, call)
        if call.group["perp_grad"]:
            call.sums = call.measure("dots", None)
        elif clips or call.group["skip_nonfinite"]:
            call.sums = call.measure("squares", None)
    scaling = _skipping(calls, scaling)
    if clips:
        norm = _total_norm(calls, scaling)
        ceiling = None if limit is None else limit(norm, scaling)
        for call in calls:
            _clip(call, norm, _least(ceiling, call.group["max_norm"] if clips_gradient else None))
    for call in calls:
        if call.group["perp_grad"]:
            _project(call, scaling)
        call.sums = None
        if call.group["clip_quantile"] is not None:
            _cut(call, scaling)
    return scaling


def _total_norm(calls: list[Call], scaling: Scaling) -> Tensor:
    """Norm of all unscaled gradients."""
    for call in calls:
        if call.sums is None:
            call.sums = call.measure("squares", None)
    device = calls[0].device
    norm = total(calls, device, slice(-1, None))[0].sqrt()
    return norm if scaling.grad_scale is None else norm / scaling.grad_scale.to(device)


def _skipping(calls: list[Call], scaling: Scaling) -> Scaling:
    """Skip the step of all groups if a gradient is not finite in one that asks for it."""
    asking = [call for call in calls if call.group["skip_nonfinite"]]
    if not asking:
        return scaling
    found = (~_total_norm(asking, scaling).isfinite()).float()
    if scaling.found_inf is not None:
        found = torch.maximum(found, scaling.found_inf.to(found))
    return Scaling(scaling.grad_scale, found)


def _least(ceiling: Tensor | None, most: float | None) -> float | Tensor | None:
    """The lower of a wrapper's norm and the group's own."""
    if ceiling is None or most is None:
        return most if ceiling is None else ceiling
    return ceiling.clamp(max=float(most))


def _clip(call: Call, norm: Tensor, most: float | Tensor | None) -> None:
    if most is None:
        return
    if call.rows is None:
        call.rows = plain_rows(len(call.params), call.device)
    factor = (most / (norm + 1e-6)).clamp(max=1.0).to(call.device)
    call.rows[0] = factor


def _cut(call: Call, scaling: Scaling) -> None:
    """Limit each gradient's elements to a quantile of their magnitudes (after the limit that is given, if there is one)."""
    if call.rows is None:
        call.rows = plain_rows(len(call.params), call.device)
    call.rows[3] = call.quantile(float(call.group["clip_quantile"]), scaling)


def _project(call: Call, scaling: Scaling) -> None:
    """Take out the part along the parameter and give the rest the length of the whole; what is rounding alone becomes 0."""
    group = call.group
    if call.rows is None:
        call.rows = plain_rows(len(call.params), call.device)
    assert call.sums is not None
    factor = call.rows[0] * (-1.0 if group["maximize"] else 1.0)
    if scaling.grad_scale is not None:
        factor = factor / scaling.grad_scale.to(factor.device)
    square_p, product, square_g = call.sums
    share = product / (square_p + _TINY)
    left = (square_g - product * product / square_p.clamp_min(_TINY)).clamp_min(0.0).sqrt()
    length = square_g.sqrt()
    scale = length / (left + _TINY) if group["perp_rescale"] else torch.ones_like(length)
    eps = torch.finfo(call.params[0].dtype).eps
    scale = torch.where(left <= 4 * eps * length, torch.zeros_like(scale), scale)
    large = call.constant([p.numel() >= group["perp_min_numel"] for p in call.owners], call.device)
    call.rows[1] = torch.where(large, scale, torch.ones_like(scale))
    call.rows[2] = torch.where(large, share * factor, torch.zeros_like(share))
