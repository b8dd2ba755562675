"""The slices of one call: given rows, drawn rows, or rows of fast Hadamard transforms; and parts of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._arrays import to_tensor
from . import _directions


@dataclass(frozen=True)
class Transform:
    """Some rows of ``D^(-3/2) H S3 H S2 H S1``: those that ``pick`` takes of the first ``size``, ascending."""

    signs: Tensor  # (3, D), or (K, 3, D) of several under one another
    pick: slice | Tensor
    size: int
    count: int


@dataclass(frozen=True)
class Slices:
    """Directions as rows (P, d), or as transforms of points that are padded to D coordinates.

    ``dimension`` is that of the sphere which the directions stand for: d, or D.
    """

    rows: Tensor | None
    transforms: tuple[Transform, ...]
    dimension: int

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.rows.shape[0] if self.rows is not None else sum(part.count for part in self.transforms)

    def explicit(self, d: int) -> Tensor:
        """Directions (P, d) as vectors; those of padded points without their last coordinates."""
        if self.rows is not None:
            return self.rows
        return torch.cat([_directions.hadamard_rows(part.signs, part.size)[part.pick, :d] for part in self.transforms])

    def share(self, rank: int, ranks: int) -> Slices:
        """The slices of one of several ranks: shares differ by at most one, and may be empty."""
        return self.between(rank * self.count // ranks, (rank + 1) * self.count // ranks)

    def between(self, start: int, stop: int) -> Slices:
        """Slices start … stop - 1."""
        if self.rows is not None:
            return Slices(self.rows[start:stop], (), self.dimension)
        parts, first = [], 0
        for part in self.transforms:
            a, b = max(start - first, 0), min(stop - first, part.count)
            first += part.count
            if a < b and isinstance(part.pick, slice):
                first_row = part.pick.start
                parts.append(Transform(part.signs, slice(first_row + a, first_row + b), first_row + b, b - a))
            elif a < b and isinstance(part.pick, Tensor):
                parts.append(Transform(part.signs, part.pick[a:b], part.size, b - a))
        return Slices(None, tuple(parts), self.dimension)

    def select(self, index: Tensor) -> Slices:
        """The slices that ``index`` lists, which must ascend."""
        if self.rows is not None:
            return Slices(self.rows[index], (), self.dimension)
        parts, first = [], 0
        for part in self.transforms:
            here = index[(index >= first) & (index < first + part.count)] - first
            first += part.count
            if here.numel():
                picked = here + part.pick.start if isinstance(part.pick, slice) else part.pick[here]
                parts.append(Transform(part.signs, picked, part.size, here.numel()))
        return Slices(None, tuple(parts), self.dimension)


def of_rows(rows: Tensor) -> Slices:
    """Slices along the rows of a matrix."""
    return Slices(rows, (), rows.shape[1])


def draw(
    d: int, count: int, law: str, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Slices:
    """Draw slices by a law that ``_directions.resolve`` has named."""
    if d == 1 or law != "hadamard":
        return of_rows(_directions.draw_rows(d, count, law, generator, dtype, device))
    size = _directions.padded(d)
    signs = _directions.draw_signs(size, -(-count // size), generator, dtype, device)
    counts = [min(size, count - k * size) for k in range(signs.shape[0])]
    parts = tuple(Transform(block, slice(0, n), n, n) for block, n in zip(signs.unbind(), counts, strict=True))
    return Slices(None, parts, size)


def check_directions(operation: str, directions: Any, points: Tensor, given_dtype: torch.dtype) -> Tensor:
    """Directions for ``points``, as rows in the dtype of the computation."""
    rows = to_tensor(operation, "directions", directions)
    if rows.requires_grad:
        _checks.reject(
            operation, "`directions` without a gradient", "a tensor that requires one", "Pass `directions.detach()`."
        )
    if not rows.is_floating_point() or rows.dtype not in (points.dtype, given_dtype):
        remedy = f"Pass `directions.to({points.dtype})`."
        _checks.reject(operation, f"`directions` of dtype {points.dtype}", rows.dtype, remedy, TypeError)
    _checks.require_same_device(operation, "directions", rows, "x", points.device)
    d = points.shape[-1]
    if rows.dim() != 2 or rows.shape[1] != d or rows.shape[0] < 1:
        remedy = f"A row is a unit vector of R^{d}; make_directions({d}, num_slices) draws them."
        _checks.reject(
            operation, f"`directions` of shape (num_slices, {d}) to match the points", tuple(rows.shape), remedy
        )
    return rows.to(points.dtype).contiguous()


def check_law(operation: str, d: int, num_slices: Any, slices: Any, generator: Any) -> str:
    """Name of the law of slices, with everything checked that says how they are drawn."""
    law = _directions.resolve(operation, d, slices)
    _directions.check_generator(operation, generator)
    if num_slices is not None:
        _checks.count(operation, "num_slices", num_slices, 1)
    return law


def choose(
    operation: str,
    points: Tensor,
    given_dtype: torch.dtype,
    directions: Any,
    num_slices: Any,
    slices: Any,
    generator: torch.Generator | None,
) -> Slices:
    """Slices as a call asks for them: given, or drawn."""
    d = points.shape[-1]
    law = check_law(operation, d, num_slices, slices, generator)
    if directions is None:
        count = num_slices or _directions.default_num_slices(d, law)
        return draw(d, count, law, generator, points.dtype, points.device)
    rows = check_directions(operation, directions, points, given_dtype)
    if slices != "auto":
        _checks.reject(
            operation,
            "no `slices` with `directions`",
            repr(slices),
            "Leave one of them out: rows are used as they are.",
        )
    if num_slices not in (None, rows.shape[0]):
        remedy = "Leave it out, or give as many directions."
        _checks.reject(
            operation, f"`num_slices` to be the number of `directions` ({rows.shape[0]})", num_slices, remedy
        )
    return of_rows(rows)
