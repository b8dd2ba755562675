"""Exact kernel sums in plain torch: the truth that tests compare with, and what second derivatives run through."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

RIESZ, GAUSSIAN, LAPLACE, MATERN, RATIONAL_QUADRATIC, IMQ, LOG, THIN_PLATE, POLYNOMIAL = range(9)
GRAD_X, GRAD_Y, SUM, POTENTIAL_X, POTENTIAL_Y = 1, 2, 4, 8, 16

_TILE_NUMBERS = 1 << 22  # of a tile of differences
_BESSEL_NODES = 560


def log_bessel(order: float, z: Tensor) -> Tensor:
    """Log of K_order(z), z > 2^-64: the integral of exp(-z cosh t) cosh(order t) over t > 0 by the trapezoidal rule.

    The integrand is analytic up to Im t = pi / 2 and, for large z or order, nearly a Gaussian of width
    (z^2 + order^2)^(-1/4): at these steps the rule is exact but for rounding.
    """
    step = (0.7 / (z.detach().square() + order**2) ** 0.25).clamp_max(0.125)
    t = step[..., None] * torch.arange(_BESSEL_NODES, dtype=z.dtype, device=z.device)
    log_cosh = abs(order) * t + torch.log1p(torch.exp(-2 * abs(order) * t)) - math.log(2)
    log_cosh[..., 0] -= math.log(2)  # the end of the range counts half
    shifted = log_cosh - 2 * z[..., None] * torch.sinh(t / 2).square()  # cosh t = 1 + 2 sinh^2 (t / 2)
    return torch.logsumexp(shifted, dim=-1) - z + step.log()


def _matern(s: Tensor, scale: float, nu: float) -> tuple[Tensor, Tensor]:
    """2^(1 - nu) / Gamma(nu) z^nu K_nu(z) with z = sqrt(2 nu s) / scale; (z^nu K_nu)' = -z^nu K_(nu - 1)."""
    z = torch.sqrt(2 * nu * s) / scale
    if nu == 0.5:
        value = torch.exp(-z)
        return value, -value / (z * scale**2)
    if nu == 1.5:
        e = torch.exp(-z)
        return (1 + z) * e, -3 / scale**2 * e
    if nu == 2.5:
        e = torch.exp(-z)
        return (1 + z + z.square() / 3) * e, -5 / (3 * scale**2) * (1 + z) * e
    constant = (1 - nu) * math.log(2) - math.lgamma(nu)
    log_z = torch.log(z)
    value = torch.exp(constant + nu * log_z + log_bessel(nu, z))
    slope = torch.exp(constant + (nu - 1) * log_z + log_bessel(nu - 1, z))
    return value, -2 * nu / scale**2 * slope


def _radial(s: Tensor, kernel: int, scale: float, shape: float) -> tuple[Tensor, Tensor]:
    """K and 2 dK/ds at squared distances s > 0."""
    if kernel == RIESZ:
        power = s ** (shape / 2)
        return -power, -shape * power / s
    if kernel == GAUSSIAN:
        value = torch.exp(-s / (2 * scale**2))
        return value, -value / scale**2
    if kernel == LAPLACE:
        return _matern(s, scale, 0.5)
    if kernel == MATERN:
        return _matern(s, scale, shape)
    if kernel == RATIONAL_QUADRATIC:
        base = 1 + s / (2 * shape * scale**2)
        return base**-shape, -(base ** (-shape - 1)) / scale**2
    if kernel == IMQ:
        base = scale**2 + s
        return base**-shape, -2 * shape * base ** (-shape - 1)
    if kernel == LOG:
        return -torch.log(s) / 2, -1 / s
    assert kernel == THIN_PLATE
    return s * torch.log(s) / 2, torch.log(s) + 1


