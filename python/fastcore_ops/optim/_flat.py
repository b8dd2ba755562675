"""States of a parameter group, flat: one tensor for each name, with every parameter at the same place in all of them.

The entries of ``optimizer.state`` share that memory. They are not slices but tensors with a storage object of their own
(by DLPack): pickled one by one, slices would each write the whole of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from .._checks import reject
from ._rule import Scalar, State
from ._switches import KAHAN, MASTER, SPLIT_MASTER

# What cuts a distributed parameter: mesh dimensions along its first dimension, and along others.
ROWS_CUT, COLUMNS = ("rows",), ("columns",)
EVERYWHERE = (*ROWS_CUT, *COLUMNS)
# What a rounding mode keeps for each element of a 16-bit parameter.
EXTRA_NAMES = {KAHAN: "compensation", SPLIT_MASTER: "master_low", MASTER: "master"}
_ALIGNMENT = 64  # elements: each parameter starts a cache line, whatever the dtype


def is_distributed(p: Tensor) -> bool:
    """Whether a tensor is a DTensor; nobody has one without having imported its module."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(p, module.DTensor)


def write_state(view: Tensor, given: Tensor) -> None:
    """Copy a state into its place in the flat memory."""
    if is_distributed(view):
        from ._distributed import write  # needs torch.distributed

        write(view, given)
    else:
        view.copy_(given)


