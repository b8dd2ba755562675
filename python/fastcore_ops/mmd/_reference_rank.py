"""Readable torch truth of the operators that rank projections; runs wherever no kernel exists.

Projections are x (P, N) and y (P, M), a slice a row. Distances are in the half convention,
D^2 = E|X-Y| - E|X-X'| / 2 - E|Y-Y'| / 2 of each slice. Everything but the comparisons is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRAD_X, GRAD_Y, VALUE, POTENTIAL_X, POTENTIAL_Y = 1, 2, 4, 8, 16


def _absent(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype, device=like.device)


def _rowwise(weights: Tensor | None, points: Tensor) -> Tensor:
    """Weights as a float64 matrix (P, N); uniform ones where none are given."""
    if weights is None:
        return torch.full_like(points, 1 / points.shape[1], dtype=torch.float64)
    return weights.double().expand(points.shape)


class Source:
    """Points of one side in order, with running sums of their weights and of weight times position."""

    def __init__(self, points: Tensor, weights: Tensor | None, centre: Tensor) -> None:
        self.uniform, self.count = weights is None, points.shape[1]
        self.points, order = points.sort(dim=1, stable=True)
        mass = _rowwise(weights, points).gather(1, order)
        self.mass = self._running(mass)
        self.moment = self._running(mass * (self.points.double() - centre))

    @staticmethod
    def _running(terms: Tensor) -> Tensor:
        return torch.nn.functional.pad(terms.cumsum(1), (1, 0))

    def between(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of points below, and at or below, each of ``at``."""
        at = at.contiguous()
        return torch.searchsorted(self.points, at), torch.searchsorted(self.points, at, right=True)

    def doubled_rank(self, at: Tensor) -> Tensor:
        """2 #{points < t} + #{points = t}, in integers."""
        low, high = self.between(at)
        return low + high

    def signs(self, at: Tensor) -> Tensor:
        """Sum over the points of weight * sign(t - point)."""
        if self.uniform:
            return (self.doubled_rank(at) - self.count).double() / self.count
        low, high = self.between(at)
        return self.mass.gather(1, low) + self.mass.gather(1, high) - self.mass[:, -1:]

    def distances(self, at: Tensor, centre: Tensor) -> Tensor:
        """Sum over the points of weight * |t - point|."""
        low, high = self.between(at)
        doubled = self.moment.gather(1, low) + self.moment.gather(1, high)
        return (at.double() - centre) * self.signs(at) - doubled + self.moment[:, -1:]

    def below(self, at: Tensor) -> Tensor:
        """Weight of the points at or below t."""
        high = self.between(at)[1]
        return high.double() / self.count if self.uniform else self.mass.gather(1, high)


def _gradient(at: Tensor, weights: Tensor | None, own: Source, other: Source, unbiased: bool) -> Tensor:
    """a_i (sum_j b_j sign(x_i - y_j) - sum_k a_k sign(x_i - x_k)); uniform weights by an integer numerator."""
    if own.uniform and other.uniform:
        n, m = own.count, other.count
        pairs = n - 1 if unbiased else n
        numerator = pairs * (other.doubled_rank(at) - m) - m * (own.doubled_rank(at) - n)
        return (numerator.double() / (float(n) * pairs * m)).to(at.dtype)
    return (_rowwise(weights, at) * (other.signs(at) - own.signs(at))).to(at.dtype)


def _spread(source: Source) -> Tensor:
    """Mean of |x_i - x_k| over all N^2 pairs: 2 sum (z_{k+1} - z_k) F_k (1 - F_k)."""
    share = torch.arange(1, source.count, device=source.points.device, dtype=torch.float64) / source.count
    return 2 * (source.points.double().diff(dim=1) * (share * (1 - share))).sum(1)


def _value(x: Source, y: Source, unbiased: bool) -> Tensor:
    """Sum of (z_{k+1} - z_k) C_k (C_k - C_total), C the running sum of signed weights; no term is negative if C_total = 0."""
    union = torch.cat([x.points, y.points], 1).sort(dim=1).values
    if x.uniform and y.uniform:
        counts = y.count * x.between(union)[1] - x.count * y.between(union)[1]
        running = counts.double() / (float(x.count) * y.count)
    else:
        running = x.below(union) - y.below(union)
    value = (union.double().diff(dim=1) * running[:, :-1] * (running[:, :-1] - running[:, -1:])).sum(1)
    if unbiased:
        value = value - _spread(x) / (2 * (x.count - 1)) - _spread(y) / (2 * (y.count - 1))
    return value


def _potential(at: Tensor, own: Source, other: Source, centre: Tensor, unbiased: bool) -> Tensor:
    """sum_j b_j |x_i - y_j| - sum_k a_k |x_i - x_k|, the derivative by the weight of x_i."""
    correction = own.count / (own.count - 1) if unbiased else 1.0
    return other.distances(at, centre) - correction * own.distances(at, centre)


