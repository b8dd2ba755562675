"""Smooth radial kernels in frequency: the spectrum of a kernel's one-dimensional slices, and how much of it is needed.

A kernel F(|v|) on R^d with F(0) = 1 is the mean over directions of f(<xi, v>), where f has the Fourier transform
f^(s) = pi^(d/2) / Gamma(d/2) |s|^(d-1) F^_d(|s|) (with e^(-2 pi i x s)). Frequencies are in units of 1 / bandwidth.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._directions import slicing_constant

GAUSSIAN, LAPLACE, MATERN, RATIONAL_QUADRATIC, IMQ = 1, 2, 3, 4, 5  # as in the operators
MAX_MODES = 4096
_FARTHEST = 2.0**50  # mode: beyond it a point's phase is not known
Floats = NDArray[np.float64]


def log_bessel_integral(order: float, a: Floats) -> Floats:
    """Log of the integral of e^(order u - e^u - a e^(-u)) over u: 2 a^(order/2) K_order(2 sqrt(a)), without a Bessel function.

    The exponent is concave, its peak at e^u = (order + sqrt(order^2 + 4 a)) / 2. Multiquadrics are mixtures of Gaussians
    of precision e^u, and this is what is left of the mixture in frequency.
    """
    a = np.asarray(a, np.float64)
    curvature = np.sqrt(order * order + 4 * a)
    # Without cancellation for either sign of the order.
    y = 0.5 * (order + curvature) if order > 0 else 2 * a / (curvature - order)
    other = a / y  # y - order
    step = np.minimum(0.25, 0.6 / np.sqrt(curvature))

    def drop(t: Floats) -> Floats:
        """The exponent, t beyond its peak, less the peak: two terms of one sign, where plain differences are all rounding."""
        t = np.clip(t, -300.0, 300.0)
        least, sign = np.minimum(y, other), 1.0 if order > 0 else -1.0
        return -4 * least * np.sinh(0.5 * t) ** 2 - abs(order) * (np.expm1(sign * t) - sign * t)

    peak, total = order * np.log(y) - y - other, np.ones_like(a)
    for side in (-1, 1):
        k, active = 1, np.ones_like(a, dtype=bool)
        while active.any():
            added = np.exp(drop(side * k * step))
            total += np.where(active, added, 0.0)
            active &= added > 1e-18
            k += 1
    found: Floats = peak + np.log(total * step)
    return found


def log_spectrum(kernel: int, d: int, shape: float, s: Any) -> Floats:
    """Log of f^(s) at frequencies ``s`` > 0, for a bandwidth of 1 and F(0) = 1."""
    s = np.asarray(s, np.float64)
    half, pi = 0.5 * d, math.pi
    common = half * math.log(pi) - math.lgamma(half) + (d - 1) * np.log(s)
    if kernel == GAUSSIAN:
        found = common + half * math.log(2 * pi) - 2 * pi**2 * s * s
    elif kernel in (LAPLACE, MATERN):
        nu = 0.5 if kernel == LAPLACE else shape
        constant = math.lgamma(nu + half) - math.lgamma(nu) + half * math.log(2 * pi / nu)
        found = common + constant - (nu + half) * np.log1p(2 * pi**2 * s * s / nu)
    else:  # (1 + rho^2 / c^2)^(-shape)
        c = math.sqrt(2 * shape) if kernel == RATIONAL_QUADRATIC else 1.0
        constant = half * math.log(pi * c * c) - math.lgamma(shape)
        found = common + constant + log_bessel_integral(shape - half, (pi * c * s) ** 2)
    result: Floats = found
    return result


def share_grid(kernel: int, d: int, shape: float) -> tuple[Floats, Floats]:
    """Log frequencies and the density of 2 f^(s) s over them, where it is above 1e-30 of its peak."""
    low, high, points = -40.0, 40.0, 2001
    u = np.linspace(low, high, points)
    for _ in range(3):  # the peak narrows like d^(-1/2): look closer
        density = log_spectrum(kernel, d, shape, np.exp(u)) + u
        seen = np.flatnonzero(density > density.max() - 70)
        low, high = u[max(seen[0] - 1, 0)], u[min(seen[-1] + 1, points - 1)]
        u = np.linspace(low, high, points)
    return u, np.exp(log_spectrum(kernel, d, shape, np.exp(u)) + u)


@lru_cache(maxsize=256)
def _band(kernel: int, d: int, shape: float, low_share: float, high_share: float) -> tuple[float, float]:
    u, density = share_grid(kernel, d, shape)
    steps = 0.5 * (density[1:] + density[:-1]) * (u[1] - u[0])
    below = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    above = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]]) / steps.sum()
    first = max(int(np.searchsorted(below, low_share, "right")) - 1, 0)
    last = int(np.searchsorted(-above, -high_share, "left"))
    return float(np.exp(u[first])), float(np.exp(u[min(last, len(u) - 1)]))


def kinked_tail(d: int, s: float) -> float:
    """Share above a frequency of the kink's spectrum kappa / (2 pi^2 s^2) less Laplace's: about kappa (d + 1) / (16 pi^4 s^4)
    where that is less than the kink's.
    """
    return slicing_constant(d, 1.0) / math.pi**2 * min((d + 1) / (24 * math.pi**2 * s**3), 1 / s)


def band(kernel: int, d: int, shape: float, double: bool) -> tuple[float, float]:
    """Frequencies (low, high), times the bandwidth, outside which the spectrum's share may be dropped.

    Above: 1e-5 of the sum (1e-10 for the Gaussian in float64, whose periods are long enough for it). Below, where the
    clouds differ most, only what is lost in rounding: at high dimension that is most of the low frequencies. Laplace's
    kink is not in the series: what is left of the spectrum decays like s^-4, and 1e-4 of it may go.
    """
    if kernel == LAPLACE:
        return 0.0, max((slicing_constant(d, 1.0) * (d + 1) / (24 * math.pi**4 * 1e-4)) ** (1 / 3), 1.0)
    high_share = 1e-10 if double and kernel == GAUSSIAN else 1e-5
    return _band(kernel, d, shape, 1e-14 if double else 1e-10, high_share)


# To a compiler a constant, whose numpy it must not trace: torch.compiler.assume_constant_result, without its imports.
band._dynamo_marked_constant = True  # type: ignore[attr-defined]


def period(kernel: int, d: int, double: bool) -> tuple[float, float]:
    """Return (stretch, margin): the series of a slice has the period stretch * range + margin * bandwidth.

    What comes back from the next period, of 1 - f at most: 1e-4 for d >= 16, 1e-3 below (4e-4 for d = 2, where the tails
    of f decay most slowly). In float64 the Gaussian leaves 1e-8 from d = 10. On the line the multiquadrics, whose tails are
    longest, leave (range / period)^(2 + 2 shape) of the distance, 2e-3 with a stretch of 4: the one slice there is can afford
    a period three times as long, which leaves 3e-4.
    """
    if d == 1 and kernel in (RATIONAL_QUADRATIC, IMQ):
        return 12.0, 8.0
    if d < 4:
        return 4.0, 8.0
    if kernel == GAUSSIAN:
        if d < 16:
            return 4.0, 8.0 if double else 4.0
        return 1.0, 10.0 if double else 6.0
    if d < 64:
        return 2.0, 6.0
    return 1.0, 4.0 if kernel == LAPLACE else 6.0


def kink(kernel: int, d: int) -> float:
    """Slope of f at 0, times the bandwidth: what the sorted part takes over."""
    return slicing_constant(d, 1.0) if kernel == LAPLACE else 0.0


_STEPS = tuple(2.0 ** (j / 8 - 1) for j in range(9))


def rounded_up(size: float) -> float:
    """Return the next power of 2^(1/8): periods that stay as they are when a point moves a little, and are shared by slices."""
    mantissa, exponent = math.frexp(size)
    return math.ldexp(next(step for step in _STEPS if step >= mantissa), exponent) if size > 0 else 0.0


def window(kernel: int, d: int, shape: float, low: float, high: float, length: float) -> tuple[float, float, float]:
    """First mode, how many are taken and how many the band asks for, at a period of ``length`` bandwidths.

    Where the band holds more than MAX_MODES, those with the largest coefficients are taken: without a kink around the
    spectrum's peak, with one, whose share falls like k^-2, the first.
    """
    first = min(max(1.0, math.ceil(low * length)), _FARTHEST)
    wanted = min(max(math.floor(high * length) - first + 1, 1.0), _FARTHEST)
    if wanted <= MAX_MODES:
        return first, wanted, wanted
    if kernel == LAPLACE:
        return first, float(MAX_MODES), wanted
    left, right = first, first + wanted - MAX_MODES
    while left < right:
        middle = math.floor((left + right) / 2)
        ends = log_spectrum(kernel, d, shape, np.array([middle, middle + MAX_MODES]) / length)
        left, right = (middle + 1.0, right) if ends[0] < ends[1] else (left, middle)
    return left, float(MAX_MODES), wanted


def coefficients(kernel: int, d: int, shape: float, kink: float, length: float, modes: Floats) -> Floats:
    """c_k = f^(k / T) / T for the period T of ``length`` bandwidths, less the kink's share kappa T / (2 pi^2 k^2)."""
    found = np.exp(log_spectrum(kernel, d, shape, modes / length)) / length
    result: Floats = found - kink * length / (2 * (math.pi * modes) ** 2)
    return result


def series(code: int, d: int, shape: float, kink: float, span: float, double: bool) -> tuple[Floats, Floats, float]:
    """Angles of the modes over positions, coefficients and period of a slice of that range, in units of the bandwidth."""
    low, high = band(code, d, shape, double)
    stretch, margin = period(code, d, double)
    length = stretch * rounded_up(span) + margin
    first, count, _ = window(code, d, shape, low, high, length)
    modes: Floats = first + np.arange(int(count), dtype=np.float64)
    rates: Floats = modes * (2 * math.pi / length)
    return rates, coefficients(code, d, shape, kink, length, modes), length
