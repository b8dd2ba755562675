"""The value of a sliced distance as a differentiable function; also what torch.func makes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._plan import Plan, run
from ._reference_rank import GRAD_X, GRAD_Y, POTENTIAL_X, POTENTIAL_Y, VALUE
from ._transforms import second_order, transformed

_Given = Tensor | None
_SIDES = (GRAD_X, GRAD_Y, POTENTIAL_X, POTENTIAL_Y)


def wanted_gradients(*inputs: Tensor | None) -> int:
    """Bits of the gradients in x, y and their weights that a backward pass will ask for."""
    if not torch.is_grad_enabled():
        return 0
    return sum(bit for tensor, bit in zip(inputs, _SIDES, strict=False) if tensor is not None and tensor.requires_grad)


def sliced_value(plan: Plan, x: Tensor, y: Tensor | None, a: Tensor | None, b: Tensor | None) -> Tensor:
    """Value (B,) in the dtype of the points, differentiable in everything."""
    gradients = wanted_gradients(x, y, a, b)
    if gradients or transformed():
        function = _SlicedValue if transformed() else _PlainValue
        result: Tensor = function.apply(plan, VALUE | gradients, x, y, a, b)[0]
        return result
    found = run(plan, x, y, a, b, VALUE).value
    assert found is not None
    return found


def sliced_gradient(plan: Plan, x: Tensor, y: Tensor | None, a: Tensor | None, b: Tensor | None) -> Tensor:
    """Gradient of the value in x (B, N, d) alone, without a graph."""
    found = _SlicedValue.apply(plan, GRAD_X, x, y, a, b)[1] if transformed() else run(plan, x, y, a, b, GRAD_X).grad_x
    assert found is not None
    result: Tensor = found
    return result


class _SlicedValue(torch.autograd.Function):
    """The forward computes all gradients, the backward multiplies.

    Gradients are outputs that nobody sees: in this form torch.func takes the function.
    """

    @staticmethod
    def forward(plan: Plan, outputs: int, x: Tensor, y: _Given, a: _Given, b: _Given) -> tuple[_Given, ...]:
        found = run(plan, x, y, a, b, outputs)
        return found.value, found.grad_x, found.grad_y, found.potential_x, found.potential_y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[_Given, ...]) -> None:
        ctx.plan = inputs[0]
        ctx.mark_non_differentiable(*(gradient for gradient in output[1:] if gradient is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[2:], *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *unseen: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        saved = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # create_graph=True
            return None, None, *_Gradients.apply(ctx.plan, grad, *saved)
        return None, None, *(_times(grad, gradient) for gradient in saved[4:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], plan: Plan, outputs: int, *inputs: _Given) -> tuple[Any, Any]:
        """One more batch axis: the slices are shared, as by any batch."""
        size = info.batch_size
        folded = []
        for tensor, axis in zip(inputs, in_dims[2:], strict=True):
            if tensor is not None:
                tensor = tensor.expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
                tensor = tensor.flatten(0, 1)
            folded.append(tensor)
        found = _SlicedValue.apply(plan, outputs, *folded)
        parts = tuple(None if part is None else part.unflatten(0, (size, -1)) for part in found)
        return parts, tuple(None if part is None else 0 for part in parts)


class _PlainValue(torch.autograd.Function):
    """The same outside torch.func, in the form that costs 60 µs less."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[_Given, ...]:
        output = _SlicedValue.forward(*inputs)
        _SlicedValue.setup_context(ctx, inputs, output)
        return output

    backward = staticmethod(_SlicedValue.backward)


def _times(grad: Tensor, part: Tensor | None) -> Tensor | None:
    return None if part is None else (part * grad.view(-1, *[1] * (part.dim() - 1))).to(part.dtype)


class _Gradients(torch.autograd.Function):
    """Gradients with a graph, which costs nothing until it is walked: then it is that of differentiable torch, or raises."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, grad: Tensor, *saved: _Given) -> tuple[_Given, ...]:
        return tuple(_times(grad, gradient) for gradient in saved[4:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[_Given, ...]) -> None:
        ctx.plan = inputs[0]
        ctx.wanted = [gradient is not None for gradient in output]
        ctx.save_for_backward(*inputs[1:6])

    @staticmethod
    def backward(ctx: Any, *directions: _Given) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        if plan.second is None:
            raise NotImplementedError(f"{plan.operation}: {plan.no_second}")

        def gradients(grad: Tensor, *inputs: _Given) -> list[Tensor]:
            found = second_order(lambda *given: [plan.second(plan, *given)], inputs, ctx.wanted, [grad], True)
            return [gradient for gradient in found if gradient is not None]

        seen = [direction for direction in directions if direction is not None]
        needed, again = ctx.needs_input_grad[1:6], torch.is_grad_enabled()
        return None, *second_order(gradients, ctx.saved_tensors, needed, seen, again), *[None] * 4
