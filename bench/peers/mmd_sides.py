"""What races: our calls, and the code that people write for the same figure today.

A side takes the problem and returns a function without arguments, and that function a tensor: what the sides
of one race are compared by.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import fastcore_ops as fo
from fastcore_ops import _native

from .mmd_data import Problem, slicing_constant

Call = Callable[[], Tensor]


# Ours


def ours_rank(problem: Problem) -> Call:
    """The operator on projections, for the gradient in x."""
    x, y = problem.projected
    op = _native.handle("mmd_rank")
    return lambda: op(x, y, None, None, False, 1)[0]


def ours_gradient(problem: Problem) -> Call:
    x, y, directions = problem.x, problem.y, problem.directions
    return lambda: fo.sliced_mmd_grad(x, y, directions=directions, half=True)


def ours_hadamard(problem: Problem, seed: int = 2) -> Call:
    x, y = problem.x, problem.y
    generator = torch.Generator().manual_seed(seed)
    return lambda: fo.sliced_mmd_grad(
        x, y, num_slices=problem.slices, slices="hadamard", generator=generator, half=True
    )


def ours_both(problem: Problem) -> Call:
    """Value and both gradients."""
    x, y = problem.x.clone().requires_grad_(), problem.y.clone().requires_grad_()

    def call() -> Tensor:
        value = fo.sliced_mmd(x, y, directions=problem.directions, half=True)
        return torch.autograd.grad(value, (x, y))[0]

    return call


def ours_exact(problem: Problem) -> Call:
    x, y = problem.x.clone().requires_grad_(), problem.y
    return lambda: _with_value(fo.mmd.energy_distance(x, y, half=True), x)


def ours_kid(problem: Problem, double: bool = False, full: bool = False) -> Call:
    x, y = (problem.x.double(), problem.y.double()) if double else (problem.x, problem.y)

    def call() -> Tensor:
        result = fo.mmd.kid(x, y, full=full, generator=torch.Generator().manual_seed(3))
        return torch.tensor([result.mean, result.std], dtype=torch.float64)

    return call


def ours_test(problem: Problem, permutations: int = 999) -> Call:
    x, y = problem.x, problem.y

    def call() -> Tensor:
        result = fo.mmd.mmd_test(
            x, y, num_permutations=permutations, num_slices=problem.slices, generator=torch.Generator().manual_seed(3)
        )
        return torch.tensor([result.p_value, result.statistic], dtype=torch.float64)

    return call


def _with_value(value: Tensor, x: Tensor) -> Tensor:
    """The gradient in x, a row for the value under it."""
    (gradient,) = torch.autograd.grad(value, x)
    last = torch.zeros_like(gradient[:1])
    last[0, 0] = value.detach()
    return torch.cat((gradient, last))


# Sliced, in torch


def three_sorts(x: Tensor, y: Tensor) -> Tensor:
    """Gradient of D² of each slice: sort the concatenation, sort its permutation to invert it, sort x again."""
    n, m = x.shape[1], y.shape[1]
    order = torch.sort(torch.cat((x, y), 1)).indices
    below = torch.cumsum((order >= n).to(x.dtype), -1)
    place = torch.sort(order).indices[:, :n]
    gradient = torch.gather((2 * below - m) / (n * m), 1, place)
    order_x = torch.sort(x).indices
    repulsion = (2 * torch.arange(n, dtype=x.dtype, device=x.device) + 1 - n) / -(n * n)
    return gradient.scatter_add_(1, order_x, repulsion.expand_as(x))


def torch_rank(problem: Problem) -> Call:
    x, y = problem.projected
    return lambda: three_sorts(x, y)


def torch_gradient(problem: Problem) -> Call:
    x, y, directions = problem.x, problem.y, problem.directions
    scale = slicing_constant(problem.d) / problem.slices
    return lambda: scale * (three_sorts(directions @ x.T, directions @ y.T).T @ directions)


# Exact


def cdist(problem: Problem, mode: str = "use_mm_for_euclid_dist_if_necessary") -> Call:
    x, y = problem.x.clone().requires_grad_(), problem.y

    def mean(u: Tensor, v: Tensor) -> Tensor:
        return torch.cdist(u, v, compute_mode=mode).mean()

    return lambda: _with_value(mean(x, y) - 0.5 * mean(x, x) - 0.5 * mean(y, y), x)


def geomloss(problem: Problem, backend: str) -> Call:
    # KeOps looks for `python3-config` of the interpreter it runs in.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if backend == "online":
        import pykeops  # noqa: F401  geomloss would silently go on without it
    from geomloss import SamplesLoss

    loss = SamplesLoss("energy", backend=backend)
    x, y = problem.x.clone().requires_grad_(), problem.y
    return lambda: _with_value(loss(x, y), x)


# KID and the permutation test


def torchmetrics(problem: Problem) -> Call:
    from torchmetrics.image.kid import KernelInceptionDistance

    def call() -> Tensor:
        torch.manual_seed(3)  # it draws from the global generator
        metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=100, subset_size=1000)
        metric.update(problem.x, real=True)
        metric.update(problem.y, real=False)
        return torch.stack(metric.compute()).double()

    return call


def dense_test(problem: Problem, permutations: int = 999) -> Call:
    """One matrix of distances, all labellings through one product."""
    n = problem.n

    def call() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        z = torch.cat((problem.x, problem.y))
        signs = torch.full((permutations + 1, 2 * n), -1.0 / n)
        signs[0, :n] = 1.0 / n
        for row in signs[1:]:
            row[torch.randperm(2 * n, generator=generator)[:n]] = 1.0 / n
        values = -((signs @ torch.cdist(z, z)) * signs).sum(1).double()
        beyond = int((values[1:] >= values[0]).sum())
        return torch.stack((torch.tensor((1 + beyond) / (permutations + 1), dtype=torch.float64), values[0]))

    return call


SIDES: dict[str, Callable[..., Call]] = {
    function.__name__: function
    for function in (
        ours_rank, ours_gradient, ours_hadamard, ours_both, ours_exact, ours_kid, ours_test,
        torch_rank, torch_gradient, cdist, geomloss, torchmetrics, dense_test,
    )
}  # fmt: skip
