"""Readable torch truth of the random Hadamard projections."""

from __future__ import annotations

import torch
from torch import Tensor


def hadamard_transform(rows: Tensor) -> Tensor:
    """H applied along the last dimension D = 2^k, in Sylvester's order: H_2D = [[H, H], [H, -H]]."""
    shape, size = rows.shape, 1
    while size < shape[-1]:
        pairs = rows.reshape(-1, shape[-1] // (2 * size), 2, size)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        rows = torch.stack([first + second, first - second], 2)
        size *= 2
    return rows.reshape(shape)


def hadamard(x: Tensor, signs: Tensor, size: int, transpose: bool) -> Tensor:
    """Project points x (N, d) on ``size`` slices: the first rows of D^{-3/2} H S3 H S2 H S1, as (size, N).

    With ``transpose`` the rows of x (P, N) are slices, and (N, size) are the points that the transpose makes of them. Signs are
    (3, D), or (K, 3, D) for K such matrices under one another.
    """
    blocks, depth = signs.reshape(-1, 3, signs.shape[-1]), signs.shape[-1]
    if transpose:
        parts = [_back(rows, block, size) for rows, block in zip(x.split(depth), blocks, strict=True)]
        return torch.stack(parts).sum(0)
    counts = [min(depth, size - start) for start in range(0, size, depth)]
    return torch.cat([_project(x, block, count) for block, count in zip(blocks, counts, strict=True)])


def _scaled(points: Tensor, depth: int) -> Tensor:
    return torch.nn.functional.pad(points, (0, depth - points.shape[1])) * depth**-1.5


def _project(x: Tensor, signs: Tensor, size: int) -> Tensor:
    rows = _scaled(x, signs.shape[1])
    for diagonal in (signs[0], signs[1], signs[2]):
        rows = hadamard_transform(rows * diagonal)
    return rows[:, :size].t().contiguous()


def _back(x: Tensor, signs: Tensor, size: int) -> Tensor:
    rows = _scaled(x.t(), signs.shape[1])
    for diagonal in (signs[2], signs[1], signs[0]):
        rows = hadamard_transform(rows) * diagonal
    return rows[:, :size].contiguous()
