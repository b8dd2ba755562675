"""Torch references of the sums of exponentials and of the Fourier series: direct sums over pairs and over modes, in float64.

``outputs`` adds up what is wanted: 1 gradient in x, 2 in y, 4 value, 8 potentials of x, 16 of y.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from . import _spectrum

RIESZ, LOG, THIN_PLATE = 0, 6, 7  # as in the operators
CLOSEST = 2.0**-24  # log: points that coincide count as this far apart, in units of the slice's range
Slice = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # grad_x, grad_y, value, potential_x, potential_y
Shares = tuple[float, float]  # weight of the own cloud's pairs: 1, or N / (N - 1) for the U-statistic


def _row(weights: Tensor | None, like: Tensor, p: int) -> Tensor:
    if weights is None:
        return like.new_full(like.shape[1:], 1.0 / like.shape[1])
    return (weights if weights.dim() == 1 else weights[p]).double()


def _shares(x: Tensor, y: Tensor, unbiased: bool) -> Shares:
    n, m = x.shape[1], y.shape[1]
    return (n / (n - 1), m / (m - 1)) if unbiased else (1.0, 1.0)


def _collect(slices: list[Slice], x: Tensor, y: Tensor, outputs: int) -> Slice:
    """Stacked slices; NaN where anything in them is not finite, empty what is not wanted."""
    bad = ~(x.isfinite().all(1) & y.isfinite().all(1))
    dtypes = (x.dtype, x.dtype, torch.float64, torch.float64, torch.float64)
    found = []
    for k, dtype in enumerate(dtypes):
        if not outputs >> k & 1:
            found.append(x.new_empty(0, dtype=dtype))
            continue
        stacked = torch.stack([part[k] for part in slices])
        found.append(stacked.masked_fill(bad.view(-1, *(1,) * (stacked.dim() - 1)), torch.nan).to(dtype))
    return found[0], found[1], found[2], found[3], found[4]


def pair_functions(
    kernel: int, r: float, quadratic: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """h(t) and h'(t) for t > 0: t^r, log t, or t^2 log t + quadratic t^2."""
    if kernel == RIESZ:
        return lambda t: t**r, lambda t: r * t ** (r - 1)
    if kernel == LOG:
        return torch.log, torch.reciprocal
    return lambda t: t * t * (t.log() + quadratic), lambda t: t * (2 * t.log() + 1 + 2 * quadratic)


def _soe_slice(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, kernel: int, r: float, quadratic: float, shares: Shares
) -> Slice:
    h, derivative = pair_functions(kernel, r, quadratic)
    z = torch.cat([x, y])
    span = z.max() - z.min()

    def sums(points: Tensor, masses: Tensor, own: int) -> tuple[Tensor, Tensor]:
        """Over the union, for each of the points, whose own places begin at ``own``: its pair with itself counts nothing."""
        difference = points[:, None] - z
        t = difference.abs()
        near, t = t == 0, torch.where(t == 0, span, t)
        slope = torch.where(near, 0.0, derivative(t)) * difference.sign()
        pair = torch.where(near, h(CLOSEST * span) if kernel == LOG else t.new_zeros(()), h(t))
        index = torch.arange(len(points), device=z.device)
        pair[index, index + own] = 0
        return slope @ masses, pair @ masses

    if not bool(span > 0):
        return x * 0, y * 0, x.sum() * 0, x * 0, y * 0
    g_x, p_x = sums(x, torch.cat([-shares[0] * a, b]), 0)
    g_y, p_y = sums(y, torch.cat([a, -shares[1] * b]), len(x))
    return a * g_x, b * g_y, 0.5 * (a @ p_x + b @ p_y), p_x, p_y


def soe(
    x: Tensor,
    y: Tensor,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    kernel: int,
    r: float,
    quadratic: float,
    scale: float,
    unbiased: bool,
    outputs: int,
) -> Slice:
    """Distance of each slice for h(t) = t^r (kernel 0), log t (6) or t^2 log t + quadratic t^2 (7), times ``scale``.

    D^2 = sum a_i b_j h(|x_i - y_j|) - sum a_i a_k h(|x_i - x_k|) / 2 - sum b_j b_l h(|y_j - y_l|) / 2.
    """
    shares = _shares(x, y, unbiased)
    slices = []
    for p in range(x.shape[0]):
        a, b = _row(x_weights, x.double(), p), _row(y_weights, y.double(), p)
        found = _soe_slice(x[p].double(), y[p].double(), a, b, kernel, r, quadratic, shares)
        slices.append((scale * found[0], scale * found[1], scale * found[2], scale * found[3], scale * found[4]))
    return _collect(slices, x, y, outputs)


