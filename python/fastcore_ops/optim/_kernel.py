"""One parameter group's way to the operator: its flat states, and a plan that is kept while nothing changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _backend
from .._checks import reject
from ._flat import Flat, is_dense, make_flat
from ._prologue import coefficients, needs_sums
from ._rule import State
from ._switches import STOCHASTIC, rounding_code

if TYPE_CHECKING:
    from ._optimizer import FusedOptimizer

_HALF = (torch.bfloat16, torch.float16)
_KERNEL_DTYPES = (torch.float32, torch.float64, *_HALF)


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


@dataclass
class _Call:
    """Parameters that one call of the operator serves."""

    flat: Flat
    params: list[Tensor]
    index: Tensor
    copied: list[int]  # positions whose gradient does not lie in memory as the parameter does
    gaps: list[int]  # positions of parameters with holes between their elements: stepped in a dense copy
    complex: bool

    def targets(self) -> list[Tensor]:
        """What the operator writes to."""
        if self.complex:
            return [torch.view_as_real(p.detach()) for p in self.params]
        if not self.gaps:
            return self.params
        targets = list(self.params)
        for i in self.gaps:
            targets[i] = targets[i].detach().clone(memory_format=torch.contiguous_format)
        return targets

    def take_back(self, targets: list[Tensor]) -> None:
        """Copies of parameters with holes go back to their places."""
        for i in self.gaps:
            self.params[i].copy_(targets[i])

    def gradients(self, all_of_them: list[Tensor] | None) -> list[Tensor]:
        """The gradients, in their parameters' memory layout; given where the call serves all parameters of the step."""
        grads: list[Any] = [p.grad for p in self.params] if all_of_them is None else list(all_of_them)
        for i in self.copied:
            grads[i] = torch.empty_like(self.params[i]).copy_(grads[i])
        for i in self.gaps:
            grads[i] = grads[i].contiguous()
        return [torch.view_as_real(g) for g in grads] if self.complex else grads


