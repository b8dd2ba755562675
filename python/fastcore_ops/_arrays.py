"""NumPy, DLPack and torch in; the same kind out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ._checks import reject


def to_tensor(operation: str, name: str, value: Any) -> torch.Tensor:
    """View ``value`` (tensor, NumPy array, DLPack object or nested list of numbers) as a tensor, without a copy if possible."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.layout != torch.strided:
            reject(operation, f"`{name}` to be a dense tensor", value.layout, "Call `.to_dense()` first.", TypeError)
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            reject(operation, f"`{name}` of a real dtype", value.dtype, "Convert it to float64 or float32.", TypeError)
        native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        return torch.from_numpy(native if native.flags.writeable else native.copy())
    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)
    try:
        if value is None:  # NumPy makes NaN of it
            raise TypeError
        return torch.from_numpy(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        reject(operation, f"`{name}` to be a tensor or an array", type(value).__name__, kind=TypeError)


def is_numpy(value: Any) -> bool:
    """Whether results for this input should be NumPy arrays."""
    return isinstance(value, (np.ndarray, list, tuple))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Detached NumPy view of a tensor."""
    return tensor.detach().cpu().numpy()
