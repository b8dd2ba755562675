"""Sums of a kernel over all pairs as differentiable functions of points and weights.

First derivatives come from the operators. Where a graph of them is wanted (``create_graph=True``) the same formulas run as
tiles of plain torch, recomputed when they are needed, so that memory stays that of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _backend
from . import _reference_exact as reference
from ._kernels import Kernel
from ._matern_table import CLOSED_FORMS, matern_table
from ._transforms import one_by_one, recomputed, second_order, transformed

_Given = Tensor | None


def kernel_numbers(kernel: Kernel, device: torch.device) -> tuple[int, float, float, Tensor | None]:
    """What the operators take of a kernel: code, bandwidth, shape and table."""
    general = kernel.name == "matern" and kernel.shape not in CLOSED_FORMS
    return kernel.code, kernel.scale, kernel.shape, matern_table(kernel.shape, device) if general else None


def kernel_sum(
    x: Tensor,
    y: Tensor | None,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    kernel: Kernel,
    diagonal: bool = True,
    backend: str | None = None,
) -> Tensor:
    """S = sum_ij u_i v_j K(x_i, y_j), a float64 number; without ``y`` over all pairs of ``x``. Uniform weights are None."""
    numbers = kernel_numbers(kernel, x.device)
    y = None if y is None else y.contiguous()
    outputs = reference.SUM | _wanted(x, y, x_weights, y_weights)
    function = _KernelSum if transformed() else _PlainSum
    total: Tensor = function.apply(x.contiguous(), y, x_weights, y_weights, *numbers, diagonal, outputs, backend)[0]
    return total


def _wanted(*inputs: Tensor | None) -> int:
    """Bits of the gradients that a backward pass will ask for."""
    sides = (reference.GRAD_X, reference.GRAD_Y, reference.POTENTIAL_X, reference.POTENTIAL_Y)
    if not torch.is_grad_enabled():
        return 0
    return sum(bit for tensor, bit in zip(inputs, sides, strict=True) if tensor is not None and tensor.requires_grad)


def kernel_means(x: Tensor, kernel: Kernel, backend: str | None = None) -> Tensor:
    """Means of each row of the kernel matrix of ``x``, float64, shape (N,)."""
    means: Tensor = _KernelMeans.apply(x.contiguous(), *kernel_numbers(kernel, x.device), backend)
    return means


class _KernelSum(torch.autograd.Function):
    """One walk over the pairs gives the sum and every gradient that will be asked for: outputs that nobody sees."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        x, y, u, v, code, scale, shape, table, diagonal, outputs, backend
    ) -> tuple[Tensor | None, ...]:
        gradients = outputs & (reference.GRAD_X | reference.GRAD_Y)
        name = "mmd_exact_bwd" if gradients else "mmd_exact_fwd"
        operator = _backend.pick(name, x.device, _backend.forced(backend), main=True)
        found = operator(x, y, u, v, code, scale, shape, table, diagonal, outputs)
        grad_x, grad_y = found[:2] if gradients else (None, None)
        total, potential_x, potential_y = found[-3:]
        if y is None:
            potential_x = 2 * potential_x  # each weight stands on both sides
        parts = (
            (reference.GRAD_X, grad_x),
            (reference.GRAD_Y, grad_y),
            (reference.POTENTIAL_X, potential_x),
            (reference.POTENTIAL_Y, potential_y),
        )
        return total.reshape(()), *(part if outputs & bit else None for bit, part in parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        ctx.numbers = (*inputs[4:7], inputs[8])
        ctx.mark_non_differentiable(*(gradient for gradient in output[1:] if gradient is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:4], *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *unseen: None) -> Any:
        if grad is None:
            return (None,) * 11
        saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_SumGradients.apply(ctx.numbers, grad, *saved), *[None] * 7
        return *(_times(grad, gradient) for gradient in saved[4:]), *[None] * 7

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(_KernelSum, info, in_dims, inputs)


class _PlainSum(torch.autograd.Function):
    """The same outside torch.func, in the form that costs 60 µs less."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[_Given, ...]:
        output = _KernelSum.forward(*inputs)
        _KernelSum.setup_context(ctx, inputs, output)
        return output

    backward = staticmethod(_KernelSum.backward)


def _times(grad: Tensor, part: Tensor | None) -> Tensor | None:
    return None if part is None else grad.to(part.dtype) * part


class _SumGradients(torch.autograd.Function):
    """Gradients with a graph, which costs nothing until it is walked: then the pairs are gone through as plain torch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(numbers: Any, grad: Tensor, *saved: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(_times(grad, gradient) for gradient in saved[4:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        ctx.numbers = inputs[0]
        ctx.wanted = [gradient is not None for gradient in output]
        ctx.save_for_backward(*inputs[1:6])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor | None) -> Any:
        def gradients(grad: Tensor, x: Tensor, y: _Given, u: _Given, v: _Given) -> list[Tensor]:
            code, scale, shape, diagonal = ctx.numbers
            found = _differentiable(x, y, u, v, code, scale, shape, diagonal)
            return [grad.to(part.dtype) * part for part, wanted in zip(found, ctx.wanted, strict=True) if wanted]

        seen = [direction for direction in directions if direction is not None]
        needed, again = ctx.needs_input_grad[1:6], torch.is_grad_enabled()
        return None, *second_order(gradients, ctx.saved_tensors, needed, seen, again), *[None] * 4


class _KernelMeans(torch.autograd.Function):
    """The backward is that of a sum whose weights are the incoming gradient."""

    @staticmethod
    def forward(x, code, scale, shape, table, backend) -> Tensor:  # type: ignore[no-untyped-def]
        operator = _backend.pick("mmd_exact_fwd", x.device, _backend.forced(backend), main=True)
        found: Tensor = operator(x, None, None, None, code, scale, shape, table, True, reference.POTENTIAL_X)[1]
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.numbers, ctx.table, ctx.backend = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return _MeansGradient.apply(x, grad.contiguous(), *ctx.numbers, ctx.table, ctx.backend), *[None] * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(_KernelMeans, info, in_dims, inputs)


class _MeansGradient(torch.autograd.Function):
    """Gradient of <means, grad> in the points."""

    @staticmethod
    def forward(x, grad, code, scale, shape, table, backend) -> Tensor:  # type: ignore[no-untyped-def]
        operator = _backend.pick("mmd_exact_bwd", x.device, _backend.forced(backend), main=True)
        wanted = reference.GRAD_X | reference.GRAD_Y
        left, right, *_ = operator(x, x, grad, None, code, scale, shape, table, True, wanted)
        found: Tensor = left + right
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.numbers = inputs[2:5]
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        def gradients(x: Tensor, grad: Tensor) -> list[Tensor]:
            code, scale, shape = ctx.numbers
            left, right, *_ = _differentiable(x, x, grad, None, code, scale, shape, True)
            return [left + right]

        needed, again = ctx.needs_input_grad[:2], torch.is_grad_enabled()
        return *second_order(gradients, ctx.saved_tensors, needed, [direction], again), *[None] * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(_MeansGradient, info, in_dims, inputs)


def _tile(x: Tensor, y: Tensor, u: Tensor, v: Tensor, first: int | None, *numbers: Any) -> tuple[Tensor, ...]:
    """Gradients and potentials of some rows; ``first``: number of the first where pairs on the diagonal do not count."""
    value, slope, along = reference.pair_kernel(x, y, *numbers)
    if first is not None:
        off = torch.ones_like(value, dtype=torch.bool)
        off[:, first : first + x.shape[0]].fill_diagonal_(False)
        value, slope = value.where(off, 0.0), slope.where(off, 0.0)
    weighted = slope * u[:, None] * v
    if numbers[0] == reference.POLYNOMIAL:
        left, right = weighted @ y, weighted.t() @ x
    else:
        left = torch.einsum("ij,ijk->ik", weighted, along)
        right = -torch.einsum("ij,ijk->jk", weighted, along)
    return left, right, value @ v, u @ value


def _differentiable(
    x: Tensor,
    y: Tensor | None,
    u: Tensor | None,
    v: Tensor | None,
    code: int,
    scale: float,
    shape: float,
    diagonal: bool,
) -> list[Tensor]:
    """Gradients of the sum in x, y, u and v as functions that can be differentiated again."""
    first = x.double()
    second = first if y is None else y.double()
    u_all = reference.uniform(x) if u is None else u
    v_all = u_all if y is None else reference.uniform(y) if v is None else v
    lefts, tops = [], []
    right, bottom = torch.zeros_like(second), torch.zeros_like(v_all)
    for rows in reference.row_tiles(first, second):
        start = rows.start if y is None and not diagonal else None
        arguments = (first[rows], second, u_all[rows], v_all, start, code, scale, shape)
        left, down, top, across = recomputed(_tile, *arguments)
        lefts.append(left)
        tops.append(top)
        right, bottom = right + down, bottom + across
    left, top = torch.cat(lefts), torch.cat(tops)
    if y is None:  # both sides are one cloud
        left, top = left + right, top + bottom
    return [left.to(x.dtype), right.to(x.dtype), top, bottom]
