"""Directions of slices: unit rows that stand for the sphere, and the constant that undoes the average over them.

For xi uniform on the unit sphere of R^d, |v|^r = c_{d,r} E|<xi, v>|^r with
c_{d,r} = sqrt(pi) Gamma((d + r)/2) / (Gamma(d/2) Gamma((r + 1)/2)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from . import _reference_hadamard as reference

SLICES = ("auto", "gaussian", "orthogonal", "circle", "spiral", "sobol", "hadamard")
HADAMARD_FROM = 64  # below, three sign blocks leave a bias: 1-3 % at D = 16
_SOBOL_DIMENSIONS = torch.quasirandom.SobolEngine.MAXDIM
_MOST_DIMENSIONS = 1 << 53  # beyond, a float does not hold them
_LOG_LARGEST = math.log(torch.finfo(torch.float64).max)
_STIRLING = 16.0  # from here on Stirling's series holds
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def slicing_constant(d: int, r: float) -> float:
    """Constant ``c`` with ``|v|^r = c * mean |<xi, v>|^r`` over directions ``xi`` of the unit sphere of ``R^d``.

    Parameters
    ----------
    d : int
        Dimension, at least 1.
    r : float
        Exponent above 0.

    Returns
    -------
    float
        ``sqrt(pi) Gamma((d + r)/2) / (Gamma(d/2) Gamma((r + 1)/2))``; nearly ``sqrt(pi d / 2)`` for r = 1.

    Raises
    ------
    ValueError, TypeError
        ``d`` below 1, no integer or above 2^53; ``r`` not finite or not above 0; a constant that is beyond the largest float.

    References
    ----------
    J. Hertrich, C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024,
    arXiv:2305.11463.

    Examples
    --------
    >>> import fastcore_ops as fo
    >>> round(fo.mmd.slicing_constant(3, 1.5), 12)
    2.5
    """
    d = _checks.count("slicing_constant", "d", d, 1)
    r = _checks.positive_float("slicing_constant", "r", r)
    if d > _MOST_DIMENSIONS:
        _checks.reject("slicing_constant", "`d` of at most 2^53", d)
    if d == 1:
        return 1.0
    log_constant = 0.5 * math.log(math.pi) - _log_beta_like(d / 2, (r + 1) / 2)
    if log_constant > _LOG_LARGEST:
        remedy = f"Use a smaller `r`: that of d = {d}, r = {r:g} has the logarithm {log_constant:.6g}."
        _checks.reject("slicing_constant", "`r` whose constant is below the largest float", r, remedy)
    return math.exp(log_constant)


def _log_beta_like(u: float, v: float) -> float:
    """Log of Gamma(u) Gamma(v) / Gamma(u + v - 1/2), u and v at least 1/2.

    Differences of lgamma cancel: at u = 1e6 they leave ten digits, at 1e18 none. Beyond ``_STIRLING`` the large terms of
    Stirling's series are taken apart by hand, and what is left is added.
    """
    u, v = max(u, v), min(u, v)
    if u < _STIRLING:
        return math.lgamma(u) + math.lgamma(v) - math.lgamma(u + v - 0.5)
    top = u + v - 0.5
    ratio = (0.5 - u) * math.log1p((v - 0.5) / u) + _stirling(u) - _stirling(top)  # of Gamma(u) to Gamma(top), in part
    if v < _STIRLING:
        return ratio - (v - 0.5) * (math.log(top) - 1) + math.lgamma(v)
    return ratio + (v - 0.5) * math.log(v / top) + _stirling(v) + 0.5 * math.log(2 * math.pi) - 0.5


def _stirling(z: float) -> float:
    """lgamma(z) less (z - 1/2) log z - z + log(2 pi) / 2, for z of at least ``_STIRLING``: 1e-16 is what it drops."""
    w = 1 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z


def padded(d: int) -> int:
    """Size of the Hadamard transform for points of dimension d: a power of two, at least 64."""
    return max(HADAMARD_FROM, 1 << (d - 1).bit_length())


def default_num_slices(d: int, slices: str) -> int:
    """One slice on the line; else one for each dimension (padded, where slices are Hadamard's), at least 128."""
    return 1 if d == 1 else max(128, padded(d) if slices == "hadamard" else d)


def resolve(operation: str, d: int, slices: str, explicit_rows: bool = False) -> str:
    """Name of the law of the slices, with "auto" decided and a law that does not fit the dimension refused.

    ``explicit_rows``: as vectors of R^d, which Hadamard's are only where nothing is padded.
    """
    slices = _checks.one_of(operation, "slices", slices, SLICES)
    fits = d == padded(d)
    if slices == "auto":
        if d <= 3:
            return ("gaussian", "circle", "spiral")[d - 1]
        return "hadamard" if d >= HADAMARD_FROM and (fits or not explicit_rows) else "orthogonal"
    if d == 1:
        return slices
    remedy = 'Use slices="auto", or "orthogonal".'
    for name, only in (("circle", 2), ("spiral", 3)):
        if slices == name and d != only:
            _checks.reject(
                operation, f"`slices` to be {name!r} only for points of dimension {only}", f"d = {d}", remedy
            )
    if slices == "sobol" and d > _SOBOL_DIMENSIONS:
        _checks.reject(operation, f"`slices` 'sobol' with d at most {_SOBOL_DIMENSIONS}", f"d = {d}", remedy)
    if slices == "hadamard" and explicit_rows and not fits:
        expected = f"`slices` 'hadamard' with d a power of two of at least {HADAMARD_FROM}, where rows are unit vectors"
        _checks.reject(operation, expected, f"d = {d}", 'Use slices="orthogonal", or leave the rows to `sliced_mmd`.')
    return slices


def make_directions(
    d: int,
    num_slices: int | None = None,
    *,
    slices: str = "auto",
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Directions for ``directions=`` of the sliced distances.

    Parameters
    ----------
    d : int
        Dimension of the points. On the line there is one direction, whatever is asked.
    num_slices : int, optional
        Number of directions; default 1 for d = 1, else max(128, d).
    slices : {"auto", "gaussian", "orthogonal", "circle", "spiral", "sobol", "hadamard"}
        "gaussian": independent, uniform on the sphere. "orthogonal": blocks of d orthonormal rows, a quarter as many for
        the same error. "circle" (d = 2): equispaced angles, rotated. "spiral" (d = 3): Fibonacci's spiral on the half
        sphere, rotated. "sobol": scrambled Sobol points, for many more directions than 16 d. "hadamard" (d a power of two,
        at least 64): rows of ``d^(-3/2) H S3 H S2 H S1`` with random signs S. "auto": circle, spiral, hadamard where d
        allows it, else orthogonal.
    generator : torch.Generator, optional
        Source of randomness; the global one is left alone where it is given.
    dtype : torch.dtype, optional
        float32 or float64; default torch's default dtype.
    device : torch.device, optional
        Default the CPU, or that of the generator.

    Returns
    -------
    Tensor, shape (num_slices, d)
        Unit rows; shape (1, 1) for d = 1.

    Raises
    ------
    ValueError, TypeError
        A law that does not fit the dimension, or a number out of range.

    References
    ----------
    J. Hertrich, T. Jahn, M. Quellmalz, "Fast Summation of Radial Kernels via QMC Slicing", ICLR 2025, arXiv:2410.01316.

    Examples
    --------
    >>> import fastcore_ops as fo
    >>> fo.mmd.make_directions(10, 128, slices="orthogonal").shape
    torch.Size([128, 10])
    """
    operation = "make_directions"
    d = _checks.count(operation, "d", d, 1)
    slices = resolve(operation, d, slices, explicit_rows=True)
    if num_slices is None:
        num_slices = default_num_slices(d, slices)
    num_slices = _checks.count(operation, "num_slices", num_slices, 1)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if dtype not in (torch.float32, torch.float64):
        remedy = "Half inputs take float32 directions."
        _checks.reject(operation, "`dtype` to be float32 or float64", dtype, remedy, TypeError)
    check_generator(operation, generator)
    if device is None:
        device = "cpu" if generator is None else generator.device
    return draw_rows(d, num_slices, slices, generator, dtype, torch.device(device))


def check_generator(operation: str, generator: object) -> None:
    """Refuse what is no generator."""
    if generator is not None and not isinstance(generator, torch.Generator):
        _checks.reject(operation, "`generator` to be a torch.Generator", type(generator).__name__, kind=TypeError)


def draw_rows(
    d: int, count: int, slices: str, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Rows (count, d) of a law that ``resolve`` has named."""
    if d == 1:
        return torch.ones(1, 1, dtype=dtype, device=device)
    source = device if generator is None else generator.device
    rows = _DRAWERS[slices](d, count, generator, dtype, source)
    return rows.to(device=device, dtype=dtype)


def _normal(*shape: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype, device=device)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def _gaussian(
    d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return _unit(_normal(count, d, generator=generator, dtype=dtype, device=device))


def _orthonormal_rows(
    d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """At most d rows, uniform over the orthonormal ones: without the signs of R's diagonal they would not be."""
    q, r = torch.linalg.qr(_normal(d, count, generator=generator, dtype=dtype, device=device))
    diagonal = r.diagonal()
    return (q * torch.where(diagonal < 0, -1.0, 1.0).to(dtype)).t()


def _orthogonal(
    d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    sizes = [d] * (count // d) + ([count % d] if count % d else [])
    return torch.cat([_orthonormal_rows(d, size, generator, dtype, device) for size in sizes])


def _circle(d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    turn = torch.rand(1, generator=generator, dtype=torch.float64, device=device)
    angle = (torch.arange(count, dtype=torch.float64, device=device) + turn) * (math.pi / count)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _spiral(d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    k = torch.arange(count, dtype=torch.float64, device=device)
    z = (k + 0.5) / count  # the half sphere: an antipode adds nothing
    radius, angle = (1 - z * z).sqrt(), k * _GOLDEN_ANGLE
    points = torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)
    return points @ _orthonormal_rows(3, 3, generator, torch.float64, device)


def _sobol(d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    seed = int(torch.randint(2**31, (1,), generator=generator, device=device))
    points = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    least = 2.0**-31  # half a step of the engine's grid: 0 would become minus infinity
    return _unit(torch.special.ndtri(points.clamp(least, 1 - least)))


def draw_signs(
    size: int, blocks: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Random signs (blocks, 3, size) of the transforms ``size^(-3/2) H S3 H S2 H S1``, S1 first."""
    source = device if generator is None else generator.device
    bits = torch.randint(2, (blocks, 3, size), generator=generator, device=source)
    return (2 * bits - 1).to(device=device, dtype=dtype)


def hadamard_rows(signs: Tensor, count: int) -> Tensor:
    """First ``count`` rows of the transform with ``signs`` (3, D): what its transpose makes of basis vectors."""
    basis = torch.eye(count, dtype=signs.dtype, device=signs.device)
    return reference.hadamard(basis, signs, signs.shape[-1], True)


def _hadamard(
    d: int, count: int, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    signs = draw_signs(d, -(-count // d), generator, dtype, device)
    return torch.cat([hadamard_rows(block, min(d, count - k * d)) for k, block in enumerate(signs.unbind())])


_DRAWERS = {
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
    "circle": _circle,
    "spiral": _spiral,
    "sobol": _sobol,
    "hadamard": _hadamard,
}
