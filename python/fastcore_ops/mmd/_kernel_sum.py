"""Sums of a kernel over all pairs as differentiable functions of points and weights.

First derivatives come from the operators. Where a graph of them is wanted (``create_graph=True``) the same formulas run as
tiles of plain torch, recomputed when they are needed, so that memory stays that of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import _backend
from . import _reference_exact as reference
from ._kernels import Kernel
from ._matern_table import CLOSED_FORMS, matern_table


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
    return _KernelSum.apply(x.contiguous(), y, x_weights, y_weights, *numbers, diagonal, backend)


def kernel_means(x: Tensor, kernel: Kernel, backend: str | None = None) -> Tensor:
    """Means of each row of the kernel matrix of ``x``, float64, shape (N,)."""
    return _KernelMeans.apply(x.contiguous(), *kernel_numbers(kernel, x.device), backend)


class _KernelSum(torch.autograd.Function):
    """One walk over the pairs gives the sum and every gradient that will be asked for."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x, y, u, v, code, scale, shape, table, diagonal, backend
    ) -> Tensor:
        needs_x, needs_y, needs_u, needs_v = ctx.needs_input_grad[:4]
        outputs = reference.SUM | reference.POTENTIAL_X * needs_u | reference.POTENTIAL_Y * needs_v
        gradients = reference.GRAD_X * needs_x | reference.GRAD_Y * needs_y
        name = "mmd_exact_bwd" if gradients else "mmd_exact_fwd"
        operator = _backend.pick(name, x.device, _backend.forced(backend), main=True)
        found = operator(x, y, u, v, code, scale, shape, table, diagonal, outputs | gradients)
        grad_x, grad_y = found[:2] if gradients else (None, None)
        total, potential_x, potential_y = found[-3:]
        if y is None and needs_u:
            potential_x = 2 * potential_x  # each weight stands on both sides
        ctx.save_for_backward(x, y, u, v, grad_x, grad_y, potential_x, potential_y)
        ctx.numbers = (code, scale, shape, diagonal)
        return total.reshape(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, y, u, v, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            saved = _differentiable(x, y, u, v, *ctx.numbers)
        found = [
            None if not needed else (grad.to(gradient.dtype) * gradient)
            for needed, gradient in zip(ctx.needs_input_grad, saved, strict=False)
        ]
        return (*found, *[None] * 6)


class _KernelMeans(torch.autograd.Function):
    """The backward is that of a sum whose weights are the incoming gradient."""

    @staticmethod
    def forward(ctx, x, code, scale, shape, table, backend) -> Tensor:  # type: ignore[no-untyped-def]
        operator = _backend.pick("mmd_exact_fwd", x.device, _backend.forced(backend), main=True)
        ctx.save_for_backward(x, table)
        ctx.numbers = (code, scale, shape)
        ctx.backend = backend
        return operator(x, None, None, None, code, scale, shape, table, True, reference.POTENTIAL_X)[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, table = ctx.saved_tensors
        if torch.is_grad_enabled():
            code, scale, shape = ctx.numbers
            left, right, *_ = _differentiable(x, x, grad, None, code, scale, shape, True)
        else:
            operator = _backend.pick("mmd_exact_bwd", x.device, _backend.forced(ctx.backend), main=True)
            wanted = reference.GRAD_X | reference.GRAD_Y
            left, right, *_ = operator(x, x, grad.contiguous(), None, *ctx.numbers, table, True, wanted)
        return (left + right, *[None] * 5)


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
        left, down, top, across = checkpoint(_tile, *arguments, use_reentrant=False, preserve_rng_state=False)
        lefts.append(left)
        tops.append(top)
        right, bottom = right + down, bottom + across
    left, top = torch.cat(lefts), torch.cat(tops)
    if y is None:  # both sides are one cloud
        left, top = left + right, top + bottom
    return [left.to(x.dtype), right.to(x.dtype), top, bottom]
