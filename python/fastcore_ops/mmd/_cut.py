"""The warning where a kernel's spectrum is cut: how much is left out, in the user's own line."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
from torch import Tensor

from .._checks import users_line
from . import _spectrum
from ._spectrum import LAPLACE, MAX_MODES, Floats


@lru_cache(maxsize=64)
def _density(kernel: int, d: int, shape: float) -> tuple[Floats, Floats]:
    return _spectrum.share_grid(kernel, d, shape)


def left_out(kernel: int, d: int, shape: float, length: float, first: float, count: float) -> float:
    """How far values of the kernel may be off, K(0) being 1, at a period of ``length`` bandwidths.

    The share of the spectrum outside the modes first … first + count - 1. Of Laplace's, from the first mode on, what is
    left of the tail beside its kink.
    """
    low, high = (first - 0.5) / length, (first + count - 0.5) / length
    if kernel == LAPLACE:
        return _spectrum.kinked_tail(d, high)
    u, density = _density(kernel, d, shape)
    inside = (u >= math.log(low)) & (u <= math.log(high))
    return 1.0 - float(density[inside].sum() / density.sum())


def warn_where_cut(
    wanted: Tensor, tx: Tensor, ty: Tensor, bandwidth: Tensor, kernel: int, d: int, shape: float
) -> None:
    """Say where the cap on modes has cut more of some slice than the share that may go.

    ``wanted``: modes that the slices of projections (P, N) and (P, M) ask for. Only where they are free to read: on the CPU,
    and outside a trace; on a GPU it would wait for the device.
    """
    if torch.compiler.is_compiling() or type(wanted) is not Tensor or wanted.device.type != "cpu" or not wanted.numel():
        return
    if int(wanted.max()) > MAX_MODES:
        worst = int(wanted.argmax())
        bottom, top = torch.cat([tx[worst], ty[worst]]).double().aminmax()
        warn_of_span(
            kernel, d, shape, float((top - bottom) / bandwidth), tx.dtype == torch.float64, ', or method="exact"'
        )


def warn_of_span(kernel: int, d: int, shape: float, span: float, double: bool, remedy: str) -> None:
    """The same for a slice whose points span so many bandwidths."""
    stretch, margin = _spectrum.period(kernel, d, double)
    length = stretch * _spectrum.rounded_up(span) + margin
    first, count, wanted = _spectrum.window(kernel, d, shape, *_spectrum.band(kernel, d, shape, double), length)
    if wanted <= MAX_MODES:
        return
    error = left_out(kernel, d, shape, length, first, count)
    warnings.warn(
        f"sliced kernel: the spectrum asks for {wanted:.0f} Fourier modes and only {MAX_MODES} are taken: kernels, 1 at"
        f" distance 0, are off by up to {error:.1g}. The bandwidth is far below the range of the data (range / bandwidth ="
        f" {span:.3g}). Use a larger `bandwidth`{remedy}.",
        UserWarning,
        stacklevel=users_line(),
    )
