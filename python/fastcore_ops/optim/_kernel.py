"""One parameter group's way to the operator: its flat states, and a plan that is kept while nothing changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _backend, _native
from ._call import Call, Scaling
from ._flat import Flat, is_distributed, make_flat
from ._parameter_checks import check_parameter
from ._prologue import constant_rows
from ._rule import State
from ._switches import STOCHASTIC, rounding_code

if TYPE_CHECKING:
    from ._optimizer import FusedOptimizer

_HALF = (torch.bfloat16, torch.float16)

# Pairs of dtypes, of parameter and moments, that the operators have loops for.
_PAIRS = {
    (torch.float64, torch.float64),
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float32),
    (torch.float16, torch.float16),
}


class GroupKernel:
    """Runs a group's steps. ``first`` is the position of its first parameter over all groups."""

    def __init__(self, optimizer: FusedOptimizer, group: dict[str, Any], first: int) -> None:
        self.optimizer, self.group, self.first = optimizer, group, first
        self.flats: list[Flat] = []
        self._place: dict[int, tuple[Flat, int]] = {}  # flat and slot of a parameter, by its id
        self._planned: list[Tensor] = []
        self._calls: list[Call] = []
        self._single: dict[int, list[Call]] = {}  # of parameters that are stepped alone, by their id
        self._kinds: tuple[State, ...] = ()

    def load(self, params: list[Tensor], grads: list[Any]) -> list[Call]:
        """Calls that have taken up these parameters and gradients, for steps that look at them more than once."""
        fresh, calls = self._prepare(params)
        if not fresh and not all(call.fits() for call in calls):
            calls = self._plan_anew(params)
        for call in calls:
            call.load(grads if len(calls) == 1 else None)
        return calls

    def step(self, params: list[Tensor], grads: list[Any], scaling: Scaling) -> None:
        """One step of these parameters with these gradients."""
        calls = self._prepare(params)[1]
        done: list[Tensor] = []
        try:
            self._run(calls, grads if len(calls) == 1 else None, scaling, done)
        except RuntimeError:
            if all(call.fits() and call.lies_as_planned() for call in calls):  # it is not about the plan
                raise
            self._look_again(params, done, scaling)

    def _run(self, calls: list[Call], grads: list[Any] | None, scaling: Scaling, done: list[Tensor]) -> None:
        for call in calls:
            call.load(grads)
            call.rows = constant_rows(self.group, call)
            self.run(call, scaling)
            done += call.owners

    def run(self, call: Call, scaling: Scaling) -> None:
        """The step itself of a call that has been loaded."""
        optimizer = self.optimizer
        operator = _backend.pick(f"optim_{optimizer.rule.op}_", call.device, call.forced)
        group = self.group
        if isinstance(group["lr"], Tensor):  # the kernel reads it: here nobody waits for a device
            group = group | {"lr": 0.0}
        call.step(operator, optimizer.hyper(group), scaling)

    def _look_again(self, params: list[Tensor], done: list[Tensor], scaling: Scaling) -> None:
        """A gradient or parameter has changed its dtype or layout: lay out and plan anew what has not been stepped."""
        left = list(params)
        for p in done:  # one of a parameter that is listed twice may be left
            left.pop(next(i for i, other in enumerate(left) if other is p))
        self._run(self._plan_anew(left), None, scaling, [])
        self._planned = []

    def _plan_anew(self, params: list[Tensor]) -> list[Call]:
        self._forget()
        return self._prepare(params)[1]

    def _forget(self) -> None:
        self.flats, self._place, self._planned, self._single = [], {}, [], {}

    def _prepare(self, params: list[Tensor]) -> tuple[bool, list[Call]]:
        """Calls that serve these parameters, and whether they are new: else they are those of the last step."""
        self._follow_kinds()
        if len(params) == 1:
            return self._prepare_one(params[0])
        fresh = not (len(params) == len(self._planned) and all(map(is_, params, self._planned)))
        if fresh:
            self._planned = []
            self._calls = self._plan(params)
            self._planned = list(params)
        for flat in self.flats:
            if not flat.stands_in_its_entries():
                for slot in list(flat.position):
                    flat.adopt(slot, self.optimizer.state[flat.params[slot]])
        return fresh, self._calls

    def _prepare_one(self, p: Tensor) -> tuple[bool, list[Call]]:
        """Of a parameter that is stepped alone, whatever the others do: nothing here takes longer if they are many."""
        fresh = id(p) not in self._single
        if fresh:
            self._single[id(p)] = self._plan([p])
        flat, slot = self._place[id(p)]
        if not flat.stands_in(slot, self.optimizer.state.get(p)):
            flat.adopt(slot, self.optimizer.state[p])
        return fresh, self._single[id(p)]

    def renew_entries(self) -> None:
        """Look up the entries of ``optimizer.state``, of which some have been replaced; those that are gone start anew."""
        for flat in self.flats:
            if not flat.renew_entries(self.optimizer.state):
                self._planned = []

    def _follow_kinds(self) -> None:
        """Begin anew where a switch brings or drops a state."""
        kinds = self.optimizer.states(self.group)
        if kinds != self._kinds:
            self._forget()
            self._kinds = kinds

    def _forced(self, flat: Flat) -> str | None:
        fused = self.group["fused"]
        if fused is not False and (flat.dtype, flat.state_dtype) not in _PAIRS:
            if fused:
                raise RuntimeError(
                    f"{type(self.optimizer).__name__}: expected dtypes that have a kernel with `fused=True`, got parameters "
                    f"in {flat.dtype} and states in {flat.state_dtype}"
                )
            return "reference"
        return "reference" if fused is False else _backend.forced(None)

    def take_up_states(self) -> None:
        """Lay out every parameter that has states, also those without a gradient now."""
        self._follow_kinds()
        known = [p for p in self.group["params"] if self.optimizer.state.get(p)]
        if any(id(p) not in self._place for p in known):
            self._lay_out(known)
        for p in known:
            flat, slot = self._place[id(p)]
            if slot not in flat.position:
                flat.adopt(slot, self.optimizer.state[p])

    # The plan ------------------------------------------------------------------------------------------------------

    def _plan(self, params: list[Tensor]) -> list[Call]:
        for p in params:
            check_parameter(self.optimizer, self.group, p)
        if any(id(p) not in self._place for p in params):
            self._lay_out(params)
        grouped: dict[tuple[int, int], list[tuple[Tensor, int]]] = defaultdict(list)
        seen: dict[int, int] = defaultdict(int)
        by_id: dict[int, Flat] = {}
        for p in params:  # a parameter that is listed twice steps twice, in a call of its own
            flat, slot = self._place[id(p)]
            if slot not in flat.position:
                flat.adopt(slot, self.optimizer.state[p])
            by_id[id(flat)] = flat
            grouped[id(flat), seen[id(p)]].append((p, slot))
            seen[id(p)] += 1
        return [self._call(by_id[key[0]], members) for key, members in grouped.items()]

    def _lay_out(self, params: list[Tensor]) -> None:
        """Lay out states of these parameters, and of all others of the group that have or may get a gradient."""
        others = [
            q for q in self.group["params"] if q.grad is not None or (q.requires_grad and q.dtype.is_floating_point)
        ]
        missing = [p for p in dict.fromkeys([*params, *others]) if id(p) not in self._place]
        order = {id(p): i for i, p in enumerate(self.group["params"])}
        for flat in self._make_flats(sorted(missing, key=lambda p: order[id(p)])):
            self.flats.append(flat)
            self._place.update({id(p): (flat, slot) for slot, p in enumerate(flat.params)})

    def _call(self, flat: Flat, members: Sequence[tuple[Tensor, int]]) -> Call:
        owners, slots = [p for p, _ in members], [slot for _, slot in members]
        params, grads, ranks = owners, [p.grad for p in owners], None
        if any(map(is_distributed, owners)):
            from ._distributed import Ranks  # needs torch.distributed

            ranks = Ranks(type(self.optimizer).__name__, owners)
            params, grads = ranks.params(), ranks.gradients(grads)
        whole = slots == list(range(len(flat.params)))
        index = flat.index if whole else flat.index[:, torch.tensor(slots)].contiguous()
        gaps = [] if params[0].is_complex() else [i for i, p in enumerate(params) if not self.optimizer.in_place(p)]
        copied = [
            i for i, (p, g) in enumerate(zip(params, grads, strict=True))
            if g is not None and g.stride() != p.stride() and i not in gaps
        ]  # fmt: skip
        forced, is_complex = self._forced(flat), params[0].is_complex()
        return Call(self.group, flat, owners, params, slots, whole, index, copied, gaps, is_complex, forced, ranks)

    # States --------------------------------------------------------------------------------------------------------

    def _make_flats(self, params: Sequence[Tensor]) -> list[Flat]:
        """Flat states of parameters that have none yet, one for each device, dtype and dtype of the states."""
        buckets: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for p in params:
            buckets[p.device, p.dtype, self._state_dtype(p)].append(p)
        positions = {id(p): self.first + i for i, p in enumerate(self.group["params"])}
        kinds = self.optimizer.states(self.group)
        made = []
        for (device, dtype, state_dtype), members in buckets.items():
            rounding = rounding_code(self.group) if dtype in _HALF else 0
            # On a GPU always there: the host could not know of a skipped step without waiting for it.
            on_device = self.group["capturable"] or device.type == "cuda"
            step_device = device if on_device else torch.device("cpu")
            held = [_held(p) for p in members]
            real = [torch.view_as_real(p.detach()) if p.is_complex() else p for p in held]
            ids = [positions[id(p)] for p in members]
            self.optimizer.check_states(self.group, state_dtype)
            scalars = self.optimizer.scalars(self.group)
            places = self.optimizer.in_place, _native.new_zeros
            flat = make_flat(real, ids, kinds, scalars, state_dtype, rounding, step_device, *places)
            made.append(self._attached(flat, members))
        return made

    def _attached(self, flat: Flat, params: list[Tensor]) -> Flat:
        """The flat with the parameters themselves and, for complex ones, complex entries."""
        if params[0].is_complex():
            for name, views in flat.views.items():
                if name in {state.name for state in flat.kinds} | {flat.extra_name}:
                    flat.views[name] = [torch.view_as_complex(view) for view in views]
        flat.params, flat.operation = params, type(self.optimizer).__name__
        if any(map(is_distributed, params)):
            from ._distributed import distribute

            distribute(flat, rounding_code(self.group) == STOCHASTIC)
        return flat

    def _state_dtype(self, p: Tensor) -> torch.dtype:
        if self.group["state_dtype"] is not None:
            return self.group["state_dtype"]
        state = self.optimizer.state.get(p, {})
        given = [state.get(kind.name) for kind in self.optimizer.states(self.group) if not kind.like_parameter]
        dtypes = {x.dtype.to_real() if x.is_complex() else x.dtype for x in given if isinstance(x, Tensor)}
        floating = [dtype for dtype in dtypes if dtype.is_floating_point]
        if floating:  # saved by another optimizer they may differ: the widest holds them all
            return reduce(torch.promote_types, floating)
        dtype = p.dtype.to_real() if p.is_complex() else p.dtype
        return self.optimizer.default_state_dtype(dtype)


def _held(p: Tensor) -> Tensor:
    """What this rank holds of a parameter."""
    if not is_distributed(p):
        return p
    from ._distributed import local

    return local(p)
