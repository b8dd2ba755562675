"""The operators of the exact kernel sums: which backends have a kernel, and the shapes of what they return."""

from __future__ import annotations

import torch

from .. import _backend, _native
from . import _reference_exact as reference

_backend.register("mmd_exact_fwd", reference.exact_fwd, ("cpp", "triton"))
_backend.register("mmd_exact_bwd", reference.exact_bwd, ("cpp", "triton"))


def _fwd_fake(x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs):  # type: ignore[no-untyped-def]
    def sums(size, wanted):  # type: ignore[no-untyped-def]
        return x.new_empty(size if wanted else 0, dtype=torch.float64)

    m = 0 if y is None else y.shape[0]
    return (
        sums(1, outputs & reference.SUM),
        sums(x.shape[0], outputs & reference.POTENTIAL_X),
        sums(m, outputs & reference.POTENTIAL_Y),
    )


def _bwd_fake(x, y, *rest):  # type: ignore[no-untyped-def]
    outputs = rest[-1]
    grad_x = torch.empty_like(x) if outputs & reference.GRAD_X else x.new_empty(0)
    grad_y = torch.empty_like(y) if y is not None and outputs & reference.GRAD_Y else x.new_empty(0)
    return grad_x, grad_y, *_fwd_fake(x, y, *rest)


_native.register_fake("mmd_exact_fwd", _fwd_fake)
_native.register_fake("mmd_exact_bwd", _bwd_fake)
