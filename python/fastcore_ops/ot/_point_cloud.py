"""A cost that is computed on the fly between two clouds of points."""

from __future__ import annotations

from typing import Any

import torch

from .._arrays import is_numpy, to_tensor
from .._checks import one_of, reject, require_real, require_same_device

METRICS = ("sqeuclidean", "euclidean", "cityblock")


class PointCloud:
    """Cost between points, never stored as a matrix.

    Parameters
    ----------
    x : tensor or array, shape (n, d)
        Points of the rows, float32 or float64 (half precision is computed in float32, integers in float64).
    y : tensor or array, shape (m, d)
        Points of the columns, on the same device.
    metric : {"sqeuclidean", "euclidean", "cityblock"}, default "sqeuclidean"
        ``sum (x_k - y_k)**2``, its square root, or ``sum |x_k - y_k|``.

    Raises
    ------
    ValueError, TypeError
        For empty or non-finite points, unequal widths, mixed dtypes or devices, an unknown metric.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x, y = torch.rand(100, 3), torch.rand(80, 3)
    >>> res = fo.sinkhorn_newton(fo.ot.PointCloud(x, y), reg=0.1)
    """

    def __init__(self, x: Any, y: Any, metric: str = "sqeuclidean") -> None:
        operation = "PointCloud"
        self.metric = one_of(operation, "metric", metric, METRICS)
        self.numpy = is_numpy(x) and is_numpy(y)
        self.x = self._checked(operation, "x", x)
        self.y = self._checked(operation, "y", y, self.x.device)
        if self.x.dtype != self.y.dtype:
            reject(
                operation, f"`y` of the dtype of `x` ({self.x.dtype})", self.y.dtype, "Convert one of them.", TypeError
            )
        if self.x.shape[1] != self.y.shape[1]:
            reject(operation, f"`y` with {self.x.shape[1]} coordinates like `x`", self.y.shape[1])

    @staticmethod
    def _checked(operation: str, name: str, value: Any, device: torch.device | None = None) -> torch.Tensor:
        points = to_tensor(operation, name, value)
        require_real(operation, name, points)
        if device is not None:
            require_same_device(operation, name, points, "x", device)
        if points.dim() != 2 or 0 in points.shape:
            reject(operation, f"`{name}` of shape (points, coordinates), both at least 1", tuple(points.shape))
        if not points.is_floating_point():
            points = points.double()
        elif points.dtype in (torch.float16, torch.bfloat16):
            points = points.float()
        if not bool(points.detach().isfinite().all()):
            reject(operation, f"`{name}` to be finite", "NaN or infinity")
        return points

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the cost: (n, m)."""
        return self.x.shape[0], self.y.shape[0]

    def __repr__(self) -> str:
        n, m = self.shape
        return f"PointCloud(n={n}, m={m}, d={self.x.shape[1]}, metric={self.metric!r}, dtype={self.x.dtype})"
