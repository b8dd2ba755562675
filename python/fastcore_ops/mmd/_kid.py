"""``kid``: kernel inception distance, all subsets from one pass over the Gram tiles of the whole sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._checks import count, reject, switch
from ._directions import check_generator
from ._inputs import check_pair

_TILE = 512  # points on each side of a tile: its float64 numbers stay in the second-level cache
_SMALL = 1 << 28  # products of two numbers up to which everything is in float64


@dataclass(frozen=True)
class KIDResult:
    """What ``kid`` returns.

    Attributes
    ----------
    mean : float
        Mean of the estimates of all subsets, or the estimate of the full sets.
    std : float
        Their standard deviation (that of a population, as usual for this distance); NaN for the full sets.
    """

    mean: float
    std: float


def kid(
    x: Any,
    y: Any,
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    full: bool = False,
    generator: torch.Generator | None = None,
) -> KIDResult:
    """Kernel inception distance between two sets of features: unbiased MMD^2 with the kernel ``(<u, v> / d + 1)^3``.

    Features are those of images in a network, but any will do. Products are in the precision of the features, cubes and sums
    in float64; small sets are wholly computed in float64. Where it costs less, each pair of points is computed once for all
    subsets.

    Parameters
    ----------
    x, y : tensor or array, shapes (N, d) and (M, d)
        Features. Half precision is computed in float32.
    num_subsets : int, default 100
        How many random subsets of each set are compared.
    subset_size : int, default 1000
        Points in a subset, drawn without replacement; at least 2, at most N and M.
    full : bool, default False
        Compare the full sets instead, once: less noise than any number of subsets.
    generator : torch.Generator, optional
        Source of the subsets; torch's global one when absent, from which each subset of x is drawn before that of y.

    Returns
    -------
    KIDResult
        ``mean`` and ``std``, plain numbers without a gradient; NaN where a feature is not finite.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    M. Bińkowski, D. J. Sutherland, M. Arbel, A. Gretton, "Demystifying MMD GANs", ICLR 2018, arXiv:1801.01401.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> x, y = torch.rand(500, 64), torch.rand(400, 64) + 0.1
    >>> fo.mmd.kid(x, y, num_subsets=20, subset_size=100).mean > 0
    True
    """
    features_x, features_y = check_pair("kid", x, y)
    for name, features in (("x", features_x), ("y", features_y)):
        if features.dim() != 2:
            reject("kid", f"`{name}` of shape (points, dimensions)", tuple(features.shape))
    check_generator("kid", generator)
    full = switch("kid", "full", full)
    num_subsets = count("kid", "num_subsets", num_subsets, 1)
    subset_size = count("kid", "subset_size", subset_size, 2)
    n, m = features_x.shape[0], features_y.shape[0]
    if min(n, m) < 2:
        reject(
            "kid", "at least 2 points in `x` and in `y`", f"{n} and {m}", "The estimate is that of different points."
        )
    if not full and subset_size > min(n, m):
        reject(
            "kid",
            f"at least `subset_size` ({subset_size}) points in `x` and in `y`",
            f"{n} and {m}",
            f"Pass subset_size={min(n, m)} or less, or full=True.",
        )
    with torch.no_grad():
        features_x, features_y = features_x.detach(), features_y.detach()
        if not bool(features_x.isfinite().all()) or not bool(features_y.isfinite().all()):
            return KIDResult(math.nan, math.nan)
        if full:
            return KIDResult(float(_estimates(features_x, features_y, None, None)[0]), math.nan)
        scores = _of_subsets(features_x, features_y, num_subsets, subset_size, generator)
        return KIDResult(float(scores.mean()), float(scores.std(correction=0)))


def _of_subsets(x: Tensor, y: Tensor, num_subsets: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Estimates of all subsets, by one pass over the whole sets or subset by subset, whichever computes fewer pairs."""
    n, m = x.shape[0], y.shape[0]
    device = "cpu" if generator is None else generator.device
    drawn = [
        [torch.randperm(points, generator=generator, device=device)[:size].to(x.device) for points in (n, m)]
        for _ in range(num_subsets)
    ]
    if n * n / 2 + m * m / 2 + n * m >= 2 * num_subsets * size * size:
        return torch.cat([_estimates(x[mine], y[theirs], None, None) for mine, theirs in drawn])
    members = []
    for side, points in enumerate((n, m)):
        inside = torch.zeros(num_subsets, points, dtype=torch.float64, device=x.device)
        inside.scatter_(1, torch.stack([pair[side] for pair in drawn]), 1.0)
        members.append(inside)
    return _estimates(x, y, members[0], members[1])


def _estimates(x: Tensor, y: Tensor, members_x: Tensor | None, members_y: Tensor | None) -> Tensor:
    """Unbiased estimates, one of each row of the membership matrices; without these that of all points."""
    pairs = x.shape[0] * y.shape[0] + (x.shape[0] ** 2 + y.shape[0] ** 2) // 2
    if pairs * x.shape[1] <= _SMALL:
        x, y = x.double(), y.double()
    inside_x, inside_y = (
        points.new_ones(1, points.shape[0], dtype=torch.float64) if members is None else members
        for points, members in ((x, members_x), (y, members_y))
    )
    size_x, size_y = inside_x[0].sum(), inside_y[0].sum()
    within_x, within_y = _cubes(x, None, inside_x, inside_x), _cubes(y, None, inside_y, inside_y)
    between = _cubes(x, y, inside_x, inside_y)
    return within_x / (size_x * (size_x - 1)) + within_y / (size_y * (size_y - 1)) - 2 * between / (size_x * size_y)


def _tiles(size: int) -> Iterator[slice]:
    for start in range(0, size, _TILE):
        yield slice(start, min(start + _TILE, size))


def _cubes(x: Tensor, y: Tensor | None, inside_x: Tensor, inside_y: Tensor) -> Tensor:
    """Sums of the kernel over the pairs of each subset; without y over the pairs of different points of x."""
    columns = x if y is None else y
    total = inside_x.new_zeros(inside_x.shape[0])
    gram = x.new_empty(_TILE * _TILE)  # memory that stays in the cache from tile to tile
    wide, cubed = (x.new_empty(_TILE * _TILE, dtype=torch.float64) for _ in range(2))
    for rows in _tiles(x.shape[0]):
        for cols in _tiles(columns.shape[0]):
            if y is None and cols.start < rows.start:
                continue
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            product, base, cube = (buffer[: shape[0] * shape[1]].view(shape) for buffer in (gram, wide, cubed))
            torch.mm(x[rows], columns[cols].t(), out=product)
            base.copy_(product).add_(x.shape[1])
            torch.mul(base, base, out=cube).mul_(base)
            on_diagonal = y is None and cols.start == rows.start
            if on_diagonal:
                cube.fill_diagonal_(0.0)
            sums = ((inside_x[:, rows] @ cube) * inside_y[:, cols]).sum(1)
            total += sums if y is not None or on_diagonal else 2 * sums  # the other triangle
    return total / float(x.shape[1]) ** 3  # (<u, v> + d)^3 was summed