class GroupKernel:
    """Runs a group's steps. ``first`` is the position of its first parameter over all groups."""

    def __init__(self, optimizer: FusedOptimizer, group: dict[str, Any], first: int) -> None:
        self.optimizer, self.group, self.first = optimizer, group, first
        self.flats: list[Flat] = []
        self._planned: list[Tensor] = []
        self._calls: list[_Call] = []
        self._seen: list[dict[str, Any]] = []
        self._sums: list[Tensor] = []
        self._kinds: tuple[State, ...] = ()

    def square_norm(self, params: list[Tensor], grads: list[Tensor]) -> float:
        """``|g|^2`` of all these gradients; the sums are kept for the step."""
        fresh = self._prepare(params)
        try:
            return self._sum_up(grads)
        except RuntimeError:
            if fresh:
                raise
            self.flats, self._planned = [], []
            self._prepare(params)
            return self._sum_up(grads)

    def _sum_up(self, grads: list[Tensor]) -> float:
        self._sums = []
        for call in self._calls:
            p = call.params[0]
            operator = _backend.pick("optim_dots", p.device, self._forced(call.flat))
            given = call.gradients(grads if len(self._calls) == 1 else None)
            self._sums.append(operator(call.targets(), given, torch.empty(0, device=p.device)))
        return float(sum(sums[2].sum() for sums in self._sums))

    def step(self, params: list[Tensor], grads: list[Tensor], norm: float = 0.0) -> None:
        """One step of these parameters with these gradients; ``norm`` is that of all gradients, if a group needs it."""
        fresh = self._prepare(params)
        done: list[Tensor] = []
        try:
            self._run(grads if len(self._calls) == 1 else None, norm, done)
        except RuntimeError:
            if fresh or needs_sums(self.group):
                raise
            self._look_again(params, done, norm)

    def _look_again(self, params: list[Tensor], done: list[Tensor], norm: float) -> None:
        """A gradient or parameter has changed its dtype or layout: lay out and plan anew what has not been stepped."""
        self.flats, self._planned = [], []
        left = list(params)
        for p in done:  # one of a parameter that is listed twice may be left
            left.pop(next(i for i, other in enumerate(left) if other is p))
        self._prepare(left)
        self._run(None, norm, [])
        self._planned = []

    def _prepare(self, params: list[Tensor]) -> bool:
        """Plan for these parameters unless they are those of the last step; whether it did."""
        kinds = self.optimizer.states(self.group)
        fresh = not (len(params) == len(self._planned) and all(map(is_, params, self._planned))) or kinds != self._kinds
        if fresh:
            if kinds != self._kinds:  # a switch that brings or drops a state
                self.flats, self._kinds = [], kinds
            self._planned = []
            self._plan(params)
        self._adopt_replaced()
        return fresh

    # The call ------------------------------------------------------------------------------------------------------

    def _run(self, grads: list[Tensor] | None, norm: float, done: list[Tensor]) -> None:
        group, optimizer = self.group, self.optimizer
        hyper = optimizer.hyper(group)
        lr = group["lr"] if isinstance(group["lr"], Tensor) else None
        scale, found_inf = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        for position, call in enumerate(self._calls):
            flat, targets = call.flat, call.targets()
            summed = needs_sums(group)  # else nobody needs the scale here: reading it would wait for a GPU
            sums, loss_scale = (self._sums[position], optimizer.loss_scale()) if summed else (None, 1.0)
            rows = coefficients(group, targets, sums, norm, loss_scale)
            operator = _backend.pick(f"optim_{optimizer.rule.op}_", call.params[0].device, self._forced(flat))
            operator(
                targets, call.gradients(grads), flat.states, flat.steps, flat.products, flat.extra, call.index, hyper,
                lr, scale, found_inf, rows, group["maximize"], self._rounding(call), group["seed"],
            )  # fmt: skip
            call.take_back(targets)
            if not torch.compiler.is_compiling():
                torch.autograd.graph.increment_version(call.params)
            done += call.params

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

    def _rounding(self, call: _Call) -> int:
        code = rounding_code(self.group)
        return code if call.params[0].dtype in _HALF or code == STOCHASTIC else 0

    # The plan ------------------------------------------------------------------------------------------------------

    def _plan(self, params: list[Tensor]) -> None:
        for p in params:
            self._check(p)
        place = {id(p): (flat, slot) for flat in self.flats for slot, p in enumerate(flat.params)}
        missing = [p for p in dict.fromkeys(params) if id(p) not in place]
        for flat in self._make_flats(missing):
            self.flats.append(flat)
            place.update({id(p): (flat, slot) for slot, p in enumerate(flat.params)})
        grouped: dict[tuple[int, int], list[tuple[Tensor, int]]] = defaultdict(list)
        seen: dict[int, int] = defaultdict(int)
        for p in params:  # a parameter that is listed twice steps twice, in a call of its own
            flat, slot = place[id(p)]
            grouped[id(flat), seen[id(p)]].append((p, slot))
            seen[id(p)] += 1
        by_id = {id(flat): flat for flat in self.flats}
        self._calls = [self._call(by_id[key[0]], members) for key, members in grouped.items()]
        self._planned = list(params)

    def _call(self, flat: Flat, members: Sequence[tuple[Tensor, int]]) -> _Call:
        params, slots = [p for p, _ in members], [slot for _, slot in members]
        whole = slots == list(range(len(flat.params)))
        index = flat.index if whole else flat.index[:, torch.tensor(slots)].contiguous()
        gaps = [] if params[0].is_complex() else [i for i, p in enumerate(params) if not is_dense(p)]
        copied = [
            i for i, p in enumerate(params) if p.grad is not None and p.grad.stride() != p.stride() and i not in gaps
        ]
        return _Call(flat, params, index, copied, gaps, params[0].is_complex())

    def _check(self, p: Tensor) -> None:
        name, g = type(self.optimizer).__name__, p.grad
        assert g is not None
        if g.layout != torch.strided:
            raise RuntimeError(
                f"{name}: expected a dense gradient, got layout {g.layout}; sparse gradients are not supported"
            )
        dtype = p.dtype.to_real() if p.is_complex() else p.dtype
        if p.is_complex() and not self.optimizer.takes_complex:
            reject(name, "real parameters", p.dtype, "The rule takes signs or sizes of single numbers.", RuntimeError)
        if dtype not in _KERNEL_DTYPES:
            reject(name, "parameters of a floating dtype", p.dtype, kind=TypeError)
        if self.group["rounding"] == "split_master" and p.dtype == torch.float16:
            reject(
                name,
                '`rounding="split_master"` with bfloat16 parameters',
                p.dtype,
                'Take "kahan", or master_weights=True.',
            )

    # States --------------------------------------------------------------------------------------------------------

    def _make_flats(self, params: Sequence[Tensor]) -> list[Flat]:
        """Flat states of parameters that have none yet, one for each device, dtype and dtype of the states."""
        buckets: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for p in params:
            buckets[p.device, p.dtype, self._state_dtype(p)].append(p)
        positions = {id(p): self.first + i for i, p in enumerate(self.group["params"])}
        kinds, rule = self.optimizer.states(self.group), self.optimizer.rule
        made = []
        for (device, dtype, state_dtype), members in buckets.items():
            rounding = rounding_code(self.group) if dtype in _HALF else 0
            # On a GPU always there: the host could not know of a skipped step without waiting for it.
            on_device = self.group["capturable"] or device.type == "cuda"
            step_device = device if on_device else torch.device("cpu")
            real = [torch.view_as_real(p.detach()) if p.is_complex() else p for p in members]
            ids = [positions[id(p)] for p in members]
            self.optimizer.check_states(self.group, state_dtype)
            flat = make_flat(real, ids, kinds, state_dtype, rule.has_product, rounding, step_device)
            made.append(self._attached(flat, members))
        return made

    def _attached(self, flat: Flat, params: list[Tensor]) -> Flat:
        """The flat with the parameters themselves and, for complex ones, complex entries."""
        if params[0].is_complex():
            for name, views in flat.views.items():
                if views[0].dim():
                    flat.views[name] = [torch.view_as_complex(view) for view in views]
        flat.params = params
        self._adopt(flat)
        return flat

    def _state_dtype(self, p: Tensor) -> torch.dtype:
        if self.group["state_dtype"] is not None:
            return self.group["state_dtype"]
        state = self.optimizer.state.get(p, {})
        for kind in self.optimizer.states(self.group):
            if not kind.like_parameter and isinstance(state.get(kind.name), Tensor):
                dtype = state[kind.name].dtype
                return dtype.to_real() if dtype.is_complex else dtype
        dtype = p.dtype.to_real() if p.is_complex() else p.dtype
        return self.optimizer.default_state_dtype(dtype)

    def _adopt_replaced(self) -> None:
        """Take over entries that somebody has replaced; that nobody has is found out without looking parameters up."""
        state = self.optimizer.state
        if not (len(state) == len(self._seen) and all(map(is_, state.values(), self._seen))):
            for flat in self.flats:
                flat.entries = [state[p] for p in flat.params]
            self._seen = list(state.values())
        for flat in self.flats:
            if not flat.stands_in_its_entries():
                self._adopt(flat)

    def _adopt(self, flat: Flat) -> None:
        """Take over what stands in the state dict, and put views of the flat memory in its place."""
        for slot, p in enumerate(flat.params):
            state = self.optimizer.state[p]
            if not state:
                flat.start_anew(slot)
            elif "step" not in state:  # of an optimizer that keeps none: not the first step
                flat.views["step"][slot].fill_(1)
            for name, views in flat.views.items():
                given = state.get(name)
                if given is not None and given is not views[slot]:
                    views[slot].copy_(torch.as_tensor(given))
                state[name] = views[slot]
        flat.entries = [self.optimizer.state[p] for p in flat.params]
