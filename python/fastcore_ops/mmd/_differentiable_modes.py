"""Values of slices with smooth kernels as torch that autograd can go through twice, many slices at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from . import _spectrum
from ._kernels import Kernel

Series = tuple[_spectrum.Floats, _spectrum.Floats]
_ANGLES = 1 << 22  # numbers that are made together; 16 times as many on a GPU


def slice_values(
    kernel: Kernel, d: int, double: bool, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, unbiased: bool
) -> Tensor:
    """Half the squared distance of each slice x (P, N), y (P, M), in float64: (P,).

    The kernel is smooth: not Laplace's. Periods are constants to the gradient, as in the operator ``mmd_fourier``; where
    something is not finite, value and gradients are NaN.
    """
    ends = [end.detach() for cloud in (x, y) for end in torch.aminmax(cloud, dim=1)]
    bottom, top = torch.minimum(ends[0], ends[2]), torch.maximum(ends[1], ends[3])
    middle = 0.5 * (bottom + top)[:, None]
    series = [_series(kernel, d, double, span) for span in ((top - bottom) / kernel.scale).tolist()]
    room = _ANGLES * (16 if x.is_cuda else 1) // (x.shape[1] + y.shape[1])
    found = []
    for start, stop in _groups([len(c) for _, c in series], room):
        rows = slice(start, stop)
        rates, c = _padded(series[rows]).to(x.device)
        found.append(_values(x[rows] - middle[rows], y[rows] - middle[rows], a, b, rates / kernel.scale, c, unbiased))
    total = torch.cat(found)
    return total * kernel.scale ** (-2 * kernel.shape) if kernel.name == "imq" else total


def _series(kernel: Kernel, d: int, double: bool, span: float) -> Series:
    if not math.isfinite(span):
        return np.full(1, math.nan), np.zeros(1)
    rates, c, _ = _spectrum.series(kernel.code, d, kernel.shape, 0.0, span, double)
    return rates, c


def _groups(counts: list[int], room: int) -> Iterator[tuple[int, int]]:
    """Slices that have room together, each with as many modes as the one with most; at least one."""
    start, most = 0, 0
    for k, count in enumerate(counts):
        most = max(most, count)
        if k > start and most * (k + 1 - start) > room:
            yield start, k
            start, most = k, count
    yield start, len(counts)


def _padded(series: list[Series]) -> Tensor:
    """Angles and coefficients (2, slices, modes) of slices, with zeros behind."""
    padded = np.zeros((2, len(series), max(len(c) for _, c in series)))
    for p, pair in enumerate(series):
        padded[:, p, : len(pair[0])] = pair
    return torch.from_numpy(padded)


def _values(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, rates: Tensor, c: Tensor, unbiased: bool
) -> Tensor:
    """Sum over modes of c |phi_x - phi_y|^2, with the mode 0 for unequal totals; the U-statistic without a point's own pair."""

    def sums(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        w = points.new_full(points.shape[1:], 1 / points.shape[1]) if weights is None else weights.double()
        angles = rates[:, :, None] * points[:, None, :]
        return angles.cos() @ w, angles.sin() @ w

    (x_re, x_im), (y_re, y_im) = sums(x, a), sums(y, b)
    terms = (x_re - y_re).square() + (x_im - y_im).square()
    if unbiased:
        for re, im, points in ((x_re, x_im, x), (y_re, y_im, y)):
            terms = terms + (re.square() + im.square() - 1) / (points.shape[1] - 1)
    total = (c * terms).sum(1)
    if a is None and b is None:
        return total
    gap = (1.0 if a is None else a.double().sum()) - (1.0 if b is None else b.double().sum())
    return total + (0.5 - c.sum(1)) * gap**2
