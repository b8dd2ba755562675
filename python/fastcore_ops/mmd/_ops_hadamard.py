"""The random Hadamard projections: which backends have a kernel, and the shape of what they return."""

from __future__ import annotations

from .. import _backend, _native
from . import _reference_hadamard as reference

_backend.register("mmd_hadamard", reference.hadamard, ("cpp", "cuda"))


def _hadamard_fake(x, signs, size, transpose):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[1], size) if transpose else (size, x.shape[0]))


_native.register_fake("mmd_hadamard", _hadamard_fake)
