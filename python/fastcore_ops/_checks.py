"""One sentence form for errors: operation, argument, requirement, what came; then the remedy if there is one."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

_NOT_THE_USER = tuple(f"{Path(file).parent}/" for file in (__file__, torch.__file__))


def users_line() -> int:
    """Return the ``stacklevel`` with which the caller's warning stands at the first line outside this package and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        level, frame = level + 1, frame.f_back
    return level


def reject(
    operation: str, expected: str, got: object, remedy: str = "", kind: type[Exception] = ValueError
) -> NoReturn:
    """Raise ``kind`` with the house's sentence. ``expected`` names the argument in backquotes."""
    sentence = f"{operation}: expected {expected}, got {got}"
    raise kind(f"{sentence}. {remedy}" if remedy else sentence)


def require_real(operation: str, name: str, tensor: torch.Tensor) -> None:
    """Refuse complex and boolean tensors."""
    if tensor.dtype.is_complex or tensor.dtype == torch.bool:
        reject(operation, f"`{name}` of a real dtype", tensor.dtype, "Convert it to float64 or float32.", TypeError)


def require_same_device(operation: str, name: str, tensor: torch.Tensor, reference: str, device: torch.device) -> None:
    """Refuse a tensor that lives elsewhere than the reference argument."""
    if tensor.device != device:
        reject(operation, f"`{name}` on the device of `{reference}` ({device})", tensor.device, f"Move `{name}` there.")


def plain_float(operation: str, name: str, value: object, what: str = "a number") -> float:
    """Return ``value`` as a float; text and truth values, which float() would take, are no numbers."""
    if isinstance(value, torch.Tensor) and value.requires_grad:
        reject(operation, f"`{name}` without a gradient", "a tensor that requires one", f"Pass `{name}.detach()`.")
    try:
        if not isinstance(value, (str, bytes, bool, np.bool_)):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    reject(operation, f"`{name}` to be {what}", repr(value), kind=TypeError)


def positive_float(operation: str, name: str, value: object) -> float:
    """Return ``value`` as a finite float above zero."""
    number = plain_float(operation, name, value, "a positive number")
    if not (math.isfinite(number) and number > 0):
        reject(operation, f"`{name}` to be a finite number above 0", value)
    return number


def switch(operation: str, name: str, value: object) -> bool:
    """Return ``value``, which must be True or False itself: "no" and arrays of one element have a truth too."""
    if not isinstance(value, (bool, np.bool_)):
        reject(operation, f"`{name}` to be True or False", repr(value), kind=TypeError)
    return bool(value)


def count(operation: str, name: str, value: object, least: int) -> int:
    """Return ``value`` as an integer of at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        reject(operation, f"`{name}` to be an integer", repr(value), kind=TypeError)
    number = value.__index__()
    if number < least:
        reject(operation, f"`{name}` to be at least {least}", number)
    return int(number)


def one_of(operation: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:  # an array of names has no truth
        reject(operation, f"`{name}` to be one of {', '.join(map(repr, choices))}", repr(value))
    return str(value)