def is_dense(p: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in whatever order of the dimensions."""
    return p.is_contiguous() or torch.empty_like(p, device="meta").stride() == p.stride()


def layout_code(p: Tensor) -> int:
    """A number that changes with the sizes and with the order of the dimensions in memory; the operator computes it too."""
    code = 0
    for size, stride in zip(p.shape, p.stride(), strict=True):
        if size != 1:
            code = ((code * 1_000_003 + stride) * 1_000_003 + size) & 0x7FFFFFFF
    return code


def has_rows_in_order(p: Tensor) -> bool:
    """Whether the elements are dense and those of one index of the first dimension stand together."""
    return is_dense(p) and (p.dim() == 0 or p.shape[0] <= 1 or p.numel() in (0, p.stride(0) * p.shape[0]))


def _view(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """The part of ``flat`` that belongs to a parameter, in the memory layout of ``like``, as a tensor of its own."""
    view = torch.from_dlpack(flat[start : start + like.numel()])
    return view.as_strided(like.shape, like.stride()) if like.numel() else view.reshape(like.shape)


@dataclass
class Flat:
    """States of some parameters of one device and dtype."""

    params: list[Tensor]
    kinds: tuple[State, ...]
    numbers: tuple[Scalar, ...]
    states: list[Tensor]
    steps: Tensor
    scalars: dict[str, Tensor]  # one number for each parameter, or row, by the name of its entry
    extra: Tensor | None
    extra_name: str
    index: Tensor  # (4, n): start, slot, id, code of the memory layout; a fifth row: place of a shard in the whole
    rows: list[int]  # of each parameter
    views: dict[str, list[Tensor]]  # what stands in optimizer.state, or will from the first gradient on
    dtype: torch.dtype  # of the parameters (real, where they are complex)
    state_dtype: torch.dtype
    device: torch.device  # of the parameters
    operation: str = ""  # the optimizer's class
    adopted: int = 0  # how often entries have been taken over
    # Of the parameters that have had a gradient, in the order in which they had it:
    position: dict[int, int] = field(default_factory=dict)  # by slot
    entries: list[dict[str, Tensor]] = field(default_factory=list)  # their dicts in optimizer.state
    standing: dict[str, list[Tensor]] = field(default_factory=dict)  # their views

    def stands_in_its_entries(self) -> bool:
        """Whether nobody has replaced a tensor in them."""
        try:
            return all(all(map(is_, map(itemgetter(name), self.entries), at)) for name, at in self.standing.items())
        except KeyError:
            return False

    def stands_in(self, slot: int, entry: dict[str, Tensor] | None) -> bool:
        """Whether this is a parameter's entry, and nobody has replaced a tensor in it."""
        place = self.position.get(slot)
        if place is None or entry is None or self.entries[place] is not entry:
            return False
        return all(entry.get(name) is views[slot] for name, views in self.views.items())

    def adopt(self, slot: int, entry: dict[str, Any]) -> None:
        """Take over what stands in an entry, and put views of the flat memory in its place."""
        self._check_shapes(slot, entry)
        self.adopted += 1
        if slot not in self.position or not entry:
            self.start_anew(slot)
        # Of an optimizer that keeps no step: not the first one, unless all it has is torch's `momentum_buffer` of None.
        if "step" not in entry and any(isinstance(given, Tensor) for given in entry.values()):
            self.views["step"][slot].fill_(1)
        for name, views in self.views.items():
            given = entry.get(name)
            if given is not None and given is not views[slot]:
                given = given if isinstance(given, Tensor) else torch.as_tensor(given)
                write_state(views[slot], given.reshape(views[slot].shape) if given.numel() == 1 else given)
            entry[name] = views[slot]
        self._remember(slot, entry)

    def _check_shapes(self, slot: int, entry: dict[str, Any]) -> None:
        """Refuse states of another shape than their parameter's, which would be broadcast; a single number may be of any."""
        for name, views in self.views.items():
            given, view = entry.get(name), views[slot]
            if not isinstance(given, Tensor) or given.shape == view.shape or given.numel() == view.numel() == 1:
                continue
            if not is_distributed(view):
                reject(
                    self.operation,
                    f"the state `{name}` of a parameter of shape {tuple(self.params[slot].shape)} to be of shape "
                    f"{tuple(view.shape)}",
                    tuple(given.shape),
                )

    def _remember(self, slot: int, entry: dict[str, Tensor]) -> None:
        if slot in self.position:
            self.entries[self.position[slot]] = entry
            return
        self.position[slot] = len(self.entries)
        self.entries.append(entry)
        for name, views in self.views.items():
            self.standing.setdefault(name, []).append(views[slot])

    def renew_entries(self, state: dict[Any, dict[str, Tensor]]) -> bool:
        """Look up the entries of optimizer.state; whether all are still there."""
        there = [(slot, state[self.params[slot]]) for slot in self.position if self.params[slot] in state]
        complete = len(there) == len(self.position)
        self.position, self.entries, self.standing = {}, [], {}
        for slot, entry in there:
            self._remember(slot, entry)
        return complete

    def start_anew(self, slot: int) -> None:
        """Give a parameter the states of one that has not been stepped yet."""
        p = self.params[slot].detach()
        for name, views in self.views.items():
            views[slot].fill_(-0.0 if name == "compensation" else 0.0)
        for scalar in self.numbers:
            self.views[scalar.name][slot].fill_(scalar.initial)
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
    if rounding not in EXTRA_NAMES:
        return None
    return EXTRA_NAMES[rounding], {SPLIT_MASTER: torch.int16, MASTER: torch.float32}.get(rounding, dtype)


def row_count(p: Tensor) -> int:
    """Rows of a parameter by its first dimension; a number is one."""
    return p.shape[0] if p.dim() else 1


def _scalar_views(scalar: Scalar, params: list[Tensor], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    sizes = [row_count(p) if scalar.by_row else 1 for p in params]
    flat = torch.zeros(sum(sizes), dtype=torch.float64, device=device)
    parts = flat.split(sizes)
    shapes = [p.shape[:1] if scalar.by_row else () for p in params]
    return flat, [torch.from_dlpack(part).reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def make_flat(
    params: list[Tensor],
    ids: Sequence[int],
    states: Sequence[State],
    scalars: Sequence[Scalar],
    state_dtype: torch.dtype,
    rounding: int,
    step_device: torch.device,
    in_place: Callable[[Tensor], bool],
    new_zeros: Callable[[int, torch.dtype, torch.device], Tensor],
) -> Flat:
    """Lay the states out; a parameter not ``in_place`` is stepped in a contiguous copy."""
    like = params[0]
    layouts = [p if in_place(p) else torch.empty(p.shape, device="meta") for p in params]
    *starts, total = _starts(params)
    steps = torch.zeros(len(params), dtype=scalar_dtype(), device=step_device)
    flats, views = [], {"step": [torch.from_dlpack(steps[i : i + 1]).reshape(()) for i in range(len(params))]}
    numbers = {}
    for scalar in scalars:
        numbers[scalar.name], views[scalar.name] = _scalar_views(scalar, params, step_device)
    for state in states:
        dtype = like.dtype if state.like_parameter else state_dtype
        flat = new_zeros(total, dtype, like.device)
        flats.append(flat)
        views[state.name] = [_view(flat, start, p) for start, p in zip(starts, layouts, strict=True)]
    extra, extra_name = None, ""
    kept = _extra_dtype(rounding, like.dtype)
    if kept is not None:
        extra_name, dtype = kept
        extra = new_zeros(total, dtype, like.device)
        views[extra_name] = [_view(extra, start, p) for start, p in zip(starts, layouts, strict=True)]
    codes = [layout_code(p) for p in layouts]
    index = torch.tensor([starts, list(range(len(params))), list(ids), codes], dtype=torch.int64)
    kinds, rows = (tuple(states), tuple(scalars)), [row_count(p) for p in params]
    return Flat(
        params,
        *kinds,
        flats,
        steps,
        numbers,
        extra,
        extra_name,
        index,
        rows,
        views,
        like.dtype,
        state_dtype,
        like.device,
    )
