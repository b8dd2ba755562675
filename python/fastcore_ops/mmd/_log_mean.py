"""The logarithm of the mean of a Gaussian kernel over all pairs of two clouds, however far apart they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._kernel_sum import kernel_sum
from ._kernels import Kernel
from ._reference_exact import row_tiles
from ._transforms import recomputed, transformed

_ROOM = 1e13  # kernels that the range of floats cuts off are below this share of the mean


def log_gaussian_mean(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Log mean_ij exp(-|x_i - y_j|^2 / 2 s^2), a differentiable float64 number.

    By the operators where the mean is well above the smallest float (of the points' dtype, in which they compute kernels);
    below it, and under torch.func, where that cannot be read, from the logarithms of the kernels.
    """
    if transformed():
        return _of_logarithms(x, y, kernel.scale)
    mean = kernel_sum(x, y, None, None, kernel)
    readable = type(mean) is Tensor and not torch.compiler.is_compiling()
    if readable and float(mean.detach()) < _ROOM * torch.finfo(x.dtype).tiny:  # not where it is NaN
        return _of_logarithms(x, y, kernel.scale)
    return mean.log()


def _of_logarithms(x: Tensor, y: Tensor, scale: float) -> Tensor:
    first, second = x.double() / scale, y.double() / scale
    rows = [recomputed(_row_logarithms, first[tile], second) for tile in row_tiles(first, second)]
    found = torch.logsumexp(torch.cat(rows), 0) - math.log(x.shape[0] * y.shape[0])
    finite = first.detach().isfinite().all() & second.detach().isfinite().all()
    spoiled: Tensor = found * torch.where(finite, 1.0, torch.nan)  # a point at infinity would only be left out
    return spoiled


def _row_logarithms(x: Tensor, y: Tensor) -> Tensor:
    return torch.logsumexp(-0.5 * (x[:, None] - y).square().sum(-1), 1)
