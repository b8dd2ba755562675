"""The kernels by name, and their numbers: checked once for exact and sliced distances alike.

With rho the distance and s the bandwidth:

=================== ============================================= ======================
name                K                                             numbers
=================== ============================================= ======================
riesz               -rho^r                                        r in (0, 2)
gaussian            exp(-rho^2 / 2 s^2)                           bandwidth
laplace             exp(-rho / s)                                 bandwidth
matern              2^(1-nu) / Gamma(nu) z^nu K_nu(z)             bandwidth, nu; z = sqrt(2 nu) rho / s
rational_quadratic  (1 + rho^2 / (2 alpha s^2))^(-alpha)          bandwidth, alpha
imq                 (s^2 + rho^2)^(-beta)                         bandwidth, beta
log                 -log rho                                      none
thin_plate          rho^2 log rho                                 none
polynomial          (<u, v> / d + 1)^degree                       degree
=================== ============================================= ======================

Numbers that a kernel does not have are not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import count, one_of, plain_float, positive_float, reject
from ._transforms import transformed

KERNELS = (
    "riesz",
    "gaussian",
    "laplace",
    "matern",
    "rational_quadratic",
    "imq",
    "log",
    "thin_plate",
    "polynomial",
)  # in the order of the codes that operators take
SCALED = ("gaussian", "laplace", "matern", "rational_quadratic", "imq")  # those with a bandwidth
_SHAPE = {"riesz": "r", "matern": "nu", "rational_quadratic": "alpha", "imq": "beta", "polynomial": "degree"}
_MATERN_RANGE = (0.05, 50.0)  # where the tables of the Bessel function hold what they promise
SAMPLED = 1000  # points, at most, of which the bandwidth is the median distance


@dataclass(frozen=True)
class Kernel:
    """A kernel with its numbers.

    Attributes
    ----------
    name : str
        One of ``KERNELS``.
    bandwidth : float or None
        Scale of the distance; None where it is still to be found from the sample (``of_sample``), 1 where the kernel has
        none.
    shape : float
        The kernel's further number: r, nu, alpha, beta or degree; 0 where it has none.
    """

    name: str
    bandwidth: float | None
    shape: float

    @property
    def code(self) -> int:
        """Number by which the operators know the kernel."""
        return KERNELS.index(self.name)

    @property
    def scale(self) -> float:
        """The bandwidth, which must be known by now."""
        assert self.bandwidth is not None
        return self.bandwidth

    def of_sample(self, x: Tensor, y: Tensor) -> Kernel:
        """The same with a bandwidth: where none was given, the median distance of the pooled sample (a read on the host)."""
        return self if self.bandwidth is not None else replace(self, bandwidth=median_distance(x, y))


def check_kernel(
    operation: str,
    kernel: object,
    *,
    r: object = 1.0,
    bandwidth: object = None,
    nu: object = 1.5,
    alpha: object = 1.0,
    beta: object = 0.5,
    degree: object = 3,
    unbiased: bool = False,
) -> Kernel:
    """Return the kernel of that name; refuse an unknown one, and numbers of its that make no sense."""
    name = one_of(operation, "kernel", kernel, KERNELS)
    given = {"r": r, "nu": nu, "alpha": alpha, "beta": beta, "degree": degree}
    which = _SHAPE.get(name)
    shape = 0.0 if which is None else _checked_shape(operation, which, given[which])
    if name == "log" and not unbiased:
        reject(
            operation,
            "`unbiased=True` with the kernel 'log'",
            "unbiased=False",
            "A point's kernel with itself is infinite: only the estimate without those pairs exists.",
        )
    if name not in SCALED:
        return Kernel(name, 1.0, shape)
    return Kernel(name, None if bandwidth is None else positive_float(operation, "bandwidth", bandwidth), shape)


def _checked_shape(operation: str, which: str, value: object) -> float:
    if which == "degree":
        return float(count(operation, "degree", value, 1))
    number = positive_float(operation, which, value) if which != "r" else _checked_exponent(operation, value)
    if which == "nu" and not _MATERN_RANGE[0] <= number <= _MATERN_RANGE[1]:
        reject(
            operation,
            f"`nu` between {_MATERN_RANGE[0]:g} and {_MATERN_RANGE[1]:g}",
            number,
            "Beyond, use the kernel 'gaussian', its limit.",
        )
    return number


def _checked_exponent(operation: str, value: object) -> float:
    r = plain_float(operation, "r", value)
    if not 0 < r < 2:
        remedy = "At r = 2 only the means would be compared." if r == 2 else "The energy distance is r = 1."
        reject(operation, "`r` strictly between 0 and 2", r, remedy)
    return r


def median_distance(x: Tensor, y: Tensor | None = None) -> float:
    """Median distance between at most 1000 evenly strided points of the pooled sample, x before y; without a gradient.

    Where more than half of the pairs coincide the median of the others; 1 where all do, or where it is not finite (the
    result will then be NaN for its own reasons).
    """
    pooled = x.detach() if y is None else torch.cat([x.detach(), y.detach()])
    stride = -(-pooled.shape[0] // SAMPLED)
    distances = torch.pdist(pooled[::stride].double())
    if distances.numel() == 0:
        return 1.0
    try:
        median = float(distances.median())
    except RuntimeError as error:
        if not transformed():
            raise
        remedy = "The median distance is a number on the host. Pass `bandwidth`, or a batch in place of vmap."
        raise ValueError(
            f"kernel distances: expected a `bandwidth` under torch.func.vmap, got none. {remedy}"
        ) from error
    if median == 0 and bool((distances > 0).any()):
        median = float(distances[distances > 0].median())
    return median if math.isfinite(median) and median > 0 else 1.0
