"""Parameters that are DTensors: what of them lies here, their states, and sums over the ranks that hold the rest."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from .._checks import reject
from ._flat import COLUMNS, EVERYWHERE, Flat, has_rows_in_order, row_count


def local(x: Tensor) -> Tensor:
    """What this rank holds; all of a plain tensor."""
    if not isinstance(x, DTensor):
        return x
    with torch.no_grad():
        held = x.to_local()
    wait = getattr(held, "wait", None)  # of a collective that is still under way
    return held if wait is None else wait()


def _cut(p: DTensor) -> dict[str, list[int]]:
    """Mesh dimensions of more than one rank that cut a parameter; a replica cuts nothing."""
    found: dict[str, list[int]] = {"rows": [], "columns": []}
    for dim, placement in enumerate(p.placements):
        if not isinstance(placement, Replicate) and p.device_mesh.size(dim) > 1:
            found["rows" if placement.dim == 0 else "columns"].append(dim)  # type: ignore[attr-defined]
    return found


def check(name: str, p: Tensor) -> None:
    """Refuse parameters and gradients that are sums still to be made."""
    if not isinstance(p, DTensor):
        return
    for what, x in (("parameters", p), ("gradients", p.grad)):
        if isinstance(x, DTensor) and any(placement.is_partial() for placement in x.placements):
            reject(
                name, f"{what} with placements Shard and Replicate", x.placements,
                "Redistribute what is Partial first.", RuntimeError,
            )  # fmt: skip


def _first_place(p: Tensor) -> int:
    """Place of the local shard's first element in the whole parameter: random bits go by it, alike on all replicas."""
    if not isinstance(p, DTensor) or p.device_mesh.get_coordinate() is None:
        return 0
    cut = _cut(p)
    if not cut["columns"] and all(isinstance(p.placements[dim], Shard) for dim in cut["rows"]):
        if has_rows_in_order(local(p)):
            _, offset = compute_local_shape_and_global_offset(p.shape, p.device_mesh, p.placements)
            return int(offset[0]) * math.prod(p.shape[1:]) if offset else 0
    number = 0  # of the shard: no order of its elements fits the whole, so each shard has bits of its own
    for dim in sorted(cut["rows"] + cut["columns"]):
        number = number * p.device_mesh.size(dim) + p.device_mesh.get_local_rank(dim)
    return number << 40


def distribute(flat: Flat, random: bool) -> None:
    """Make entries of local memory into DTensors, and let random bits go by an element's place in the whole parameter."""
    by_row = {scalar.name for scalar in flat.numbers if scalar.by_row}
    of_elements = {kind.name for kind in flat.kinds} | {flat.extra_name}
    for name, views in flat.views.items():
        if name in of_elements | by_row:
            flat.views[name] = [_entry(view, p, name in by_row) for view, p in zip(views, flat.params, strict=True)]
    if random:
        flat.index = torch.cat([flat.index, torch.tensor([[_first_place(p) for p in flat.params]])])


def _entry(view: Tensor, p: Tensor, by_row: bool) -> Tensor:
    """A view as a state that is distributed as its parameter is; numbers of rows are where the rows are."""
    if not isinstance(p, DTensor) or (by_row and p.dim() == 0):
        return view
    placements, shape, stride = list(p.placements), p.shape, p.stride()
    if by_row:
        cut = _cut(p)["rows"]
        placements = [placement if dim in cut else Replicate() for dim, placement in enumerate(placements)]
        shape, stride = p.shape[:1], (1,)
    return DTensor.from_local(view, p.device_mesh, placements, run_check=False, shape=shape, stride=stride)


def as_its_parameter(view: Tensor, p: Tensor) -> Tensor:
    """What this rank holds of a tensor of the parameter's shape, as a DTensor if the parameter is one."""
    return _entry(view, p, False)


def write(view: Tensor, given: Tensor) -> None:
    """Copy a state into its place, whatever its distribution; a plain tensor is the whole or the local part of one."""
    if isinstance(view, DTensor):
        if isinstance(given, DTensor):
            given = given.redistribute(view.device_mesh, view.placements)
        elif given.shape == view.shape:
            given = distribute_tensor(given, view.device_mesh, view.placements, src_data_rank=None)
    local(view).copy_(local(given))


class Ranks:
    """The parameters of a call and the ranks that hold them with this one."""

    def __init__(self, name: str, owners: list[Tensor]) -> None:
        self.name, self.owners = name, owners
        self.cuts = [_cut(p) if isinstance(p, DTensor) else None for p in owners]

    def params(self) -> list[Tensor]:
        """What is stepped here."""
        return [local(p) for p in self.owners]

    def gradients(self, grads: list[Any]) -> list[Any]:
        """The gradients' local parts, distributed as the parameters are."""
        found = []
        for p, g in zip(self.owners, grads, strict=True):
            if isinstance(p, DTensor) and isinstance(g, DTensor):
                check(self.name, p)
                if g.placements != p.placements or g.device_mesh != p.device_mesh:
                    g = g.redistribute(p.device_mesh, p.placements)
            found.append(local(g))
        return found

    def is_cut(self, i: int, along: tuple[str, ...]) -> bool:
        """Whether other ranks hold a part of the parameter."""
        cut = self.cuts[i]
        return cut is not None and any(cut[name] for name in along)

    def require_whole(self, what: str) -> None:
        """Refuse parameters of which other ranks hold a part."""
        if any(self.is_cut(i, EVERYWHERE) for i in range(len(self.owners))):
            reject(
                self.name,
                f"whole parameters with {what}",
                "a DTensor of which other ranks hold a part",
                "",
                RuntimeError,
            )

    def whole(self, sums: Tensor, places: list[int], params: list[Tensor], by_row: bool) -> Tensor:
        """Local sums over parameters become those over whole ones; of rows that are here, those over whole rows."""
        if not by_row:
            return self.join(sums, places, EVERYWHERE)
        of_rows = [i for i in places for _ in range(row_count(params[i]))]
        return self.join(sums, of_rows, COLUMNS)

    def join(self, values: Tensor, places: list[int], along: tuple[str, ...], largest: bool = False) -> Tensor:
        """Add up (or take the largest of) what the ranks found, ``values[:, k]`` being about the parameter ``places[k]``.

        Ranks that hold the same part are not asked; parameters that are cut alike go together.
        """
        alike: dict[tuple[DeviceMesh, tuple[int, ...]], list[int]] = {}
        for k, i in enumerate(places):
            if self.is_cut(i, along):
                mesh, cut = self.owners[i].device_mesh, self.cuts[i]  # type: ignore[attr-defined]
                assert cut is not None
                alike.setdefault((mesh, tuple(sorted(dim for name in along for dim in cut[name]))), []).append(k)
        joined = values.clone() if alike else values
        for (mesh, dims), columns in alike.items():
            at = torch.tensor(columns, device=values.device)
            part = values[:, at].contiguous()
            for dim in dims:
                dist.all_reduce(part, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=mesh.get_group(dim))
            joined[:, at] = part
        return joined
