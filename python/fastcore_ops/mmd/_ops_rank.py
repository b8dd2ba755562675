"""The operators that rank projections: which backends have a kernel, and the shapes of what they return."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _backend, _native
from . import _reference_rank as reference

for _name, _torch_truth, _backends in (
    ("mmd_rank", reference.rank, ("cpp", "cuda")),
    ("mmd_sort", reference.sort, ("cpp", "cuda")),
    ("mmd_rank_sorted", reference.rank_sorted, ("cpp", "cuda")),
    ("mmd_permutation", reference.permutation, ("cpp", "cuda")),
    ("mmd_wasserstein", reference.wasserstein, ("cpp", "cuda")),
):
    _backend.register(_name, _torch_truth, _backends)


def _wanted(like: Tensor, outputs: int, bit: int, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(like, dtype=dtype) if outputs & bit else like.new_empty(0, dtype=dtype)


def _value(x: Tensor, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0] if outputs & reference.VALUE else 0, dtype=torch.float64)


def _rank_fake(x, y, x_weights, y_weights, unbiased, outputs):  # type: ignore[no-untyped-def]
    return (
        _wanted(x, outputs, reference.GRAD_X, x.dtype),
        _wanted(y, outputs, reference.GRAD_Y, x.dtype),
        _value(x, outputs),
        _wanted(x, outputs, reference.POTENTIAL_X, torch.float64),
        _wanted(y, outputs, reference.POTENTIAL_Y, torch.float64),
    )


def _sort_fake(y, y_weights):  # type: ignore[no-untyped-def]
    shape = (0,) if y_weights is None else (y.shape[0], y.shape[1] + 1)
    return torch.empty_like(y), y.new_empty(shape, dtype=torch.float64)


def _rank_sorted_fake(x, sorted, x_weights, cumulative, unbiased, outputs):  # type: ignore[no-untyped-def]
    return (
        _wanted(x, outputs, reference.GRAD_X, x.dtype),
        _value(x, outputs),
        _wanted(x, outputs, reference.POTENTIAL_X, torch.float64),
    )


def _permutation_fake(z, labels):  # type: ignore[no-untyped-def]
    return z.new_empty(z.shape[0], labels.shape[0], dtype=torch.float64)


def _wasserstein_fake(x, y, p, outputs):  # type: ignore[no-untyped-def]
    return (
        _wanted(x, outputs, reference.GRAD_X, x.dtype),
        _wanted(y, outputs, reference.GRAD_Y, x.dtype),
        _value(x, outputs),
    )


_native.register_fake("mmd_rank", _rank_fake)
_native.register_fake("mmd_sort", _sort_fake)
_native.register_fake("mmd_rank_sorted", _rank_sorted_fake)
_native.register_fake("mmd_permutation", _permutation_fake)
_native.register_fake("mmd_wasserstein", _wasserstein_fake)