def rank(
    x: Tensor, y: Tensor, x_weights: Tensor | None, y_weights: Tensor | None, unbiased: bool, outputs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Energy distance of each slice: gradients in the points, value, and gradients in the weights."""
    finite = x.isfinite().all(1) & y.isfinite().all(1)
    centre = torch.cat([x, y], 1).double().mean(1, keepdim=True)
    source_x, source_y = Source(x, x_weights, centre), Source(y, y_weights, centre)

    def wanted(bit: int, dtype: torch.dtype, compute: object) -> Tensor:
        if not outputs & bit:
            return _absent(x, dtype)
        result: Tensor = compute()  # type: ignore[operator]
        keep = finite if result.dim() == 1 else finite[:, None]
        return torch.where(keep, result, torch.nan)

    return (
        wanted(GRAD_X, x.dtype, lambda: _gradient(x, x_weights, source_x, source_y, unbiased)),
        wanted(GRAD_Y, x.dtype, lambda: _gradient(y, y_weights, source_y, source_x, unbiased)),
        wanted(VALUE, torch.float64, lambda: _value(source_x, source_y, unbiased)),
        wanted(POTENTIAL_X, torch.float64, lambda: _potential(x, source_x, source_y, centre, unbiased)),
        wanted(POTENTIAL_Y, torch.float64, lambda: _potential(y, source_y, source_x, centre, unbiased)),
    )


def sort(y: Tensor, y_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each slice in order, and the running sums of its weights, from 0; empty without weights."""
    points, order = y.sort(dim=1, stable=True)
    if y_weights is None:
        return points, _absent(y, torch.float64)
    return points, Source._running(_rowwise(y_weights, y).gather(1, order))


def rank_sorted(
    x: Tensor, sorted: Tensor, x_weights: Tensor | None, cumulative: Tensor | None, unbiased: bool, outputs: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``rank`` says of x, with y as ``sort`` returned it."""
    y_weights = None if cumulative is None else cumulative.diff(dim=1)
    grad_x, _, value, potential_x, _ = rank(
        x, sorted, x_weights, y_weights, unbiased, outputs & ~(GRAD_Y | POTENTIAL_Y)
    )
    return grad_x, value, potential_x


def permutation(z: Tensor, labels: Tensor) -> Tensor:
    """D^2 (P, B) of each slice z (P, n) split by each row of labels (B, n), of which 1 says x."""
    n = z.shape[1]
    points, order = z.sort(dim=1, stable=True)
    count = labels[:, :1].double() * 0 + labels.sum(1, keepdim=True).double()
    expected = torch.arange(1, n, device=z.device, dtype=torch.float64)
    rows = []
    for slice_points, slice_order in zip(points, order, strict=True):
        steps = slice_points.double().diff()
        running = labels[:, slice_order].to(torch.int64).cumsum(1)[:, :-1].double()
        # F - G = c / N - (k - c) / M = (n c - k N) / (N M), the numerator an integer
        signed = (n * running - expected * count) / (count * (n - count))
        value = (steps * signed.square()).sum(1)
        rows.append(torch.where(slice_points.isfinite().all(), value, torch.nan))
    return torch.stack(rows)


def wasserstein(x: Tensor, y: Tensor, p: float, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """W_p^p of each slice, the mean of |F^-1 - G^-1|^p, with its gradients; the counts may differ.

    Mass is counted in units of 1 / (N M): the quantile functions are constant between neighbouring cuts k M and k N.
    """
    (slices, n), m = x.shape, y.shape[1]
    finite = x.isfinite().all(1) & y.isfinite().all(1)
    ends_x = torch.arange(1, n + 1, device=x.device) * m
    ends_y = torch.arange(1, m + 1, device=x.device) * n
    cuts = torch.cat([ends_x, ends_y]).sort().values
    mass = torch.diff(cuts, prepend=cuts.new_zeros(1)).double() / (float(n) * m)
    at_x, at_y = (cuts - 1) // m, (cuts - 1) // n
    (points_x, order_x), (points_y, order_y) = x.sort(dim=1, stable=True), y.sort(dim=1, stable=True)
    gap = points_x.double()[:, at_x] - points_y.double()[:, at_y]
    value, slope = mass * gap.abs().pow(p), mass * p * gap.abs().pow(p - 1) * gap.sign()

    def gradient(like: Tensor, at: Tensor, order: Tensor, terms: Tensor) -> Tensor:
        in_order = torch.zeros(slices, like.shape[1], dtype=torch.float64, device=like.device).index_add(1, at, terms)
        result = torch.zeros_like(in_order).scatter(1, order, in_order).to(like.dtype)
        return torch.where(finite[:, None], result, torch.nan)

    return (
        gradient(x, at_x, order_x, slope) if outputs & GRAD_X else _absent(x, x.dtype),
        gradient(y, at_y, order_y, -slope) if outputs & GRAD_Y else _absent(x, x.dtype),
        torch.where(finite, value.sum(1), torch.nan) if outputs & VALUE else _absent(x, torch.float64),
    )
