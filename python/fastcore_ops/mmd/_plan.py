"""What one sliced call computes: in one walk the value and every gradient that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _sharded, _walk
from ._reference_rank import GRAD_X, GRAD_Y, POTENTIAL_X, POTENTIAL_Y, VALUE
from ._slices import Slices

# (start, stop, tx, ty, x_weights, y_weights, outputs) -> the five outputs of the rank operators, a row for each slice
Evaluate = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]


_NO_SECOND = (
    "second derivatives through slices are not given for this kernel: with its kink, the Hessian of a fixed set of slices is"
    ' zero almost everywhere and says nothing of that of the distance. Use method="exact", or a smooth kernel such as'
    ' "gaussian"'
)


@dataclass(frozen=True)
class Plan:
    """A sliced distance, ready to run on clouds.

    Attributes
    ----------
    evaluate : callable
        Half of the squared distance of each slice, with its gradients.
    factor : float
        What the mean over slices is multiplied by: the constant of slicing, and 2 unless D^2 is wanted.
    centred : bool
        Whether both clouds are moved near zero; else ``shift`` (1, d), if any, is taken from them.
    total : int
        Number of slices, those of other ranks included.
    ranks : Ranks, optional
        Those that share the work; ``sharded``: that share the points too.
    value_dtype : dtype, optional
        Of the value; else that of the points.
    second : callable, optional
        ``second(plan, x, y, a, b)``: the same value as differentiable torch, where a second derivative makes sense;
        ``no_second``: what is said where it does not.
    """

    operation: str
    slices: Slices
    evaluate: Evaluate
    factor: float
    total: int
    backend: str | None
    centred: bool = True
    shift: Tensor | None = None
    ranks: _sharded.Ranks | None = None
    sharded: bool = False
    value_dtype: torch.dtype | None = None
    second: Callable[..., Tensor] | None = None
    no_second: str = _NO_SECOND


@dataclass
class Found:
    """Value (B,), gradients in the points (B, N, d) and in the weights (B, N): what was asked for, else None."""

    value: Tensor | None
    grad_x: Tensor | None
    grad_y: Tensor | None
    potential_x: Tensor | None
    potential_y: Tensor | None


class Totals:
    """The visitor of a walk: sums over slices of values and potentials, with the batch axis folded into the slices'."""

    def __init__(
        self, plan: Plan, x: Tensor, sizes: tuple[int, int], weights: tuple[Tensor | None, Tensor | None], outputs: int
    ) -> None:
        self.plan, self.batch, self.weights, self.outputs = plan, x.shape[0], weights, outputs
        columns = {VALUE: 1, POTENTIAL_X: sizes[0], POTENTIAL_Y: sizes[1]}
        shapes = {bit: (self.batch, width) for bit, width in columns.items() if outputs & bit}
        self.sums = {bit: x.new_zeros(shape, dtype=torch.float64) for bit, shape in shapes.items()}

    def _weights(self, side: int, slices: int) -> Tensor | None:
        w = self.weights[side]
        if w is None:
            return None
        return (w[0] if self.batch == 1 else w.expand(slices, *w.shape).reshape(-1, w.shape[-1])).contiguous()

    def __call__(self, start: int, stop: int, tx: Tensor, ty: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        slices, folded = tx.shape[0], tx.shape[0] * self.batch
        rows = [None if t is None else t.view(folded, -1) for t in (tx, ty)]
        found = self.plan.evaluate(start, stop, *rows, self._weights(0, slices), self._weights(1, slices), self.outputs)
        for bit, part in ((VALUE, found[2]), (POTENTIAL_X, found[3]), (POTENTIAL_Y, found[4])):
            if self.outputs & bit:
                self.sums[bit] += part.view(slices, self.batch, -1).sum(0)
        return (
            found[0].view(slices, -1) if self.outputs & GRAD_X else None,
            found[1].view(slices, -1) if self.outputs & GRAD_Y else None,
        )


def run(plan: Plan, x: Tensor, y: Tensor | None, a: Tensor | None, b: Tensor | None, outputs: int) -> Found:
    """Compute what ``outputs`` adds up of clouds (B, N, d) and (B, M, d), weights (B, N) and (B, M) or None twice."""
    with torch.no_grad():
        x = x.detach()
        y, a, b = (None if tensor is None else tensor.detach() for tensor in (y, a, b))
        sides = _sides(plan, x, y)
        if sides is not None and plan.ranks is not None:
            a, b = (None if w is None else plan.ranks.gather_columns(w) for w in (a, b))
        shift = _shift(plan, x, y, sides)
        flat, shift = _flattened(x, y, shift)
        sizes = tuple(side.total for side in sides) if sides else (x.shape[1], 0 if y is None else y.shape[1])
        totals = Totals(plan, x, (sizes[0], sizes[1]), (a, b), outputs)
        visit = totals if plan.ranks is None or sides is None else _sharded.Sharded(plan.ranks, totals, sides)
        columns = sides[0].most + sides[1].most if sides else None
        wanted = bool(outputs & GRAD_X), bool(outputs & GRAD_Y)
        grads = _walk.walk(plan.slices, flat[0], flat[1], shift, visit, wanted, plan.backend, columns)
        found = _scaled(plan, totals, x, y, grads)
        if plan.ranks is not None:
            plan.ranks.reduce(found, sides)
        return found


def _sides(plan: Plan, x: Tensor, y: Tensor | None) -> tuple[_sharded.Side, _sharded.Side] | None:
    if not plan.sharded or plan.ranks is None or y is None:
        return None
    return _sharded.Side(plan.ranks, x), _sharded.Side(plan.ranks, y)


def _flattened(x: Tensor, y: Tensor | None, shift: Tensor | None) -> tuple[tuple[Tensor, Tensor | None], Tensor | None]:
    """Clouds (B N, d) and what is still to be taken from them (1, d): each batch is moved by itself."""
    if shift is not None and x.shape[0] > 1:
        x, y, shift = x - shift, None if y is None else y - shift, None
    flat = [None if cloud is None else cloud.reshape(-1, cloud.shape[-1]).contiguous() for cloud in (x, y)]
    assert flat[0] is not None
    return (flat[0], flat[1]), None if shift is None else shift.view(1, -1)


def _scaled(
    plan: Plan, totals: Totals, x: Tensor, y: Tensor | None, grads: tuple[Tensor | None, Tensor | None]
) -> Found:
    """Means over the slices, times the constant."""
    factor = plan.factor / plan.total
    value, potential_x, potential_y = (totals.sums.get(bit) for bit in (VALUE, POTENTIAL_X, POTENTIAL_Y))
    shapes = (x.shape, None if y is None else y.shape)
    grad_x, grad_y = (
        None if grad is None or shape is None else grad.mul_(factor).view(shape)
        for grad, shape in zip(grads, shapes, strict=True)
    )
    return Found(
        None if value is None else (value[:, 0] * factor).to(plan.value_dtype or x.dtype),
        grad_x,
        grad_y,
        None if potential_x is None else potential_x * factor,
        None if potential_y is None else potential_y * factor,
    )


def _shift(plan: Plan, x: Tensor, y: Tensor | None, sides: tuple[_sharded.Side, _sharded.Side] | None) -> Tensor | None:
    if not plan.centred:
        return plan.shift
    if x.shape[-1] == 1:  # on the line points are ranked as they are: moving them merges neighbours
        return None
    if sides is not None and plan.ranks is not None and y is not None:
        return plan.ranks.centre(x, y, sides)
    return _walk.centre(x, y)
