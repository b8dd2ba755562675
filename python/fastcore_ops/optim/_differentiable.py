"""Steps that autograd looks on: what they do not support, and the step itself, one parameter after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._flat import scalar_dtype
from ._parameter_checks import check_parameter
from ._reference_step import differentiable_step
from ._rule import number

if TYPE_CHECKING:
    from ._optimizer import FusedOptimizer


def check_differentiable(optimizer: FusedOptimizer, group: dict[str, Any]) -> None:
    """Refuse a group with ``differentiable`` whose other keys such a step would not heed."""
    set_keys = ("skip_nonfinite", "perp_grad", "master_weights")
    given = ("max_norm", "clip_value", "clip_quantile", "state_dtype")
    names = [f"`{name}`" for name in set_keys if group[name]]
    names += [f"`{name}`" for name in given if group[name] is not None]
    if group["rounding"] != "nearest":
        names.append(f'`rounding="{group["rounding"]}"`')
    if isinstance(group["lr"], Tensor) and group["lr"].requires_grad:
        names.append("an `lr` that requires a gradient")
    if optimizer.has_sums:
        names.append("a step that needs sums")
    if names:
        raise RuntimeError(f"{type(optimizer).__name__}: `differentiable` is not supported with {', '.join(names)}")


def check_step(optimizer: FusedOptimizer, group: dict[str, Any], params: list[Tensor]) -> None:
    """Refuse, before anything is stepped, what a step that autograd looks on would not heed."""
    check_differentiable(optimizer, group)
    name = type(optimizer).__name__
    for attribute in ("grad_scale", "found_inf"):
        if getattr(optimizer, attribute, None) is not None:
            raise RuntimeError(f"{name}: `differentiable` is not supported with a GradScaler's `{attribute}`")
    if optimizer._norm_limit is not None:
        raise RuntimeError(f"{name}: `differentiable` is not supported with a clipping wrapper")
    for p in params:
        check_parameter(optimizer, group, p)


def step_group(optimizer: FusedOptimizer, group: dict[str, Any], params: list[Tensor]) -> None:
    """One step of these parameters of a group."""
    states, hyper = optimizer.states(group), optimizer.hyper(group)
    hyper[0] = number(group["lr"])
    for p in params:
        assert p.grad is not None
        state = optimizer.state[p]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=scalar_dtype())
            for kind in states:
                state[kind.name] = p.clone() if kind.copies_parameter else torch.full_like(p.detach(), kind.initial)
        g = -p.grad if group["maximize"] else p.grad
        differentiable_step(optimizer.rule, p, g, state, [kind.name for kind in states], hyper)
