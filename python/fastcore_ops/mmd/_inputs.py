"""What users pass as points and weights: checked, as tensors in the dtype of the computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._arrays import is_numpy, to_numpy, to_tensor
from .._checks import reject, require_same_device

_HALF = (torch.float16, torch.bfloat16)
_FLOATING = (*_HALF, torch.float32, torch.float64)
# How far totals may differ, by the dtype in which points and weights come: of halves, what rounding each weight may do.
_TOTALS = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-5, torch.float64: 1e-10}
# What to do about signed measures where there is no argument `signed`.
_SIGNED = {"energy_distance": "use `mmd` with signed=True", "MMDFlow": ""}


@dataclass
class Sample:
    """Two clouds of points in the dtype of the computation, attached to what was given.

    ``x`` (..., N, d) and ``y`` (..., M, d) with the batch shapes as given; ``x_weights`` and ``y_weights`` float64 of shape
    (N,) or (..., N), both or neither: where one side was given without the other, the other is uniform.
    """

    x: Tensor
    y: Tensor
    x_weights: Tensor | None
    y_weights: Tensor | None
    numpy: bool

    @property
    def batch(self) -> torch.Size:
        """Shape of the result: that of the batches."""
        shapes = [self.x.shape[:-2], self.y.shape[:-2]]
        if self.x_weights is not None and self.y_weights is not None:
            shapes += [self.x_weights.shape[:-1], self.y_weights.shape[:-1]]
        return torch.broadcast_shapes(*shapes)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the computation and of the value."""
        return self.x.dtype

    def answer(self, value: Tensor) -> Any:
        """The result in the kind of what was given: for arrays an array, or a number where there is no batch."""
        if not self.numpy:
            return value
        return to_numpy(value) if value.dim() else float(value.detach())

    def flat(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The same with one batch axis: (B, N, d), (B, M, d), and (B, N), (B, M) or None twice."""
        batch = self.batch
        x, y = (t.expand(*batch, *t.shape[-2:]).reshape(batch.numel(), *t.shape[-2:]) for t in (self.x, self.y))
        if self.x_weights is None or self.y_weights is None:
            return x, y, None, None
        a, b = (
            w.expand(*batch, w.shape[-1]).reshape(batch.numel(), w.shape[-1]) for w in (self.x_weights, self.y_weights)
        )
        return x, y, a, b

    def nothing(self) -> Tensor:
        """The values of a batch without elements: none, but attached to what was given."""
        sums = [part.flatten(1).sum(1).to(self.dtype) for part in self.flat() if part is not None]
        return torch.stack(sums).sum(0).reshape(self.batch)


def check_points(operation: str, name: str, points: Any) -> Tensor:
    """Return ``points`` as a tensor (..., N, d), both at least 1; half precision comes as float32."""
    tensor = to_tensor(operation, name, points)
    if tensor.dtype not in _FLOATING:
        reject(
            operation,
            f"`{name}` of a floating dtype (float16, bfloat16, float32 or float64)",
            tensor.dtype,
            f"Convert it, e.g. {name}.float(); complex points have no order and no real distance here.",
            TypeError,
        )
    if tensor.dim() < 2:
        reject(
            operation,
            f"`{name}` of shape (..., points, dimensions)",
            tuple(tensor.shape),
            f"For points on the line give {name}[:, None].",
        )
    if 0 in tensor.shape[-2:]:
        reject(operation, f"`{name}` with at least one point of at least one dimension", tuple(tensor.shape))
    return tensor.float() if tensor.dtype in _HALF else tensor


def check_pair(operation: str, x: Any, y: Any, same_width: bool = True, second: str = "y") -> tuple[Tensor, Tensor]:
    """Return both clouds, of one dtype and device and, where they are compared, dimension; their batches broadcast.

    ``second`` is the name of the argument ``y``.
    """
    given_x, given_y = to_tensor(operation, "x", x), to_tensor(operation, second, y)
    points_x, points_y = check_points(operation, "x", given_x), check_points(operation, second, given_y)
    require_same_device(operation, second, points_y, "x", points_x.device)
    if given_x.dtype != given_y.dtype:
        reject(
            operation,
            f"`{second}` of the dtype of `x` ({given_x.dtype})",
            given_y.dtype,
            "Convert one of them: dtypes are never promoted silently.",
            TypeError,
        )
    if same_width and points_x.shape[-1] != points_y.shape[-1]:
        reject(
            operation,
            f"`{second}` in as many dimensions as `x` ({points_x.shape[-1]})",
            f"{points_y.shape[-1]} (shapes {tuple(points_x.shape)} and {tuple(points_y.shape)})",
        )
    try:
        torch.broadcast_shapes(points_x.shape[:-2], points_y.shape[:-2])
    except RuntimeError:
        reject(
            operation,
            f"`x` and `{second}` with batches that broadcast",
            f"shapes {tuple(points_x.shape)} and {tuple(points_y.shape)}",
        )
    return points_x, points_y


def check_weights(operation: str, name: str, weights: Any, points: Tensor, batch: torch.Size) -> Tensor:
    """Return ``weights`` as float64 of shape (N,) or (..., N) that broadcasts to the batch."""
    tensor = to_tensor(operation, name, weights)
    side = name.split("_")[0]
    if tensor.dtype not in _FLOATING:
        reject(operation, f"`{name}` of a floating dtype", tensor.dtype, f"Convert it, e.g. {name}.float().", TypeError)
    require_same_device(operation, name, tensor, side, points.device)
    if tensor.dim() == 0 or tensor.shape[-1] != points.shape[-2]:
        reject(
            operation,
            f"`{name}` with one weight for each of the {points.shape[-2]} points of `{side}`",
            f"shape {tuple(tensor.shape)}",
        )
    fits = tensor.dim() - 1 <= len(batch)
    if fits:
        wanted = tuple(batch)[len(batch) - tensor.dim() + 1 :]
        fits = all(mine in (1, theirs) for mine, theirs in zip(tensor.shape[:-1], wanted, strict=True))
    if not fits:
        shapes = " or ".join(map(str, dict.fromkeys([(points.shape[-2],), (*batch, points.shape[-2])])))
        reject(operation, f"`{name}` of shape {shapes}", tuple(tensor.shape))
    return tensor.double()


def totals_tolerance(points: Tensor, *weights: Any) -> float:
    """How far totals may differ: what the coarsest dtype allows among those of the points and of checked weights, if any."""
    dtypes = [points.dtype, *(to_tensor("", "weights", w).dtype for w in weights if w is not None)]
    return max(_TOTALS[dtype] for dtype in dtypes)


def check_totals(operation: str, a: Tensor, b: Tensor, tolerance: float) -> None:
    """Refuse negative weights and unequal totals. Reads both on the host. What is not finite passes: the result is NaN."""
    a, b = a.detach(), b.detach()
    signed = _SIGNED.get(operation, "pass signed=True")
    for name, w in (("x_weights", a), ("y_weights", b)):
        negative = (w < 0) & w.isfinite().all(-1, keepdim=True)
        if bool(negative.any()):
            reject(
                operation,
                f"`{name}` of at least 0",
                float(w[negative].min()),
                f"{signed[0].upper()}{signed[1:]} to compare signed measures." if signed else "",
            )
    totals_a, totals_b = torch.broadcast_tensors(a.sum(-1), b.sum(-1))
    gaps = (totals_a - totals_b).abs()
    off = gaps.isfinite() & (gaps > tolerance * torch.maximum(totals_a, totals_b))
    if bool(off.any()):
        first = off.reshape(-1).nonzero()[0, 0]
        reject(
            operation,
            "`x_weights` and `y_weights` of equal totals",
            f"{float(totals_a.reshape(-1)[first]):.9g} and {float(totals_b.reshape(-1)[first]):.9g}",
            f"Rescale one of them in float64{f', or {signed} to compare measures of different mass' if signed else ''}.",
        )


def check_sample(
    operation: str,
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    *,
    unbiased: bool = False,
    signed: bool = False,
) -> Sample:
    """Check everything that a distance between two samples takes besides its kernel."""
    points_x, points_y = check_pair(operation, x, y)
    if unbiased:
        check_unbiased(operation, points_x, points_y, x_weights, y_weights)
    sample = Sample(points_x, points_y, None, None, is_numpy(x))
    if x_weights is None and y_weights is None:
        return sample
    batch = torch.broadcast_shapes(points_x.shape[:-2], points_y.shape[:-2])
    sides = []
    for name, weights, points in (("x_weights", x_weights, points_x), ("y_weights", y_weights, points_y)):
        if weights is None:
            size = points.shape[-2]
            sides.append(torch.full((size,), 1.0 / size, dtype=torch.float64, device=points.device))
        else:
            sides.append(check_weights(operation, name, weights, points, batch))
    sample.x_weights, sample.y_weights = sides
    if not signed:
        check_totals(operation, sides[0], sides[1], totals_tolerance(points_x, x_weights, y_weights))
    return sample


def check_unbiased(operation: str, x: Tensor, y: Tensor, x_weights: Any = None, y_weights: Any = None) -> None:
    """Refuse the U-statistic for weighted points or fewer than two of them."""
    for name, weights in (("x_weights", x_weights), ("y_weights", y_weights)):
        if weights is not None:
            reject(operation, f"no `{name}` with unbiased=True", "weights", "The U-statistic is for uniform weights.")
    for name, points in (("x", x), ("y", y)):
        if points.shape[-2] < 2:
            reject(
                operation,
                f"at least 2 points in `{name}` with unbiased=True",
                points.shape[-2],
                "Pass unbiased=False for the V-statistic.",
            )
