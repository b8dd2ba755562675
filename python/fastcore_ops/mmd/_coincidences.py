"""Points that coincide, between which the kernel "log" is infinite: its slices cannot tell them from points that only
look so from one direction, and count both as a small distance apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._sharded import Ranks

_COLUMNS = 64  # coordinates whose bits are looked at together
_ODD = (-0x61C8864680B583EB, -0x4B47D0C5A4A1B26D, 0x2545F4914F6CDD1D)  # multipliers that spread bits


def infinite_pairs(x: Tensor, y: Tensor, ranks: Ranks | None) -> Tensor:
    """What the kernels of coinciding points add to the distance of (B, N, d) and (B, M, d): 0, inf, -inf, or NaN for both.

    Two of one cloud add inf, one of each -inf. Points are compared by 64 bits made of all of theirs: that two different
    ones among n are taken for one has a chance of n^2 / 2^65. ``ranks``: those over which the clouds are sharded.
    """
    prints = [_fingerprints(cloud.detach()) for cloud in (x, y)]
    if ranks is not None:
        prints = [ranks.gather_columns(mine) for mine in prints]
    ordered, order = torch.cat(prints, 1).sort(dim=1, stable=True)  # among equals those of x come first
    of_y = order >= prints[0].shape[1]
    equal, apart = ordered[:, 1:] == ordered[:, :-1], of_y[:, 1:] != of_y[:, :-1]
    within, between = (equal & ~apart).any(1), (equal & apart).any(1)
    return torch.where(within, math.inf, 0.0) - torch.where(between, math.inf, 0.0)


def _fingerprints(points: Tensor) -> Tensor:
    """A 64-bit number of each of the points (B, N, d); the zeros of both signs are one."""
    word = torch.int64 if points.dtype == torch.float64 else torch.int32
    found = torch.zeros(points.shape[:2], dtype=torch.int64, device=points.device)
    for start in range(0, points.shape[2], _COLUMNS):
        bits = (points[..., start : start + _COLUMNS] + 0.0).contiguous().view(word).to(torch.int64)
        place = torch.arange(start + 1, start + 1 + bits.shape[2], device=points.device)
        found = found + _spread(bits + _spread(place)).sum(2)
    return found


def _spread(bits: Tensor) -> Tensor:
    """A permutation of 64-bit integers in which each bit depends on all; multiplication wraps around."""
    for odd in _ODD:
        bits = bits * odd
        bits = bits ^ (bits >> 29)
    return bits
