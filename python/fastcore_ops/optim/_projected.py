"""AdamP's and SGDP's test: does the gradient stand almost at right angles to a parameter's rows, or to the whole of it?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ._call import Call, Scaling
from ._flat import COLUMNS, EVERYWHERE, ROWS_CUT, has_rows_in_order, row_count
from ._kernel import GroupKernel
from ._optimizer import FusedOptimizer
from ._reference_sums import make_projected_step

if TYPE_CHECKING:
    from ._distributed import Ranks

NONE, ROWS, WHOLE = range(3)  # as the kernels number them


def projections(
    sums: Tensor,
    rows: list[int],
    lengths: list[int],
    delta: float,
    eps: float,
    ranks: RowsOnRanks | None,
    constant: Callable[[list[int], torch.device, torch.dtype], Tensor],
) -> Tensor:
    """Whether each parameter is projected, and how; Heo et al. 2021, section 2.3.

    Parameters
    ----------
    sums : Tensor, shape (3, sum(rows))
        ``|p|^2``, ``<p, g>`` and ``|g|^2`` of each row.
    rows, lengths : list of int
        Rows of each parameter, and elements of each of its rows.
    delta, eps : float
        A view passes if its largest cosine is below ``delta`` over the root of its length.
    ranks : RowsOnRanks or None
        Where other rows of the parameters are elsewhere.
    constant : callable
        Makes tensors of numbers: :meth:`Call.constant`.

    Returns
    -------
    Tensor of float64, one for each parameter
        0: not, 1: row by row, 2: as a whole. Rows are tried first.
    """
    counts = constant(rows, sums.device, torch.int64)
    owner = torch.repeat_interleave(torch.arange(len(rows), device=sums.device), counts, output_size=sums.shape[1])
    cosine = _cosine(sums, eps)
    # amax would let a NaN pass or not, depending on the place; infinity never passes
    cosine = torch.where(cosine.isnan(), torch.inf, cosine)
    largest = cosine.new_zeros(len(rows)).scatter_reduce(0, owner, cosine, "amax")
    total = sums.new_zeros(3, len(rows)).index_add(1, owner, sums)
    if ranks is not None:
        largest = ranks.ranks.join(largest[None], ranks.places, ROWS_CUT, largest=True)[0]
        total = ranks.ranks.join(total, ranks.places, ROWS_CUT)
        counts = constant([row_count(ranks.ranks.owners[i]) for i in ranks.places], sums.device, torch.int64)
    length = constant(lengths, sums.device, torch.float64)
    by_row = largest < delta / length.sqrt()
    as_whole = _cosine(total, eps) < delta / (length * counts).sqrt()
    return torch.where(by_row, ROWS, torch.where(as_whole, WHOLE, NONE)).double()


def _cosine(sums: Tensor, eps: float) -> Tensor:
    return sums[1].abs() / (sums[0].sqrt().clamp_min(eps) * sums[2].sqrt().clamp_min(eps))


class RowsOnRanks(NamedTuple):
    """Parameters of a call, some of whose rows other ranks hold."""

    ranks: Ranks
    places: list[int]


class ProjectedOptimizer(FusedOptimizer):
    """A rule whose direction may lose its part along the parameter."""

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False

    def in_place(self, p: Tensor) -> bool:
        """Rows must stand one after the other."""
        return has_rows_in_order(p)

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """Decide for each parameter."""
        for call in calls:
            among = [i for i, p in enumerate(call.owners) if p.dim() > 1 and p.numel()]
            call.numbers = torch.zeros(1, len(call.params), dtype=torch.float64, device=call.device)
            if among:
                call.numbers[0, call.constant(among, call.device)] = self._decide(call, among, scaling)

    def _decide(self, call: Call, among: list[int], scaling: Scaling) -> Tensor:
        group: dict[str, Any] = call.group
        rows = [row_count(call.params[i]) for i in among]
        lengths = [math.prod(call.owners[i].shape[1:]) for i in among]
        sums = call.measure("dots", scaling, by_row=True, among=among)
        ranks = None if call.ranks is None else RowsOnRanks(call.ranks, among)
        return projections(sums, rows, lengths, float(group["delta"]), float(group["eps"]), ranks, call.constant)

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step; parameters whose projection needs what other ranks hold are stepped in torch."""
        ranks, apart = call.ranks, self._apart(call)
        if ranks is None or not apart:
            kernel.run(call, scaling)
            return
        rest = call.part([i for i in range(len(call.params)) if i not in apart])

        def join(i: int, code: int, sums: Tensor) -> Tensor:
            along = EVERYWHERE if code == WHOLE else COLUMNS
            return ranks.join(sums, [apart[i]] * sums.shape[1], along)

        call.part(apart).step(make_projected_step(self.rule, join), self.hyper(call.group), scaling)
        call.clear()
        if rest.params:
            kernel.run(rest, scaling)

    def _apart(self, call: Call) -> list[int]:
        """Positions of parameters that are projected along rows, or a whole, of which other ranks hold a part."""
        ranks = call.ranks
        cut = [] if ranks is None else [i for i in range(len(call.params)) if ranks.is_cut(i, EVERYWHERE)]
        if ranks is None or not cut:
            return []
        assert call.numbers is not None
        codes = call.numbers[0, torch.tensor(cut, device=call.device)].tolist()
        return [i for i, code in zip(cut, codes, strict=True) if code == WHOLE or (code and ranks.is_cut(i, COLUMNS))]
