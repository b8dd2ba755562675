"""Derivatives of the transport value by the envelope theorem: no solve, nothing unrolled.

dW/dC = P, dW/da = f, dW/db = g (masses up to a constant: a step must keep their sum), and through the points
dW/dx_i = sum_j P_ij dc(x_i, y_j)/dx_i. For squared distances that is 2 (x_i sum_j P_ij - sum_j P_ij y_j), one pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _reference

if TYPE_CHECKING:
    from ._transport_result import OTResult


def _square_gradients(result: OTResult) -> tuple[Tensor, Tensor]:
    problem = result.problem
    x, y = problem.source[0], problem.source[1]
    assert y is not None
    moved, pulled = result.evaluator.product(result.centred_g, result.reg, y.double(), x.t().double().contiguous())
    assert problem.shift is not None  # the clouds were centred apart: x - y = x' - y' + shift
    x64, y64 = x.double() + problem.shift, y.t().double() - problem.shift
    return 2 * (problem.a[:, None] * x64 - moved.t()), 2 * (result.col_sum[:, None] * y64 - pulled.t())


def _distance_gradients(result: OTResult) -> tuple[Tensor, Tensor]:
    """Gradient for the metrics that are not smooth everywhere; where two coordinates meet it is taken as zero."""
    problem = result.problem
    x, y_t, metric = problem.source[:3]
    assert y_t is not None
    x64, y64 = x.double(), y_t.double()
    grad_x, grad_y = torch.zeros_like(x64), torch.zeros_like(y64)
    for rows, distance, _, plan in _reference.plan_rows(*problem.source, result.centred_g, problem.a, result.reg):
        weight = (
            plan if metric == _reference.CITYBLOCK else plan / distance.where(distance > 0, torch.ones_like(distance))
        )
        for k in range(x64.shape[1]):
            difference = x64[rows, k, None] - y64[k]
            pull = weight * (difference.sign() if metric == _reference.CITYBLOCK else difference)
            grad_x[rows, k] = pull.sum(1)
            grad_y[k] -= pull.sum(0)
    return grad_x, grad_y.t()


def _point_gradients(result: OTResult) -> tuple[Tensor, Tensor]:
    problem = result.problem
    squared = problem.source[2] == _reference.SQEUCLIDEAN
    along_rows, along_cols = _square_gradients(result) if squared else _distance_gradients(result)
    on_rows = result.spread(along_rows * problem.total_mass, problem.rows)
    on_cols = result.spread(along_cols * problem.total_mass, problem.cols)
    return (on_cols, on_rows) if problem.transposed else (on_rows, on_cols)


class EnvelopeValue(torch.autograd.Function):
    """Identity on the value, with the envelope theorem's gradient towards cost or points and masses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, result: OTResult, *inputs: Tensor) -> Tensor:
        """Remember the result; the solve has happened already."""
        ctx.result, ctx.dtypes = result, [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return P or the points' gradients, then f and g; a gradient of these raises."""
        with torch.no_grad():
            gradients = EnvelopeValue._gradients(ctx, grad)
        if torch.is_grad_enabled():  # create_graph=True
            inputs = ctx.result.problem.inputs
            gradients = [
                None if part is None else NoGradientYet.apply(part, "the gradient of value", grad, *inputs)
                for part in gradients
            ]
        return (None, None, *gradients)

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor) -> list[Tensor | None]:
        result, wanted = ctx.result, ctx.needs_input_grad[2:]
        detached = result.detached_potentials()
        gradients: list[Tensor | None] = []
        if result.problem.is_points:
            points = _point_gradients(result) if any(wanted[:2]) else (None, None)
            gradients.extend(points)
        else:
            gradients.append(result.dense_plan(torch.float64) if wanted[0] else None)
        gradients.extend(detached)
        return [
            None if part is None or not want else (grad * part).to(dtype)
            for part, want, dtype in zip(gradients, wanted, ctx.dtypes, strict=True)
        ]


class NoGradientYet(torch.autograd.Function):
    """Identity whose backward raises: an output without a gradient is never silently detached."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, name: str, *inputs: Tensor) -> Tensor:
        """Pass the output on."""
        ctx.name = name
        return output.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        """Raise."""
        raise NotImplementedError(
            f"sinkhorn_newton: `{ctx.name}` has no gradient yet; differentiate `value`, or detach `{ctx.name}` first"
        )
