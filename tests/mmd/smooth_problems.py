"""Samples, exact kernels and finite differences for the operators of the kernels that are not ranks."""

from __future__ import annotations

import math

import torch

from fastcore_ops import _backend

ALL = 31
GRADIENTS, VALUE = 3, 4


def operator(name, backend):
    return _backend.pick(name, torch.device("cpu"), backend, main=True)


def sample(slices=1, n=9, m=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(slices, k, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.to(dtype), (1.2 * y + 0.3).to(dtype)


def weights(n, m, seed=0, signed=False):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(k, generator=generator, dtype=torch.float64) + 0.1 for k in (n, m))
    return (a - 0.5, b - 0.4) if signed else (a / a.sum(), b / b.sum())


def kernel_of_distance(kernel, rho, *, bandwidth=1.0, r=1.0, nu=1.5, alpha=1.0, beta=0.5):
    """F(rho) of each kernel, written down."""
    scaled = rho / bandwidth
    if kernel == "riesz":
        return -(rho**r)
    if kernel == "gaussian":
        return torch.exp(-0.5 * scaled**2)
    if kernel == "laplace":
        return torch.exp(-scaled)
    if kernel == "matern":
        assert nu == 1.5
        return (1 + math.sqrt(3) * scaled) * torch.exp(-math.sqrt(3) * scaled)
    if kernel == "rational_quadratic":
        return (1 + scaled**2 / (2 * alpha)) ** -alpha
    if kernel == "imq":
        return (bandwidth**2 + rho**2) ** -beta
    if kernel == "log":
        return -torch.log(rho)
    assert kernel == "thin_plate"
    return torch.where(rho > 0, rho**2 * torch.log(rho.clamp_min(1e-300)), 0.0)


def half_mmd(x, y, kernel, a=None, b=None, unbiased=False, **parameters):
    """Half MMD^2 of points (N, d), (M, d) by all pairs."""
    n, m = len(x), len(y)
    a = torch.full((n,), 1 / n, dtype=torch.float64) if a is None else a
    b = torch.full((m,), 1 / m, dtype=torch.float64) if b is None else b

    def pairs(u, v, own):
        distance = (u[:, None] - v).square().sum(-1)
        k = kernel_of_distance(kernel, torch.where(distance > 0, distance, 0.0).sqrt(), **parameters)
        return k.masked_fill(torch.eye(len(u), dtype=torch.bool), 0.0) if own else k

    if unbiased:
        own = pairs(x, x, True).sum() / (n * (n - 1)) + pairs(y, y, True).sum() / (m * (m - 1))
        return 0.5 * own - pairs(x, y, False).mean()
    return 0.5 * (a @ pairs(x, x, False) @ a + b @ pairs(y, y, False) @ b) - a @ pairs(x, y, False) @ b


def numeric_gradient(function, at, step=1e-5):
    """Central differences of a scalar function at a tensor."""
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        moved = [at.clone(), at.clone()]
        for sign, point in zip((-1, 1), moved):
            point.view(-1)[i] += sign * step
        gradient.view(-1)[i] = (function(moved[1]) - function(moved[0])) / (2 * step)
    return gradient
