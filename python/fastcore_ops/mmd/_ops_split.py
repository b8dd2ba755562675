"""The split of float32 numbers into bfloat16 parts: only GPUs have a use, and a kernel, for it."""

from __future__ import annotations

import torch

from .. import _backend, _native
from . import _reference_split as reference

_backend.register("mmd_split", reference.split, ("cuda",))


def _split_fake(x, shift, first, count, stacked, partner):  # type: ignore[no-untyped-def]
    terms = len(reference.PARTS)
    shape = (terms * x.shape[0], count) if stacked else (count, terms * x.shape[1])
    return x.new_empty(shape, dtype=torch.bfloat16)


_native.register_fake("mmd_split", _split_fake)
