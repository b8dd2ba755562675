"""States of a parameter group, flat: one tensor for each name, with every parameter at the same place in all of them.

The entries of ``optimizer.state`` share that memory. They are not slices but tensors with a storage object of their own
(by DLPack): pickled one by one, slices would each write the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_, itemgetter

import torch
from torch import Tensor

from ._rule import State
from ._switches import KAHAN, MASTER, SPLIT_MASTER

_ALIGNMENT = 64  # elements: each parameter starts a cache line, whatever the dtype


def is_dense(p: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in whatever order of the dimensions."""
    return p.is_contiguous() or torch.empty_like(p, device="meta").stride() == p.stride()


def layout_code(p: Tensor) -> int:
    """A number that changes with the order of the dimensions in memory; the operator computes it too."""
    code = 0
    for size, stride in zip(p.shape, p.stride(), strict=True):
        if size != 1:
            code = (code * 1_000_003 + stride) & 0x7FFFFFFF
    return code


def _view(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """The part of ``flat`` that belongs to a parameter, in the parameter's memory layout, as a tensor of its own."""
    view = torch.from_dlpack(flat[start : start + like.numel()])
    return view.as_strided(like.shape, like.stride()) if like.numel() and is_dense(like) else view.reshape(like.shape)


@dataclass
class Flat:
    """States of some parameters of one device and dtype."""

    params: list[Tensor]
    kinds: tuple[State, ...]
    states: list[Tensor]
    steps: Tensor
    products: Tensor | None
    extra: Tensor | None
    extra_name: str
    index: Tensor  # (4, n): start, slot, id, code of the memory layout
    views: dict[str, list[Tensor]]  # what stands in optimizer.state
    dtype: torch.dtype  # of the parameters (real, where they are complex)
    state_dtype: torch.dtype
    entries: list[dict[str, Tensor]] = field(default_factory=list)  # the parameters' dicts in optimizer.state

    def stands_in_its_entries(self) -> bool:
        """Whether nobody has replaced a tensor in them."""
        try:
            return all(all(map(is_, map(itemgetter(name), self.entries), views)) for name, views in self.views.items())
        except KeyError:
            return False

    def start_anew(self, slot: int) -> None:
        """Give a parameter the states of one that has not been stepped yet."""
        p = self.params[slot].detach()
        for name, views in self.views.items():
            views[slot].fill_({"mu_product": 1.0, "compensation": -0.0}.get(name, 0.0))
        for kind in self.kinds:
            view = self.views[kind.name][slot]
            if kind.copies_parameter:
                view.copy_(p)
            else:
                view.fill_(kind.initial)
        if self.extra_name == "master":
            self.views["master"][slot].copy_(p)


def scalar_dtype() -> torch.dtype:
    """Dtype of step counters, as torch has it."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def _starts(params: Sequence[Tensor]) -> list[int]:
    starts, at = [], 0
    for p in params:
        starts.append(at)
        at += -(-p.numel() // _ALIGNMENT) * _ALIGNMENT
    return [*starts, at]


def _extra_dtype(rounding: int, dtype: torch.dtype) -> tuple[str, torch.dtype] | None:
    """Name and dtype of what a rounding mode keeps for each element of a 16-bit parameter."""
    if dtype not in (torch.bfloat16, torch.float16):
        return None
    kept = {
        KAHAN: ("compensation", dtype),
        SPLIT_MASTER: ("master_low", torch.int16),
        MASTER: ("master", torch.float32),
    }
    return kept.get(rounding)


def make_flat(
    params: list[Tensor],
    ids: Sequence[int],
    states: Sequence[State],
    state_dtype: torch.dtype,
    has_product: bool,
    rounding: int,
    step_device: torch.device,
) -> Flat:
    """Lay the states out, each as its rule says it begins."""
    like = params[0]
    *starts, total = _starts(params)
    steps = torch.zeros(len(params), dtype=scalar_dtype(), device=step_device)
    products = torch.ones(len(params), dtype=torch.float64, device=step_device) if has_product else None
    flats, views = [], {"step": [torch.from_dlpack(steps[i : i + 1]).reshape(()) for i in range(len(params))]}
    if products is not None:
        views["mu_product"] = [torch.from_dlpack(products[i : i + 1]).reshape(()) for i in range(len(params))]
    for state in states:
        dtype = like.dtype if state.like_parameter else state_dtype
        flat = torch.zeros(total, dtype=dtype, device=like.device)
        flats.append(flat)
        views[state.name] = [_view(flat, start, p) for start, p in zip(starts, params, strict=True)]
    extra, extra_name = None, ""
    kept = _extra_dtype(rounding, like.dtype)
    if kept is not None:
        extra_name, dtype = kept
        extra = torch.zeros(total, dtype=dtype, device=like.device)
        views[extra_name] = [_view(extra, start, p) for start, p in zip(starts, params, strict=True)]
    layouts = [layout_code(p if is_dense(p) else torch.empty(p.shape, device="meta")) for p in params]
    index = torch.tensor([starts, list(range(len(params))), list(ids), layouts], dtype=torch.int64)
    flat_states = tuple(states), flats, steps, products, extra, extra_name, index, views, like.dtype, state_dtype
    made = Flat(params, *flat_states)
    for slot in range(len(params)):
        made.start_anew(slot)
    return made
