"""Parameters that are refused: at construction by their dtype, and when they are stepped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._checks import reject
from ._flat import is_distributed

if TYPE_CHECKING:
    from ._optimizer import FusedOptimizer

_KERNEL_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_parameter(optimizer: FusedOptimizer, group: dict[str, Any], p: Tensor) -> None:
    """Refuse a parameter with a gradient that the optimizer cannot step."""
    name, g = type(optimizer).__name__, p.grad
    assert g is not None
    if g.layout != torch.strided:
        raise RuntimeError(
            f"{name}: expected a dense gradient, got layout {g.layout}; sparse gradients are not supported"
        )
    if is_distributed(p):
        from ._distributed import check

        check(name, p)
        if not optimizer.takes_distributed:
            reject(name, "plain parameters", "a DTensor", "The rule is not made for several ranks.", RuntimeError)
    if p.is_complex() and not optimizer.takes_complex:
        reject(name, "real parameters", p.dtype, "The rule takes signs or sizes of single numbers.", RuntimeError)
    check_dtype(name, group, p)


def check_dtype(name: str, group: dict[str, Any], p: Tensor) -> None:
    """Refuse a parameter whose dtype the optimizer, or the group's rounding mode, has no steps for."""
    dtype = p.dtype.to_real() if p.is_complex() else p.dtype
    if dtype not in _KERNEL_DTYPES:
        reject(name, "parameters of a floating dtype", p.dtype, kind=TypeError)
    if group["rounding"] == "split_master" and p.dtype == torch.float16:
        reject(
            name,
            '`rounding="split_master"` with bfloat16 parameters',
            p.dtype,
            'Take "kahan", or master_weights=True.',
        )