def pair_kernel(x: Tensor, y: Tensor, kernel: int, scale: float, shape: float) -> tuple[Tensor, Tensor, Tensor]:
    """K of all pairs (n, m), its slopes (n, m), and what they are slopes along (n, m, d), or (1, m, d) for the polynomial.

    grad_x K(x_i, y_j) = slope_ij * along_ij; slopes of coinciding points are 0. Differentiable, too.
    """
    if kernel == POLYNOMIAL:
        d = x.shape[1]
        base = x @ y.t() / d + 1
        return base**shape, shape / d * base ** (shape - 1), y[None]
    along = x[:, None] - y[None]
    s = along.square().sum(-1)
    together = s == 0
    value, slope = _radial(s.masked_fill(together, 1.0), kernel, scale, shape)
    at_zero = {LOG: math.inf, RIESZ: 0.0, THIN_PLATE: 0.0, IMQ: scale ** (-2 * shape) if kernel == IMQ else 0.0}
    return value.masked_fill(together, at_zero.get(kernel, 1.0)), slope.masked_fill(together, 0.0), along


def row_tiles(x: Tensor, y: Tensor) -> Iterator[slice]:
    """Rows of x by so many that a tile of differences stays small."""
    size = max(1, _TILE_NUMBERS // (y.shape[0] * max(x.shape[1], 8)))
    for start in range(0, x.shape[0], size):
        yield slice(start, min(start + size, x.shape[0]))


def uniform(points: Tensor) -> Tensor:
    """The weights of a cloud that has none: 1 / N each."""
    return torch.full((points.shape[0],), 1.0 / points.shape[0], dtype=torch.float64, device=points.device)


def exact_bwd(
    x: Tensor,
    y: Tensor | None,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    kernel: int,
    scale: float,
    shape: float,
    table: Tensor | None,
    diagonal: bool,
    outputs: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of S = sum_ij u_i v_j K(x_i, y_j), S itself and its potentials, in float64."""
    first = x.double()
    second = first if y is None else y.double()
    u = uniform(x) if x_weights is None else x_weights
    v = u if y is None else uniform(y) if y_weights is None else y_weights
    grad_x, grad_y = torch.zeros_like(first), torch.zeros_like(second)
    potential_x, potential_y = torch.zeros_like(u), torch.zeros_like(v)
    for rows in row_tiles(first, second):
        value, slope, along = pair_kernel(first[rows], second, kernel, scale, shape)
        if y is None and not diagonal:
            i = torch.arange(rows.start, rows.stop, device=x.device)
            value[i - rows.start, i], slope[i - rows.start, i] = 0.0, 0.0
        potential_x[rows] = (value * v).masked_fill(v == 0, 0.0).sum(1)
        potential_y += (value * u[rows, None]).masked_fill(u[rows, None] == 0, 0.0).sum(0)
        weighted = slope * u[rows, None] * v
        if kernel == POLYNOMIAL:
            grad_x[rows], back = weighted @ second, weighted.t() @ first[rows]
        else:
            grad_x[rows], back = (torch.einsum("ij,ijk->" + out, weighted, along) for out in ("ik", "jk"))
            back = -back
        grad_y += back
    total = (u * potential_x).masked_fill(u == 0, 0.0).sum().reshape(1)
    inputs = [t for t in (x, y, x_weights, y_weights) if t is not None]
    poison = sum((t.double() * 0).sum() for t in inputs)  # one number that is not finite spoils everything
    found = [grad_x + poison, grad_y + poison, total + poison, potential_x + poison, potential_y + poison]
    if y is None:
        found[0] = 2 * found[0]  # the other side of each pair
    wanted = [bool(outputs & bit) for bit in (GRAD_X, GRAD_Y, SUM, POTENTIAL_X, POTENTIAL_Y)]
    if y is None:
        wanted[1] = wanted[4] = False
    kept = [out if want else out.new_zeros(0) for out, want in zip(found, wanted, strict=True)]
    return kept[0].to(x.dtype), kept[1].to(x.dtype), kept[2], kept[3], kept[4]


def exact_fwd(
    x: Tensor,
    y: Tensor | None,
    x_weights: Tensor | None,
    y_weights: Tensor | None,
    kernel: int,
    scale: float,
    shape: float,
    table: Tensor | None,
    diagonal: bool,
    outputs: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """S = sum_ij u_i v_j K(x_i, y_j) and its potentials."""
    return exact_bwd(x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs)[2:]
