"""Loading a state dict: torch's order of hooks and its checks, but states keep the dtype that they were saved in."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from itertools import chain
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def _copied(value: Any, device: Any, key: str | None = None) -> Any:
    if isinstance(value, Tensor):
        return value.clone() if key == "step" else value.to(device, copy=True)
    if isinstance(value, dict):
        return {name: _copied(entry, device, name) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(entry, device) for entry in value)
    return value


def load_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Replace state and groups of ``optimizer`` by copies of what was saved."""
    state_dict = state_dict.copy()
    for pre_hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        changed = pre_hook(optimizer, state_dict)
        if changed is not None:
            state_dict = changed
    groups, saved = optimizer.param_groups, deepcopy(state_dict["param_groups"])
    if len(groups) != len(saved):
        raise ValueError("loaded state dict has a different number of parameter groups")
    if any(len(group["params"]) != len(other["params"]) for group, other in zip(groups, saved, strict=True)):
        raise ValueError(
            "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
        )
    params = dict(zip(chain(*(g["params"] for g in saved)), chain(*(g["params"] for g in groups)), strict=True))
    state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    for key, value in state_dict["state"].items():
        if key in params:
            state[params[key]] = _copied(value, params[key].device)
        else:
            state[key] = value
    for group, other in zip(groups, saved, strict=True):
        other["params"] = group["params"]
        if "param_names" in group:
            other.setdefault("param_names", group["param_names"])
        for name, value in group.items():  # keys of ours that another optimizer does not have
            other.setdefault(name, value)
    optimizer.__setstate__({"state": state, "param_groups": saved})
    for post_hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        post_hook(optimizer)
