"""Slices shared among the ranks of a process group, and points sharded over them.

Replicated points: a rank walks over its share of the slices, and one sum over the ranks ends it. Sharded points: a rank
projects its own points on every slice of a block; an all-to-all brings the projections of a slice to the rank that owns
it, another one carries the gradients back. Its traffic grows with slices times points over ranks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _checks
from ._inputs import check_totals, totals_tolerance
from ._kernels import SAMPLED
from ._reference_rank import GRAD_X, GRAD_Y
from ._slices import Slices, of_rows
from ._walk import centre_stride, median

if TYPE_CHECKING:
    from ._plan import Found, Totals
    from ._request import Call, Options


def _distributed() -> Any:
    import torch.distributed as dist

    return dist


class Ranks:
    """The ranks of a group, seen from one of them."""

    def __init__(self, operation: str, group: Any) -> None:
        dist = _distributed()
        if not (dist.is_available() and dist.is_initialized()):
            _checks.reject(
                operation,
                "`process_group` of an initialised torch.distributed",
                "none",
                "Call torch.distributed.init_process_group first.",
            )
        self.group = dist.group.WORLD if group is None else group
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        _distributed().all_reduce(tensor, group=self.group)
        return tensor

    def counts(self, count: int, like: Tensor) -> list[int]:
        """The number that each rank gives."""
        mine = torch.tensor([count], device=like.device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        _distributed().all_gather(parts, mine, group=self.group)
        return [int(part) for part in parts]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, one rank's after another's; they may differ in number."""
        sizes = self.counts(rows.shape[0], rows)
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: rows.shape[0]] = rows.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        _distributed().all_gather(parts, padded, group=self.group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def gather_columns(self, columns: Tensor) -> Tensor:
        """The columns of all ranks' matrices."""
        return self.gather(columns.t()).t().contiguous()

    def strided(self, cloud: Tensor, start: int, stride: int) -> Tensor:
        """Every ``stride``-th row of all ranks' rows, of which this rank has those from ``start`` on: on every rank."""
        return self.gather(cloud[-start % stride :: stride])

    def exchange(self, block: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Flat elements to each rank and from each."""
        out = block.new_empty(sum(received))
        _distributed().all_to_all_single(out, block.contiguous().view(-1), received, sent, group=self.group)
        return out

    def divide(self, slices: Slices, given: bool, sharded: bool) -> tuple[Slices, int]:
        """The slices that this rank walks over, and the number of all.

        Given directions are the rank's own share, drawn ones those of all ranks. With sharded points every rank projects on
        all of them.
        """
        if not (given and slices.rows is not None):
            return (slices if sharded else slices.share(self.rank, self.size)), slices.count
        total = sum(self.counts(slices.count, slices.rows))
        return (of_rows(self.gather(slices.rows)) if sharded else slices), total

    def centre(self, x: Tensor, y: Tensor, sides: tuple[Side, Side]) -> Tensor:
        """What ``_walk.centre`` says of the whole clouds (B, N, d)."""
        stride = centre_stride(sum(side.total for side in sides))
        picked = [
            self.strided(cloud.transpose(0, 1), side.start, stride).transpose(0, 1)
            for cloud, side in zip((x, y), sides, strict=True)
        ]
        return median(picked)

    def reduce(self, found: Found, sides: tuple[Side, Side] | None) -> None:
        """Sum what each rank found over its slices; of sharded points, gradients are complete, potentials are of all."""
        parts = (found.value, found.potential_x, found.potential_y)
        for part in parts if sides is not None else (*parts, found.grad_x, found.grad_y):
            if part is not None:
                self.sum(part)
        if sides is not None:
            found.potential_x, found.potential_y = (
                None if part is None else side.own(part) for part, side in zip(parts[1:], sides, strict=True)
            )


class Side:
    """One cloud, sharded: how many points each rank has."""

    def __init__(self, ranks: Ranks, cloud: Tensor) -> None:
        self.batch, self.mine = cloud.shape[0], cloud.shape[1]
        self.counts = ranks.counts(self.mine, cloud)
        self.total, self.start = sum(self.counts), sum(self.counts[: ranks.rank])

    @property
    def most(self) -> int:
        """Columns of the rank that has most points."""
        return self.batch * max(self.counts)

    def own(self, whole: Tensor) -> Tensor:
        """Columns of this rank, of something (…, N) about all points."""
        return whole[..., self.start : self.start + self.mine].contiguous()


class Sharded:
    """Visitor around the visitor: own points and all slices outside, all points and own slices inside."""

    def __init__(self, ranks: Ranks, inner: Totals, sides: tuple[Side, Side]) -> None:
        self.ranks, self.inner, self.sides = ranks, inner, sides

    def _gather(self, side: Side, block: Tensor, owned: list[int]) -> Tensor:
        rank, batch = self.ranks.rank, side.batch
        sent = [k * batch * side.mine for k in owned]
        received = [owned[rank] * batch * n for n in side.counts]
        flat = self.ranks.exchange(block, sent, received).split(received)
        parts = [part.view(owned[rank], batch, n) for part, n in zip(flat, side.counts, strict=True)]
        return torch.cat(parts, dim=2).view(owned[rank], batch * side.total)

    def _scatter(self, side: Side, block: Tensor, owned: list[int]) -> Tensor:
        rank, batch = self.ranks.rank, side.batch
        whole = block.reshape(owned[rank], batch, side.total)
        parts = [part.reshape(-1) for part in whole.split(side.counts, dim=2)]
        received = [k * batch * side.mine for k in owned]
        out = self.ranks.exchange(torch.cat(parts), [part.numel() for part in parts], received)
        return out.view(sum(owned), batch * side.mine)

    def __call__(self, start: int, stop: int, tx: Tensor, ty: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Exchange projections, look at the own slices, exchange gradients."""
        assert ty is not None
        ranks, slices = self.ranks, stop - start
        cuts = [start + k * slices // ranks.size for k in range(ranks.size + 1)]
        owned = [after - before for before, after in pairwise(cuts)]
        whole = [self._gather(side, t, owned) for side, t in zip(self.sides, (tx, ty), strict=True)]
        found: tuple[Tensor | None, Tensor | None] = (None, None)
        if owned[ranks.rank]:
            found = self.inner(cuts[ranks.rank], cuts[ranks.rank + 1], whole[0], whole[1])
        back: list[Tensor | None] = []
        for side, bit, grad, like in zip(self.sides, (GRAD_X, GRAD_Y), found, whole, strict=True):
            wanted = bool(self.inner.outputs & bit)
            back.append(self._scatter(side, like[:0] if grad is None else grad, owned) if wanted else None)
        return back[0], back[1]


def gather_shards(
    operation: str, call: Call, ranks: Ranks, given: Options
) -> tuple[Tensor | None, Tensor | None, list[Tensor]]:
    """Weights of this rank, checked with those of all, and a sample of the whole clouds for the bandwidth."""
    clouds = [cloud for cloud in (call.x, call.y) if cloud is not None]
    sides = [Side(ranks, cloud) for cloud in clouds]
    if given.unbiased and min(side.total for side in sides) < 2:
        remedy = "Pass unbiased=False for the V-statistic."
        _checks.reject(operation, "at least 2 points in `x` and in `y` with unbiased=True", "1 on all ranks", remedy)
    weights = [call.a, call.b]
    for k, name in enumerate(("x_weights", "y_weights")):
        own = weights[k]
        if own is not None and getattr(given, name) is None:
            weights[k] = torch.full_like(own, 1.0 / sides[k].total)
    if not given.signed and weights[0] is not None and weights[1] is not None:
        tolerance = totals_tolerance(call.x, given.x_weights, given.y_weights)
        check_totals(operation, ranks.gather_columns(weights[0]), ranks.gather_columns(weights[1]), tolerance)
    stride = -(-sum(side.total for side in sides) // SAMPLED)
    starts = (sides[0].start, sides[0].total + sides[1].start)
    sample = [
        ranks.strided(cloud.detach().transpose(0, 1), start, stride).transpose(0, 1)
        for cloud, start in zip(clouds, starts, strict=True)
    ]
    return weights[0], weights[1], sample
