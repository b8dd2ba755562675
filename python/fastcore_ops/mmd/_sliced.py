"""``sliced_mmd`` and ``sliced_mmd_grad``: kernel distances between two clouds, by slices or exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._arrays import to_tensor
from ._coincidences import infinite_pairs
from ._exact import exact_distance
from ._request import Call, Options, prepare, warn_if_rough
from ._transforms import transformed
from ._value import sliced_gradient, sliced_value, wanted_gradients


def sliced_mmd(
    x: Any,
    y: Any,
    *,
    kernel: str = "riesz",
    r: float = 1.0,
    bandwidth: float | None = None,
    x_weights: Any = None,
    y_weights: Any = None,
    num_slices: int | None = None,
    slices: str = "auto",
    directions: Any = None,
    generator: torch.Generator | None = None,
    unbiased: bool = False,
    method: str = "auto",
    half: bool = False,
    signed: bool = False,
    process_group: Any = None,
    sharded: bool = False,
    nu: float = 1.5,
    alpha: float = 1.0,
    beta: float = 0.5,
    degree: int = 3,
) -> Any:
    """Squared kernel distance (MMD²) between two clouds of points, as a mean over one-dimensional slices.

    ``MMD² = E K(X, X') + E K(Y, Y') - 2 E K(X, Y)``. With the default kernel ``-|u - v|`` it is the energy distance, and a
    slice costs a sort. Differentiable in points and weights: the forward pass computes every gradient asked for.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points of one floating dtype, on one device; batches broadcast and share the slices. Half precision is computed in
        float32. ``y`` may be a ``SlicedTarget``.
    kernel : str, default "riesz"
        "riesz": ``-rho^r``; "gaussian": ``exp(-rho^2 / 2 s^2)``; "laplace": ``exp(-rho / s)``; "matern" (``nu``);
        "rational_quadratic": ``(1 + rho^2 / 2 alpha s^2)^-alpha``; "imq": ``(s^2 + rho^2)^-beta``; "log": ``-log rho``
        (only with ``unbiased``; infinite where points coincide); "thin_plate": ``rho^2 log rho`` (may be negative unless the
        means agree); "polynomial": ``(<u, v> / d + 1)^degree`` (always exact).
    r : float, default 1.0
        Exponent of "riesz", between 0 and 2. For r <= 1/2 the sliced gradient in the points has infinite variance: a
        warning.
    bandwidth : float, optional
        ``s`` above; default the median distance of the pooled sample (at most 1000 evenly strided points, no gradient).
    x_weights, y_weights : tensor or array, shapes (N,) and (M,) or (..., N) and (..., M), optional
        Masses; uniform when absent. Their totals must agree, to 1e-10, or to 1e-5, 1e-3 or 8e-3 where points or weights are
        float32, float16 or bfloat16, and are not normalised.
    num_slices : int, optional
        Default 1 for d = 1 (which is exact, whatever is asked), else max(128, d), d padded to a power of two where slices
        are Hadamard's.
    slices : str, default "auto"
        Law of the directions, as for ``make_directions``; "hadamard" pads points of any dimension. "auto": one slice for
        d = 1, "circle", "spiral", "orthogonal" from 4, "hadamard" from 64.
    directions : tensor or array, shape (P, d), optional
        Unit rows, used as they are, in the dtype of the computation.
    generator : torch.Generator, optional
        Source of drawn directions; the global one is left alone where it is given.
    unbiased : bool, default False
        The U-statistic: pairs of a point with itself are left out. Uniform weights only, N and M at least 2; may be
        negative.
    method : {"auto", "sliced", "exact"}
        "auto" is exact where slices cannot win, N + M <= 2 num_slices, and none of ``num_slices``, ``slices``,
        ``directions`` was given.
    half : bool, default False
        Return ``D² = MMD² / 2``, the convention of ``MMDFlow``.
    signed : bool, default False
        Allow negative weights and unequal totals.
    process_group : torch.distributed group, optional
        Ranks that share the slices. Given directions are the rank's own share; drawn ones are one set (the same seed on
        all ranks), divided. Value and gradients are complete on every rank.
    sharded : bool, default False
        ``x``, ``y`` and weights are this rank's own; so are their gradients.
    nu, alpha, beta, degree : float or int
        Numbers of "matern", "rational_quadratic", "imq" and "polynomial".

    Returns
    -------
    Tensor or ndarray, shape (...)
        In the dtype of the computation. NaN where a point is not finite. NumPy (a float, without a batch) where ``x`` is.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.
    NotImplementedError
        In the backward of a backward, where the kernel has a kink: a fixed set of slices has a Hessian that is zero
        almost everywhere.

    Notes
    -----
    The error of P orthogonal slices in the gradient is about ``0.57 sqrt(d / P)``, a quarter of the slices that independent
    ones need; the value is far more accurate.

    References
    ----------
    J. Hertrich, C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024,
    arXiv:2305.11463. J. Hertrich, "Fast Kernel Summation in High Dimensions via Slicing and Fourier Transforms", 2024,
    arXiv:2401.08260.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x = torch.randn(500, 10, requires_grad=True)
    >>> y = torch.randn(600, 10) + 1
    >>> value = fo.sliced_mmd(x, y)
    >>> value.backward()
    >>> x.grad.shape
    torch.Size([500, 10])
    """
    given = Options(
        kernel,
        r,
        bandwidth,
        x_weights,
        y_weights,
        num_slices,
        slices,
        directions,
        generator,
        unbiased,
        method,
        half,
        signed,
        process_group,
        sharded,
        nu,
        alpha,
        beta,
        degree,
    )
    call = prepare("sliced_mmd", x, y, given)
    if not call.plans:
        return call.sample.answer(exact_distance(call.sample, call.kernel, given.unbiased, given.half))
    if wanted_gradients(call.x, call.y):
        warn_if_rough("sliced_mmd", given)
    value = torch.cat([sliced_value(*part) for part in _each(call)])
    if call.kernel.name == "log" and call.y is not None:
        value = value + infinite_pairs(call.x, call.y, call.plans[0].ranks if given.sharded else None).to(value.dtype)
    return call.sample.answer(value.reshape(call.batch))


def sliced_mmd_grad(
    x: Any,
    y: Any,
    *,
    kernel: str = "riesz",
    r: float = 1.0,
    bandwidth: float | None = None,
    x_weights: Any = None,
    y_weights: Any = None,
    num_slices: int | None = None,
    slices: str = "auto",
    directions: Any = None,
    generator: torch.Generator | None = None,
    unbiased: bool = False,
    method: str = "auto",
    half: bool = False,
    signed: bool = False,
    process_group: Any = None,
    sharded: bool = False,
    nu: float = 1.5,
    alpha: float = 1.0,
    beta: float = 0.5,
    degree: int = 3,
) -> Any:
    """Gradient of ``sliced_mmd`` in the points ``x`` alone: no value, no graph.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points; ``y`` may be a ``SlicedTarget``.
    kernel, r, bandwidth, x_weights, y_weights, num_slices, slices, directions, generator, unbiased, method, half, signed, \
