"""What a kernel on R^d does to one slice: which operator serves it, with the constants that make the mean over slices
the distance in R^d.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _backend
from . import _spectrum
from ._cut import warn_where_cut
from ._directions import slicing_constant
from ._spectrum import GAUSSIAN, IMQ, LAPLACE, MATERN, RATIONAL_QUADRATIC

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Slices = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, bool, int, str | None], Outputs]
_RIESZ, _LOG, _THIN_PLATE = 0, 6, 7
_FOURIER = {
    "gaussian": GAUSSIAN,
    "laplace": LAPLACE,
    "matern": MATERN,
    "rational_quadratic": RATIONAL_QUADRATIC,
    "imq": IMQ,
}


def profile(
    kernel: str,
    d: int,
    *,
    r: float = 1.5,
    bandwidth: float | Tensor | None = None,
    nu: float = 1.5,
    alpha: float = 1.0,
    beta: float = 0.5,
    dtype: torch.dtype = torch.float32,
) -> Slices:
    """Return ``slices(tx, ty, a, b, unbiased, outputs, backend)`` of a kernel: half MMD^2 of each slice, and its gradients.

    The mean over slices of what it returns, (grad_x, grad_y, value, potential_x, potential_y), belongs to R^d: the kernel's
    one-dimensional constant is in it. ``tx`` (P, N) and ``ty`` (P, M) are projections of the same dtype as ``dtype``, ``a``
    and ``b`` weights in float64 or None, ``outputs`` the bits of the operators.

    Parameters
    ----------
    kernel : str
        "riesz" (but for r = 1, whose slices are ranked), "gaussian", "laplace", "matern", "rational_quadratic", "imq", "log"
        or "thin_plate".
    d : int
        Dimension in which the directions are uniform on the sphere.
    bandwidth : float or Tensor of no dimension, optional
        What the smooth kernels measure distances in. A tensor is not read by the host.
    r, nu, alpha, beta : float
        Parameters of riesz, matern, rational_quadratic and imq.
    """
    if kernel == "riesz":
        return _exponentials(_RIESZ, r, 0.0, slicing_constant(d, r))
    if kernel == "log":  # log|x| less a constant, which equal totals take out
        return _exponentials(_LOG, 0.0, 0.0, 1.0)
    if kernel == "thin_plate":
        quadratic = -0.5 * (_half_digamma(3) - _half_digamma(d + 2))
        return _exponentials(_THIN_PLATE, 2.0, quadratic, -float(d))
    shape = {"matern": nu, "rational_quadratic": alpha, "imq": beta}.get(kernel, 0.0)
    code = LAPLACE if kernel == "matern" and nu == 0.5 else _FOURIER[kernel]
    if bandwidth is None:
        raise TypeError(f"profile: the kernel {kernel!r} needs a bandwidth")
    return _modes(code, d, shape, bandwidth, dtype)


def _exponentials(kernel: int, r: float, quadratic: float, scale: float) -> Slices:
    def slices(
        tx: Tensor, ty: Tensor, a: Tensor | None, b: Tensor | None, unbiased: bool, outputs: int, backend: str | None
    ) -> Outputs:
        operator = _backend.pick("mmd_soe", tx.device, backend)
        found: Outputs = operator(tx, ty, a, b, kernel, r, quadratic, scale, unbiased, outputs)
        return found

    return slices


def _modes(kernel: int, d: int, shape: float, bandwidth: float | Tensor, dtype: torch.dtype) -> Slices:
    double = dtype == torch.float64
    low, high = _spectrum.band(kernel, d, shape, double)
    stretch, margin = _spectrum.period(kernel, d, double)
    kink = _spectrum.kink(kernel, d)

    def slices(
        tx: Tensor, ty: Tensor, a: Tensor | None, b: Tensor | None, unbiased: bool, outputs: int, backend: str | None
    ) -> Outputs:
        sigma = _as_scalar(bandwidth, tx)
        operator = _backend.pick("mmd_fourier", tx.device, backend)
        *series, wanted = operator(
            tx, ty, a, b, sigma, kernel, d, shape, kink, low, high, stretch, margin, unbiased, outputs
        )
        warn_where_cut(wanted, tx, ty, sigma, kernel, d, shape)
        found: Outputs = tuple(series)
        if kernel == LAPLACE:
            ranks = _backend.pick("mmd_rank", tx.device, backend)(tx, ty, a, b, unbiased, outputs)
            return _sum(found, _scaled(ranks, kink / sigma))
        return _scaled(found, sigma ** (-2 * shape)) if kernel == IMQ else found

    return slices


def _as_scalar(bandwidth: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(bandwidth, Tensor):
        return bandwidth.detach().to(like.device, torch.float64)
    return torch.full((), bandwidth, dtype=torch.float64, device=like.device)


def _scaled(outputs: Outputs, factor: float | Tensor) -> Outputs:
    """Outputs of an operator, which nobody else holds, times a number."""
    for output in outputs:
        output.mul_(factor)
    return outputs


def _sum(left: Outputs, right: Outputs) -> Outputs:
    for one, other in zip(left, right, strict=True):
        one.add_(other)
    return left


def _half_digamma(n: int) -> float:
    """Digamma of n / 2: by its recurrence up to where the asymptotic series holds."""
    x, shift = 0.5 * n, 0.0
    while x < 12.0:
        shift -= 1.0 / x
        x += 1.0
    z = 1.0 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132 - z * 691 / 32760)))))
    return shift + math.log(x) - 0.5 / x - series
