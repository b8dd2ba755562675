"""The operators of the kernels that are not ranks: sums of exponentials, and Fourier modes."""

from __future__ import annotations

from typing import Any

import torch

from .. import _backend, _native
from . import _reference_smooth

_backend.register("mmd_soe", _reference_smooth.soe, ("cpp", "cuda"))
_backend.register("mmd_fourier", _reference_smooth.fourier, ("cpp", "triton"))


def _slices_fake(x: Any, y: Any, outputs: int) -> tuple[Any, ...]:
    """Gradients, value and potentials; of no elements what is not wanted."""
    shapes = (x.shape, y.shape, x.shape[:1], x.shape, y.shape)
    dtypes = (x.dtype, x.dtype, torch.float64, torch.float64, torch.float64)
    return tuple(
        x.new_empty(shape if outputs >> k & 1 else (0,), dtype=dtype)
        for k, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    )


def _soe_fake(x, y, x_weights, y_weights, kernel, r, quadratic, scale, unbiased, outputs):  # type: ignore[no-untyped-def]
    return _slices_fake(x, y, outputs)


def _fourier_fake(  # type: ignore[no-untyped-def]
    x, y, x_weights, y_weights, bandwidth, kernel, d, shape, kink, low, high, stretch, margin, unbiased, outputs
):
    return *_slices_fake(x, y, outputs), x.new_empty(x.shape[:1], dtype=torch.int64)


_native.register_fake("mmd_soe", _soe_fake)
_native.register_fake("mmd_fourier", _fourier_fake)
