"""Cauchy-Schwarz divergence and mutual information with Gaussian kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._arrays import is_numpy
from .._checks import positive_float, reject
from ._inputs import Sample, check_pair
from ._kernel_sum import kernel_means, kernel_sum
from ._kernels import Kernel, median_distance
from ._log_mean import log_gaussian_mean


def _gaussian(operation: str, name: str, bandwidth: Any) -> Kernel:
    return Kernel("gaussian", None if bandwidth is None else positive_float(operation, name, bandwidth), 0.0)


def cauchy_schwarz_divergence(x: Any, y: Any, *, bandwidth: float | None = None) -> Any:
    r"""Cauchy-Schwarz divergence between two samples, with Gaussian kernels.

    .. math:: \log \mathrm{mean}_{ij} K(x_i, x_j) + \log \mathrm{mean}_{ij} K(y_i, y_j) - 2 \log \mathrm{mean}_{ij} K(x_i, y_j)

    The means run over all pairs, K is ``exp(-rho^2 / 2 s^2)``. It is 0 where both samples are one, and never negative.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points; batches broadcast. Half precision is computed in float32.
    bandwidth : float, optional
        s. Default: the median distance of the pooled sample (at most 1000 evenly strided points), taken as a constant.

    Returns
    -------
    tensor, array or float
        One number for each of the batch, differentiable. Samples may be so far apart, in bandwidths, that no kernel between
        them is above the smallest float: they are compared by the logarithms of the kernels then, at the cost of plain torch.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    S. Yu, X. Yu, S. Løkse, R. Jenssen, J. C. Príncipe, "Cauchy-Schwarz Divergence Information Bottleneck for Regression",
    ICLR 2024, arXiv:2404.17951.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x = torch.randn(200, 4)
    >>> float(fo.mmd.cauchy_schwarz_divergence(x, x + 1.0)) > 0
    True
    """
    operation = "cauchy_schwarz_divergence"
    kernel = _gaussian(operation, "bandwidth", bandwidth)
    points_x, points_y = check_pair(operation, x, y)
    sample = Sample(points_x, points_y, None, None, is_numpy(x))
    flat_x, flat_y, *_ = sample.flat()
    values = [_divergence(flat_x[i], flat_y[i], kernel) for i in range(flat_x.shape[0])]
    return sample.answer(_stacked(values, sample))


def _divergence(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    kernel = kernel.of_sample(x, y)
    within_x, within_y = (kernel_sum(points, None, None, None, kernel) for points in (x, y))
    return within_x.log() + within_y.log() - 2 * log_gaussian_mean(x, y, kernel)


def _stacked(values: list[Tensor], sample: Sample) -> Tensor:
    if not values:
        return sample.nothing()
    return torch.stack(values).reshape(sample.batch).to(sample.dtype)


def cauchy_schwarz_mutual_information(
    x: Any, y: Any, *, x_bandwidth: float | None = None, y_bandwidth: float | None = None
) -> Any:
    r"""Cauchy-Schwarz quadratic mutual information of paired samples, with Gaussian kernels.

    With K the kernel matrix of x and Q that of y, the Cauchy-Schwarz divergence between the joint density and the product of
    the marginal ones:

    .. math:: \log \mathrm{mean}_{ij} K_{ij} Q_{ij} + \log (\mathrm{mean}_{ij} K_{ij} \, \mathrm{mean}_{ij} Q_{ij})
        - 2 \log \mathrm{mean}_i (\mathrm{mean}_j K_{ij} \, \mathrm{mean}_j Q_{ij})

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., N, e)
        Pairs (x_i, y_i), of one dtype and device, in dimensions that may differ; batches broadcast. Half precision is computed
        in float32.
    x_bandwidth, y_bandwidth : float, optional
        Default: the median distance of x, of y (at most 1000 evenly strided points), taken as a constant.

    Returns
    -------
    tensor, array or float
        One number for each of the batch, differentiable; never negative.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    S. Yu, X. Yu, S. Løkse, R. Jenssen, J. C. Príncipe, "Cauchy-Schwarz Divergence Information Bottleneck for Regression",
    ICLR 2024, arXiv:2404.17951.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x = torch.randn(200, 4)
    >>> float(fo.mmd.cauchy_schwarz_mutual_information(x, x[:, :1])) > 0
    True
    """
    operation = "cauchy_schwarz_mutual_information"
    kernel_x, kernel_y = (
        _gaussian(operation, "x_bandwidth", x_bandwidth),
        _gaussian(operation, "y_bandwidth", y_bandwidth),
    )
    sample = _check_paired(operation, x, y)
    flat_x, flat_y, *_ = sample.flat()
    values = [_mutual_information(flat_x[i], flat_y[i], kernel_x, kernel_y) for i in range(flat_x.shape[0])]
    return sample.answer(_stacked(values, sample))


def _check_paired(operation: str, x: Any, y: Any) -> Sample:
    points_x, points_y = check_pair(operation, x, y, same_width=False)
    if points_x.shape[-2] != points_y.shape[-2]:
        reject(
            operation,
            f"`y` with as many points as `x` ({points_x.shape[-2]})",
            f"{points_y.shape[-2]} (shapes {tuple(points_x.shape)} and {tuple(points_y.shape)})",
            "The samples are pairs (x_i, y_i).",
        )
    return Sample(points_x, points_y, None, None, is_numpy(x))


def _in_bandwidths(points: Tensor, bandwidth: float) -> Tensor:
    """Points relative to their mean, divided by the bandwidth: the product of two kernels is then one kernel."""
    wide = points.double()
    return ((wide - wide.detach().mean(0)) / bandwidth).to(points.dtype)


def _mutual_information(x: Tensor, y: Tensor, kernel_x: Kernel, kernel_y: Kernel) -> Tensor:
    scaled = []
    for points, kernel in ((x, kernel_x), (y, kernel_y)):
        bandwidth = median_distance(points) if kernel.bandwidth is None else kernel.bandwidth
        scaled.append(_in_bandwidths(points, bandwidth))
    unit = Kernel("gaussian", 1.0, 0.0)
    means_x, means_y = (kernel_means(points, unit) for points in scaled)
    joint = kernel_sum(torch.cat(scaled, dim=1), None, None, None, unit)
    return joint.log() + (means_x.mean() * means_y.mean()).log() - 2 * (means_x * means_y).mean().log()