def _mean_part(x: Tensor, y: Tensor, a: Tensor, b: Tensor, shares: Shares) -> Slice:
    """The same for h(t) = t^2: the squared difference of the means, when the totals agree."""
    middle = 0.5 * (torch.cat([x, y]).max() + torch.cat([x, y]).min())
    x, y = x - middle, y - middle

    def side(z: Tensor, own: Tensor, weight: Tensor, share: float, other: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        c0, c1, c2 = (far @ other**k - share * (weight @ own**k) for k in range(3))
        return weight * (2 * c0 * z - 2 * c1), c0 * z * z - 2 * c1 * z + c2

    g_x, p_x = side(x, x, a, shares[0], y, b)
    g_y, p_y = side(y, y, b, shares[1], x, a)
    return g_x, g_y, 0.5 * (a @ p_x + b @ p_y), p_x, p_y


def _fourier_slice(x: Tensor, y: Tensor, a: Tensor, b: Tensor, angles: Tensor, c: Tensor, shares: Shares) -> Slice:
    """Sum over modes of c_k |phi_x - phi_y|^2 with its derivatives, where phi(k) = sum of weight e^(i angle_k z).

    The mode 0, for unequal totals, is what makes the kernel 1 at 0.
    """
    middle = 0.5 * (torch.cat([x, y]).max() + torch.cat([x, y]).min())
    e_x, e_y = (torch.polar(torch.ones_like(t), t) for t in (angles[:, None] * (z - middle) for z in (x, y)))
    phi_x, phi_y = e_x @ a.to(e_x.dtype), e_y @ b.to(e_y.dtype)
    zero = 1 - 2 * c.sum()

    def side(e: Tensor, weight: Tensor, own: Tensor, far: Tensor, share: float, gap: Tensor) -> tuple[Tensor, Tensor]:
        turned = (share * own - far).conj()[:, None] * e
        slope = (c * angles * -2) @ turned.imag
        # U-statistic: a point makes no pair with itself.
        return weight * slope, 2 * (c @ turned.real) + zero * gap - (share - 1)

    g_x, p_x = side(e_x, a, phi_x, phi_y, shares[0], shares[0] * a.sum() - b.sum())
    g_y, p_y = side(e_y, b, phi_y, phi_x, shares[1], shares[1] * b.sum() - a.sum())
    return g_x, g_y, 0.5 * (a @ p_x + b @ p_y), p_x, p_y


def _add(left: Slice, right: Slice, factor: float) -> Slice:
    added = [one + factor * other for one, other in zip(left, right, strict=True)]
    return added[0], added[1], added[2], added[3], added[4]


def fourier(
    x: Tensor,
    y: Tensor,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    bandwidth: Tensor,
    kernel: int,
    d: int,
    shape: float,
    kink: float,
    low: float,
    high: float,
    stretch: float,
    margin: float,
    unbiased: bool,
    outputs: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Half MMD^2 of each slice for a kernel on R^d with F(0) = 1, by the modes of its Fourier series in a band.

    Frequencies low and high are times the bandwidth; the period of a slice is stretch * range + margin * bandwidth, the
    range rounded up to a power of 2^(1/8). With a kink the series is that of f + kink / bandwidth (|x| - x^2 / period), and
    the parabola's part is added here: the caller adds kink / bandwidth times the distance of r = 1. The last output is
    the number of modes that the band holds (never more than 4096 are taken), 0 for a slice that is not finite, or not in units
    of the bandwidth.
    """
    shares, sigma = _shares(x, y, unbiased), float(bandwidth)
    slices, wanted = [], []
    for p in range(x.shape[0]):
        a, b = _row(x_weights, x.double(), p), _row(y_weights, y.double(), p)
        z_x, z_y = x[p].double(), y[p].double()
        union = torch.cat([z_x, z_y]).detach()
        relative = float((union.max() - union.min()) / bandwidth)
        finite = math.isfinite(relative)
        length = (stretch * _spectrum.rounded_up(relative) if finite else 1.0) + margin
        first, count, all_modes = _spectrum.window(kernel, d, shape, low, high, length)
        wanted.append(all_modes if finite else 0)
        modes = first + np.arange(int(count), dtype=np.float64)
        c = torch.from_numpy(_spectrum.coefficients(kernel, d, shape, kink, length, modes)).to(x.device)
        angles = (2 * math.pi / (length * sigma)) * torch.from_numpy(modes).to(x.device)
        series = _fourier_slice(z_x, z_y, a, b, angles, c, shares)
        slices.append(_add(series, _mean_part(z_x, z_y, a, b, shares), -kink / (length * sigma * sigma)))
    modes_wanted = torch.tensor(wanted, dtype=torch.int64, device=x.device)
    return *_collect(slices, x, y, outputs), modes_wanted
