"""Parameters that one call of an operator serves, and what a step computes for them on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .. import _backend
from ._flat import Flat, layout_code
from ._rule import beside
from ._switches import STOCHASTIC, rounding_code

if TYPE_CHECKING:
    from ._distributed import Ranks

_HALF = (torch.bfloat16, torch.float16)


class Scaling(NamedTuple):
    """What a ``GradScaler`` left: the factor of the gradients, and whether the step is to be skipped."""

    grad_scale: Tensor | None
    found_inf: Tensor | None

    def beside(self, device: torch.device) -> Scaling:
        """Where an operator of this device reads it."""
        return Scaling(*(None if number is None else beside(number, device) for number in self))

    def taken(self, new: Tensor, old: Tensor) -> Tensor:
        """``new``, but ``old`` where the step is skipped."""
        return new if self.found_inf is None else torch.where(self.found_inf.to(new.device) != 0, old, new)


@dataclass
class Call:
    """Parameters of one group, device and dtype."""

    group: dict[str, Any]
    flat: Flat
    owners: list[Tensor]  # as they stand in the group
    params: list[Tensor]  # what is stepped: they themselves, or what this rank holds of them
    slots: list[int]
    whole: bool  # all parameters of the flat, in its order
    index: Tensor
    copied: list[int]  # positions whose gradient does not lie in memory as the parameter does
    gaps: list[int]  # positions of parameters that are stepped in a contiguous copy
    complex: bool
    forced: str | None  # backend
    ranks: Ranks | None = None  # where parameters are distributed
    targets: list[Tensor] = field(default_factory=list)  # what the operators write to
    gradients: list[Tensor] = field(default_factory=list)
    rows: Tensor | None = None  # of the prologue, (4, n)
    numbers: Tensor | None = None  # of the rule, (numbers, n)
    sums: Tensor | None = None
    constants: dict[Any, Tensor] = field(default_factory=dict)  # tensors of Python numbers

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.params[0].device

    @cached_property
    def filled(self) -> list[int] | None:
        """Positions of the parameters that have elements (on whatever rank), None where all have."""
        places = [i for i, p in enumerate(self.owners) if p.numel()]
        return None if len(places) == len(self.params) else places

    @cached_property
    def ids(self) -> list[int]:
        """Of the parameters that have elements."""
        ids: list[int] = self.index[2].tolist()
        return ids if self.filled is None else [ids[i] for i in self.filled]

    def constant(self, values: list[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of these numbers, kept: to make one anew at each step would be to wait for a GPU each time."""
        if torch.compiler.is_compiling():
            return torch.tensor(values, dtype=dtype, device=device)
        key = (tuple(values), device, dtype)
        if key not in self.constants:
            self.constants[key] = torch.tensor(values, dtype=dtype, device=device)
        return self.constants[key]

    def load(self, all_gradients: list[Any] | None) -> None:
        """Take up targets and gradients; given where the call serves all parameters of the step."""
        grads: list[Any] = [p.grad for p in self.owners] if all_gradients is None else list(all_gradients)
        if self.ranks is not None:
            self.params, grads = self.ranks.params(), self.ranks.gradients(grads)
        for i in self.copied:
            grads[i] = torch.empty_like(self.params[i]).copy_(grads[i])
        for i in self.gaps:
            grads[i] = grads[i].contiguous()
        self.gradients = [torch.view_as_real(g) for g in grads] if self.complex else grads
        self.targets = self.params
        if self.complex:
            self.targets = [torch.view_as_real(p.detach()) for p in self.params]
        elif self.gaps:
            self.targets = list(self.params)
            for i in self.gaps:
                self.targets[i] = self.params[i].detach().clone(memory_format=torch.contiguous_format)

    def fits(self) -> bool:
        """Whether gradients and parameters still have the dtypes and layouts of the plan."""
        if torch.compiler.is_compiling():  # a trace is of one layout
            return True
        copied, grads = set(self.copied) | set(self.gaps), [p.grad for p in self.owners]
        params = self.params
        if self.ranks is not None:
            params, grads = self.ranks.params(), self.ranks.gradients(grads)
        return all(
            g.layout == p.layout and g.dtype == p.dtype and g.device == p.device and g.shape == p.shape
            and (i in copied or g.stride() == p.stride())
            for i, (p, g) in enumerate(zip(params, grads, strict=True))
            if g is not None
        )  # fmt: skip

    def lies_as_planned(self) -> bool:
        """Whether parameters still are where, and as, their states were made for."""
        params = self.params if self.ranks is None else self.ranks.params()
        real = [torch.view_as_real(p.detach()) if p.is_complex() else p for p in params]
        return all(
            p.dtype == self.flat.dtype and p.device == self.flat.device and (i in self.gaps or layout_code(p) == code)
            for i, (p, code) in enumerate(zip(real, self.index[3].tolist(), strict=True))
        )

    def rounding(self) -> int:
        """The mode's number, 0 where it does not concern these dtypes; stochastic always: states may be in 16 bits."""
        code = rounding_code(self.group)
        return code if self.params[0].dtype in _HALF or code == STOCHASTIC else 0

    def learning_rate(self) -> Tensor | None:
        """A learning rate in a tensor; the operators read it."""
        return beside(self.group["lr"], self.device) if isinstance(self.group["lr"], Tensor) else None

    def measure(
        self,
        name: str,
        scaling: Scaling | None,
        hyper: list[float] | None = None,
        states: list[Tensor] | None = None,
        by_row: bool = False,
        among: list[int] | None = None,
    ) -> Tensor:
        """Sums over the parameters (those at the positions ``among``) or their rows; without ``scaling`` of bare gradients."""
        operator = _backend.pick(f"optim_{name}", self.device, self.forced)
        places = range(len(self.params)) if among is None else among
        index, rows = self.index, self.rows
        if among is not None:
            index = index[:, torch.tensor(among, dtype=torch.int64)].contiguous()
            rows = rows if rows is None else rows[:, self.constant(among, rows.device)].contiguous()
        bare = scaling is None
        scale, found_inf = (None, None) if scaling is None else scaling.beside(self.device)
        found = operator(
            [self.targets[i] for i in places], [self.gradients[i] for i in places], states or [], self.flat.steps,
            self.flat.extra, index, hyper or [0.0], self.learning_rate(), scale, found_inf,
            None if bare else rows, self.group["maximize"] and not bare,
            self.rounding(), self.group["seed"], by_row,
        )  # fmt: skip
        return found if self.ranks is None else self.ranks.whole(found, list(places), self.params, by_row)

    def quantile(self, q: float, scaling: Scaling) -> Tensor:
        """Quantile of the magnitudes of each gradient as the prologue has it so far."""
        if self.ranks is not None:
            self.ranks.require_whole("`clip_quantile`")
        operator = _backend.pick("optim_quantile", self.device, self.forced)
        return operator(
            self.targets, self.gradients, self.flat.steps, self.flat.extra, self.index, q,
            scaling.beside(self.device).grad_scale, self.rows, self.rounding(),
        )  # fmt: skip

    def step(
        self, operator: Callable[..., None], hyper: list[float], scaling: Scaling, states: list[Tensor] | None = None
    ) -> None:
        """Step the parameters; the operator writes to them and to the states."""
        rows = self.rows
        if self.numbers is not None:
            plain = plain_rows(len(self.params), self.device) if rows is None else rows
            rows = torch.cat([plain, self.numbers])
        flat, scaling = self.flat, scaling.beside(self.device)
        operator(
            self.targets, self.gradients, flat.states if states is None else states, flat.steps,
            flat.scalars.get("mu_product"), flat.extra, self.index, hyper, self.learning_rate(), scaling.grad_scale,
            scaling.found_inf, rows, self.group["maximize"],
            self.rounding(), self.group["seed"],
        )  # fmt: skip
        self.finish()

    def finish(self) -> None:
        """Copies of parameters go back to their places; autograd hears of the change; nothing is kept of the step."""
        for i in self.gaps:
            self.params[i].copy_(self.targets[i])
        if not torch.compiler.is_compiling():
            torch.autograd.graph.increment_version(self.params)
            if self.ranks is not None:
                torch.autograd.graph.increment_version(self.owners)
        self.clear()

    def clear(self) -> None:
        """Keep nothing of the step."""
        self.targets, self.gradients, self.rows, self.numbers, self.sums = [], [], None, None, None

    def part(self, places: list[int]) -> Call:
        """The call for some of its parameters."""
        at = torch.tensor(places, dtype=torch.int64)

        def picked(values: list[Any]) -> list[Any]:
            return [values[i] for i in places]

        def columns(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[:, at.to(values.device)].contiguous()

        gaps = [k for k, i in enumerate(places) if i in self.gaps]
        return replace(
            self, owners=picked(self.owners), params=picked(self.params), slots=picked(self.slots), whole=False,
            index=self.index[:, at].contiguous(), copied=[], gaps=gaps, targets=picked(self.targets),
            gradients=picked(self.gradients), rows=columns(self.rows), numbers=columns(self.numbers), sums=None,
        )  # fmt: skip

    # Numbers of the parameters' own ------------------------------------------------------------------------------------

    def scalar(self, name: str) -> Tensor:
        """A scalar of each of these parameters, or of their rows, one after the other."""
        flat = self.flat.scalars[name]
        return flat if self.whole else flat[self._places(name).to(flat.device)]

    def set_scalar(self, name: str, value: Tensor) -> None:
        """Write it back."""
        flat = self.flat.scalars[name]
        if self.whole:
            flat.copy_(value)
        else:
            flat[self._places(name).to(flat.device)] = value.to(flat.dtype)

    def _places(self, name: str) -> Tensor:
        by_row = any(scalar.name == name and scalar.by_row for scalar in self.flat.numbers)
        if not by_row:
            return torch.tensor(self.slots, dtype=torch.int64)
        counts = self.flat.rows
        starts = [sum(counts[:slot]) for slot in range(len(counts))]
        return torch.cat([torch.arange(starts[slot], starts[slot] + counts[slot]) for slot in self.slots])


def total(calls: list[Call], device: torch.device, which: slice = slice(None)) -> Tensor:
    """Sums over all parameters.

    Those that have elements, in the order of their ids: how calls share them out, and empty ones among them, change no bit.
    """
    parts = []
    for call in calls:
        assert call.sums is not None
        part, filled = call.sums[which], call.filled
        parts.append((part if filled is None else part[:, call.constant(filled, part.device, torch.int64)]).to(device))
    if len(calls) == 1:
        return parts[0].sum(1)
    return torch.cat(parts, 1)[:, _order(calls, device)].sum(1)


def _order(calls: list[Call], device: torch.device) -> Tensor:
    """Positions of the calls' parameters in the order of their ids."""
    if torch.compiler.is_compiling():  # a trace holds no values
        ids = [call.index[2] if call.filled is None else call.index[2, call.filled] for call in calls]
        return torch.cat(ids).argsort(stable=True).to(device)
    values = list(chain.from_iterable(call.ids for call in calls))
    return calls[0].constant(sorted(range(len(values)), key=values.__getitem__), device, torch.int64)


def plain_rows(count: int, device: torch.device) -> Tensor:
    """Coefficients of a prologue that changes nothing."""
    rows = torch.ones(4, count, dtype=torch.float64, device=device)
    rows[2], rows[3] = 0.0, torch.inf
    return rows
