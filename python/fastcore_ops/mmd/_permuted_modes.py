"""Distances of slices with smooth kernels for many labellings: labels times Fourier features."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .. import _backend
from . import _spectrum
from ._cut import warn_of_span
from ._kernels import Kernel

_FEATURES = 1 << 20  # numbers of features that are made together; 16 times as many on a GPU


def permuted_modes(kernel: Kernel, d: int, tx: Tensor, labels: Tensor, backend: str | None) -> Tensor:
    """Sum over slices tx (k, n) of half the squared distance, for each row of labels (B, n), of which 1 says x: (B,).

    Per slice the distance is sum c_k |phi_x(k) - phi_y(k)|^2 over the modes of a window, as in the operator
    ``mmd_fourier``; Laplace's kink is a distance of ranks, its parabola a squared difference of means. A product with the
    labels takes the features of several slices.
    """
    code = _spectrum.LAPLACE if kernel.name == "matern" and kernel.shape == 0.5 else kernel.code
    kink, sigma = _spectrum.kink(code, d), kernel.scale
    n = labels.shape[1]
    chosen = int(labels[0].sum())
    weights = labels.to(tx.dtype) * (n / (chosen * (n - chosen)))  # phi_x - phi_y = sum (l / N - (1 - l) / M) e
    total = torch.zeros(labels.shape[0], dtype=torch.float64, device=tx.device)
    bottom, top = (end.double() for end in torch.aminmax(tx, dim=1))
    spans = ((top - bottom) / sigma).tolist()
    if not all(math.isfinite(span) for span in spans):
        return torch.full_like(total, math.nan)
    if spans:
        warn_of_span(code, d, kernel.shape, max(spans), tx.dtype == torch.float64, "")
    centred = tx.double() - 0.5 * (bottom + top)[:, None]
    series = [_spectrum.series(code, d, kernel.shape, kink, span, tx.dtype == torch.float64) for span in spans]
    for start, stop in _groups([len(c) for _, c, _ in series], n, tx.is_cuda):
        group, points = series[start:stop], centred[start:stop]
        of_slice = torch.from_numpy(np.repeat(np.arange(stop - start), [len(c) for _, c, _ in group])).to(tx.device)
        rates, factors = (
            torch.from_numpy(np.concatenate(part)).to(tx.device) for part in zip(*(s[:2] for s in group), strict=True)
        )
        angles = points[of_slice] * (rates / sigma)[:, None]
        features = torch.cat([angles.cos(), angles.sin(), points]).to(tx.dtype)
        parabolas = torch.tensor([-kink / (length * sigma * sigma) for *_, length in group], dtype=torch.float64)
        gaps = (weights @ features.t() - features.sum(1) / (n - chosen)).double().square()
        total += gaps @ torch.cat([factors, factors, parabolas.to(tx.device)])
    if kink:
        op = _backend.pick("mmd_permutation", tx.device, backend)
        total += kink / sigma * op(tx, labels).sum(0)
    return total * sigma ** (-2 * kernel.shape) if kernel.name == "imq" else total


def _groups(counts: list[int], n: int, on_gpu: bool) -> Iterator[tuple[int, int]]:
    """Slices whose features are made together: as many as there is room for, and at least one."""
    room = _FEATURES * (16 if on_gpu else 1)
    start, columns = 0, 0
    for k, count in enumerate(counts):
        columns += 2 * count + 1
        if k > start and columns * n > room:
            yield start, k
            start, columns = k, 2 * count + 1
    yield start, len(counts)
