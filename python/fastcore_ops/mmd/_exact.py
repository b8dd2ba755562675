"""``mmd`` and ``energy_distance``: kernel distances over all pairs, exactly, without a matrix of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import switch
from ._inputs import Sample, check_sample
from ._kernel_sum import kernel_sum
from ._kernels import Kernel, check_kernel


def mmd(
    x: Any,
    y: Any,
    *,
    kernel: str = "riesz",
    r: float = 1.0,
    bandwidth: float | None = None,
    x_weights: Any = None,
    y_weights: Any = None,
    unbiased: bool = False,
    half: bool = False,
    signed: bool = False,
    nu: float = 1.5,
    alpha: float = 1.0,
    beta: float = 0.5,
    degree: int = 3,
) -> Any:
    r"""Squared maximum mean discrepancy between two weighted point clouds, over all pairs.

    .. math:: \sum_{ij} a_i a_j K(x_i, x_j) + \sum_{ij} b_i b_j K(y_i, y_j) - 2 \sum_{ij} a_i b_j K(x_i, y_j)

    Distances come from direct differences, sums are in float64, memory is that of the clouds. With gradients one walk over the
    pairs gives the value and all of them; second derivatives are right too.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points; batches broadcast. Half precision is computed in float32.
    kernel : str, default "riesz"
        With rho the distance and s the bandwidth: "riesz" ``-rho^r``, "gaussian" ``exp(-rho^2 / 2 s^2)``, "laplace"
        ``exp(-rho / s)``, "matern" of order ``nu``, "rational_quadratic" ``(1 + rho^2 / (2 alpha s^2))^-alpha``, "imq"
        ``(s^2 + rho^2)^-beta``, "log" ``-log rho`` (only with ``unbiased=True``), "thin_plate" ``rho^2 log rho`` (may be
        negative unless the means agree), "polynomial" ``(<u, v> / d + 1)^degree``.
    r : float, default 1.0
        Exponent of the Riesz kernel, strictly between 0 and 2.
    bandwidth : float, optional
        Default: the median distance of the pooled sample (at most 1000 evenly strided points), taken as a constant.
    x_weights, y_weights : tensor or array, shapes (N,) or (..., N), (M,) or (..., M), optional
        Uniform when absent. Their totals must agree, to 1e-10, or to 1e-5, 1e-3 or 8e-3 where points or weights are float32,
        float16 or bfloat16; they are taken as they are.
    unbiased : bool, default False
        The U-statistic, which may be negative; uniform weights only.
    half : bool, default False
        Half of it: for the Riesz kernel ``E|X-Y|^r - E|X-X'|^r / 2 - E|Y-Y'|^r / 2``.
    signed : bool, default False
        Allow negative weights and unequal totals.
    nu, alpha, beta, degree : float, float, float, int
        Numbers of the kernels that have them; nu from 0.05 to 50.

    Returns
    -------
    tensor, array or float
        One number for each of the batch; float32, or float64 for float64 points. Differentiable in points and weights. NaN,
        gradients too, where an input is not finite.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    A. Gretton, K. M. Borgwardt, M. J. Rasch, B. Schölkopf, A. Smola, "A Kernel Two-Sample Test", JMLR 13, 2012. J. Hertrich,
    C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024, arXiv:2305.11463.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[2.0], [2.0], [5.0]])
    >>> float(fo.mmd.mmd(x, y, half=True))  # 7 / 9
    0.7777777910232544
    """
    unbiased, half, signed = (
        switch("mmd", name, value) for name, value in (("unbiased", unbiased), ("half", half), ("signed", signed))
    )
    numbers = {"r": r, "bandwidth": bandwidth, "nu": nu, "alpha": alpha, "beta": beta, "degree": degree}
    chosen = check_kernel("mmd", kernel, unbiased=unbiased, **numbers)
    sample = check_sample("mmd", x, y, x_weights, y_weights, unbiased=unbiased, signed=signed)
    return sample.answer(exact_distance(sample, chosen, unbiased, half))


def energy_distance(
    x: Any, y: Any, *, x_weights: Any = None, y_weights: Any = None, unbiased: bool = False, half: bool = False
) -> Any:
    """Energy distance ``2 E|X-Y| - E|X-X'| - E|Y-Y'|`` between two weighted point clouds, over all pairs.

    The same as ``mmd`` with its default kernel. In one dimension SciPy's ``energy_distance`` is the square root of it.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points; batches broadcast. Half precision is computed in float32.
    x_weights, y_weights : tensor or array, shapes (N,) or (..., N), (M,) or (..., M), optional
        Non-negative, of equal totals; uniform when absent.
    unbiased : bool, default False
        The U-statistic; uniform weights only.
    half : bool, default False
        Half of it.

    Returns
    -------
    tensor, array or float
        One number for each of the batch; float32, or float64 for float64 points; differentiable.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    G. J. Székely, M. L. Rizzo, "Energy statistics: A class of statistics based on distances", J. Stat. Plan. Inference 143,
    2013.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> fo.mmd.energy_distance(torch.randn(500, 3), torch.randn(400, 3) + 1.0) > 0.1
    tensor(True)
    """
    unbiased, half = (
        switch("energy_distance", name, value) for name, value in (("unbiased", unbiased), ("half", half))
    )
    sample = check_sample("energy_distance", x, y, x_weights, y_weights, unbiased=unbiased)
    return sample.answer(exact_distance(sample, Kernel("riesz", 1.0, 1.0), unbiased, half))


def exact_distance(sample: Sample, kernel: Kernel, unbiased: bool, half: bool) -> Tensor:
    """MMD^2, or half of it, of each of the batch; in the dtype of the computation."""
    x, y, a, b = sample.flat()
    values = [
        _one_distance(x[i], y[i], None if a is None else a[i], None if b is None else b[i], kernel, unbiased)
        for i in range(x.shape[0])
    ]
    if not values:
        return sample.nothing()
    stacked = torch.stack(values).reshape(sample.batch)
    return (stacked / 2 if half else stacked).to(sample.dtype)


def _one_distance(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, kernel: Kernel, unbiased: bool) -> Tensor:
    kernel = kernel.of_sample(x, y)
    within_x = kernel_sum(x, None, a, None, kernel, diagonal=not unbiased)
    within_y = kernel_sum(y, None, b, None, kernel, diagonal=not unbiased)
    if unbiased:
        n, m = x.shape[0], y.shape[0]
        within_x, within_y = within_x * (n / (n - 1)), within_y * (m / (m - 1))
    return within_x + within_y - 2 * kernel_sum(x, y, a, b, kernel)
