"""``sliced_wasserstein``: the mean over slices of the one-dimensional distance between quantiles."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _backend, _checks
from .._arrays import to_tensor
from . import _inputs, _walk
from ._directions import slicing_constant
from ._plan import Plan
from ._reference_rank import GRAD_X, GRAD_Y, VALUE
from ._slices import Slices, choose
from ._value import sliced_value

_OPERATION = "sliced_wasserstein"
_NO_SECOND = (
    "second derivatives are not given: those of fixed slices do not see that the matching of their points changes"
)
_MOST_P = 32.0  # powers of differences overflow soon after


def sliced_wasserstein(
    x: Any,
    y: Any,
    *,
    p: float = 2,
    num_slices: int | None = None,
    slices: str = "auto",
    directions: Any = None,
    generator: torch.Generator | None = None,
) -> Any:
    """Sliced Wasserstein distance: ``(mean over slices of W_p^p)^(1/p)``.

    Parameters
    ----------
    x, y : tensor or array, shapes (..., N, d) and (..., M, d)
        Points of one floating dtype, on one device; N and M may differ. Half precision is computed in float32.
    p : float, default 2
        Order, at least 1.
    num_slices, slices, directions, generator
        As for ``sliced_mmd``.

    Returns
    -------
    Tensor or ndarray, shape (...)
        In the dtype of the computation, differentiable in the points; where the distance is 0 the gradient is 0. NaN where
        a point is not finite. NumPy (a float, without a batch) where ``x`` is.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.
    NotImplementedError
        In the backward of a backward: the matching of points changes where a fixed set of slices has no derivative.

    References
    ----------
    N. Bonneel, J. Rabin, G. Peyré, H. Pfister, "Sliced and Radon Wasserstein Barycenters of Measures", Journal of
    Mathematical Imaging and Vision 51, 2015.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x = torch.randn(500, 10)
    >>> distance = fo.mmd.sliced_wasserstein(x, x + 1.0)
    """
    order = _checks.positive_float(_OPERATION, "p", p)
    if not 1 <= order <= _MOST_P:
        _checks.reject(_OPERATION, f"`p` between 1 and {_MOST_P:g}", p)
    sample = _inputs.check_sample(_OPERATION, x, y)
    flat_x, flat_y, _, _ = sample.flat()
    given_dtype = to_tensor(_OPERATION, "x", x).dtype
    chosen = choose(_OPERATION, flat_x, given_dtype, directions, num_slices, slices, generator)
    if sample.batch.numel() == 0:
        return sample.answer(sample.nothing())
    scale = _scale(flat_x, flat_y)
    power = sliced_value(_wasserstein_plan(chosen, flat_x, order), flat_x / scale, flat_y / scale, None, None)
    none = power == 0
    distance = scale.view(-1) * torch.where(none, power, torch.where(none, 1.0, power).pow(1 / order))
    return sample.answer(distance.to(sample.dtype).reshape(sample.batch))


def _scale(x: Tensor, y: Tensor) -> Tensor:
    """Powers of two (B, 1, 1) near the size of each pair of clouds, without which powers of p leave the range of floats."""
    x, y = x.detach(), y.detach()
    middle = _walk.centre(x, y)
    size = torch.maximum(*((cloud - middle).abs().amax((1, 2), keepdim=True) for cloud in (x, y)))
    exponent = torch.frexp(size.clamp(torch.finfo(x.dtype).tiny, torch.finfo(x.dtype).max / 4)).exponent
    return torch.ldexp(torch.ones_like(size), torch.where(size.isfinite() & (size > 0), exponent, 0))


def _wasserstein_plan(slices: Slices, x: Tensor, p: float) -> Plan:
    """The mean of W_p^p. Rows of padded points are rho times unit vectors of R^d, with E rho^p = c_{d,p} / c_{D,p}."""
    backend = _backend.forced(None)
    op = _backend.pick("mmd_wasserstein", x.device, backend, main=True)

    def evaluate(
        start: int, stop: int, tx: Tensor, ty: Tensor, a: None, b: None, outputs: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        grad_x, grad_y, value = op(tx, ty, p, outputs & (GRAD_X | GRAD_Y | VALUE))
        nothing = value.new_empty(0)
        return grad_x, grad_y, value, nothing, nothing

    d = x.shape[-1]
    factor = 1.0 if slices.dimension == d else slicing_constant(slices.dimension, p) / slicing_constant(d, p)
    assert math.isfinite(factor)
    return Plan(
        operation=_OPERATION,
        slices=slices,
        evaluate=evaluate,
        factor=factor,
        total=slices.count,
        backend=backend,
        value_dtype=torch.float64,
        no_second=_NO_SECOND,
    )
