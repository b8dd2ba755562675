"""Distances of slices with smooth kernels for many labellings: labels times Fourier features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _backend
from . import _spectrum
from ._kernels import Kernel


def permuted_modes(kernel: Kernel, d: int, tx: Tensor, labels: Tensor, backend: str | None) -> Tensor:
    """Sum over slices tx (k, n) of half the squared distance, for each row of labels (B, n), of which 1 says x: (B,).

    Per slice the distance is sum c_k |phi_x(k) - phi_y(k)|^2 over the modes of a window, as in the operator
    ``mmd_fourier``; Laplace's kink is a distance of ranks, its parabola a squared difference of means.
    """
    code = _spectrum.LAPLACE if kernel.name == "matern" and kernel.shape == 0.5 else kernel.code
    double = tx.dtype == torch.float64
    low, high = _spectrum.band(code, d, kernel.shape, double)
    stretch, margin = _spectrum.period(code, d, double)
    kink, sigma = _spectrum.kink(code, d), kernel.scale
    n = labels.shape[1]
    chosen = int(labels[0].sum())
    weights = labels.to(tx.dtype) * (n / (chosen * (n - chosen)))  # phi_x - phi_y = sum (l / N - (1 - l) / M) e
    total = torch.zeros(labels.shape[0], dtype=torch.float64, device=tx.device)
    for points in tx:
        bottom, top = points.aminmax()
        span = float(top.double() - bottom.double())
        if not math.isfinite(span):
            return torch.full_like(total, math.nan)
        length = stretch * _spectrum.rounded_up(span / sigma) + margin
        first, count, _ = _spectrum.window(code, d, kernel.shape, low, high, length)
        modes = first + torch.arange(int(count), dtype=torch.float64)
        c = torch.from_numpy(_spectrum.coefficients(code, d, kernel.shape, kink, length, modes.numpy())).to(tx.device)
        centred = points.double() - 0.5 * (top.double() + bottom.double())
        angles = (2 * math.pi / (length * sigma)) * centred[:, None] * modes.to(tx.device)
        features = torch.cat([angles.cos(), angles.sin(), centred[:, None]], dim=1).to(tx.dtype)
        gaps = (weights @ features - features.sum(0) / (n - chosen)).double().square()
        count_modes = modes.numel()
        total += gaps[:, :-1].view(-1, 2, count_modes).sum(1) @ c
        if kink:
            total -= kink / (length * sigma * sigma) * gaps[:, -1]
    if kink:
        op = _backend.pick("mmd_permutation", tx.device, backend)
        total += kink / sigma * op(tx, labels).sum(0)
    return total * sigma ** (-2 * kernel.shape) if kernel.name == "imq" else total