process_group, sharded, nu, alpha, beta, degree
        As for ``sliced_mmd``.

    Returns
    -------
    Tensor or ndarray, shape (..., N, d)
        In the dtype of ``x``. For the sum over a batch where ``x`` has a smaller batch than ``y``.

    Raises
    ------
    ValueError, TypeError
        As ``sliced_mmd``.

    References
    ----------
    J. Hertrich, C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024,
    arXiv:2305.11463.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> fo.sliced_mmd_grad(torch.randn(500, 10), torch.randn(600, 10)).shape
    torch.Size([500, 10])
    """
    given = Options(
        kernel,
        r,
        bandwidth,
        x_weights,
        y_weights,
        num_slices,
        slices,
        directions,
        generator,
        unbiased,
        method,
        half,
        signed,
        process_group,
        sharded,
        nu,
        alpha,
        beta,
        degree,
    )
    with torch.no_grad():
        call = prepare("sliced_mmd_grad", x, y, given)
        points = to_tensor("sliced_mmd_grad", "x", x)
        if call.plans:
            warn_if_rough("sliced_mmd_grad", given)
            whole = torch.cat([sliced_gradient(*part) for part in _each(call)])
            grad = whole.reshape(*call.batch, *points.shape[-2:]).sum_to_size(points.shape).to(points.dtype)
        else:
            grad = _exact_gradient(call, given).sum_to_size(points.shape).to(points.dtype)
    return call.sample.answer(grad)


def _exact_gradient(call: Call, given: Options) -> Tensor:
    def total(x: Tensor) -> Tensor:
        return exact_distance(replace(call.sample, x=x), call.kernel, given.unbiased, given.half).sum()

    leaf = call.sample.x.detach()
    if transformed():
        found: Tensor = torch.func.grad(total)(leaf)
        return found
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(total(leaf.requires_grad_()), leaf)
    return grad


def _each(call: Call) -> list[tuple[Any, ...]]:
    """Plans with their clouds: the whole batch at once, or one element after another."""
    clouds = (call.x, call.y, call.a, call.b)
    if len(call.plans) == 1:
        return [(call.plans[0], *clouds)]
    return [
        (plan, *(None if cloud is None else cloud[i : i + 1] for cloud in clouds)) for i, plan in enumerate(call.plans)
    ]
