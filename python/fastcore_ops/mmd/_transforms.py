"""What derivatives of derivatives, and the transforms of torch.func, ask of the functions with gradients of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def transformed() -> bool:
    """Whether a transform of torch.func (grad, vmap, …) is at work: native operators know nothing of them."""
    return bool(torch._C._are_functorch_transforms_active())


def recomputed(tile: Callable[..., Any], *arguments: Any) -> Any:
    """A tile that is computed again in the backward, so that memory is that of one; torch.func does not take that."""
    if transformed():
        return tile(*arguments)
    return checkpoint(tile, *arguments, use_reentrant=False, preserve_rng_state=False)


def pullback(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], directions: Sequence[Tensor], graph: bool
) -> Sequence[Tensor | None]:
    """Derivatives of <function(*inputs), directions> in the inputs, of a function of plain torch; with a graph, if wanted."""
    if transformed():
        pull: Any = torch.func.vjp(lambda *given: tuple(function(*given)), *inputs)[1]
        found: Sequence[Tensor] = pull(tuple(directions))
        return found
    with torch.enable_grad():
        # One of the inputs may be made of another: seen through views of their own, none leads to another.
        views = [tensor.view_as(tensor) for tensor in inputs]
        pairs = [(part, v) for part, v in zip(function(*views), directions, strict=True) if part.requires_grad]
        if not pairs:  # a constant
            return [None for _ in inputs]
        parts, along = zip(*pairs, strict=True)
        return torch.autograd.grad(parts, views, along, create_graph=graph, allow_unused=True)


def second_order(
    gradients: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    directions: Sequence[Tensor],
    graph: bool,
) -> list[Tensor | None]:
    """Derivatives of <gradients(*inputs), directions> in the inputs that are ``needed``; None for the others."""
    places = [k for k, need in enumerate(needed) if need and inputs[k] is not None]

    def of_needed(*moved: Tensor) -> Sequence[Tensor]:
        given = list(inputs)
        for k, tensor in zip(places, moved, strict=True):
            given[k] = tensor
        return gradients(*given)

    picked = [tensor for k in places if (tensor := inputs[k]) is not None]
    derivatives: list[Tensor | None] = [None] * len(inputs)
    for k, found in zip(places, pullback(of_needed, picked, directions, graph), strict=True):
        derivatives[k] = found
    return derivatives


def one_by_one(function: Any, info: Any, in_dims: Sequence[Any], inputs: Sequence[Any]) -> tuple[Any, Any]:
    """The vmap rule of a function of single clouds: call after call, results stacked."""
    calls = []
    for i in range(info.batch_size):
        picked = [part if axis is None else part.select(axis, i) for part, axis in zip(inputs, in_dims, strict=True)]
        calls.append(function.apply(*picked))
    if isinstance(calls[0], Tensor):
        return torch.stack(calls), 0
    parts = tuple(None if column[0] is None else torch.stack(column) for column in zip(*calls, strict=True))
    return parts, tuple(None if part is None else 0 for part in parts)
