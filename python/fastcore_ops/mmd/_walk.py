"""One walk over blocks of slices: project, let a visitor look at the projections, carry its gradients back.

Memory is that of a block. Blocks are rows of products, so that a BLAS computes the projection of each point in the same
way wherever the point stands; a product of one row would be another routine (in float32 MKL's differs), so it gets two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .. import _backend
from . import _products
from ._slices import Slices, Transform

_BLOCK_ELEMENTS = 1 << 22  # of both clouds together: 16 MB in float32
_GPU_FACTOR = 16  # a GPU, whose multiprocessors each want slices of their own, takes blocks and chunks so much larger
_LEAST_BLOCK, _MOST_BLOCK = 16, 1024
_CHUNK = 2048  # points that are centred, padded and transformed together
_MOST_MEDIAN = 256  # points of which the centre is the median

Visit = Callable[[int, int, Tensor, "Tensor | None"], "tuple[Tensor | None, Tensor | None]"]


def centre(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Point (…, 1, d) near the bulk of both clouds (…, N, d): the coordinatewise median of evenly strided points.

    Any point near the bulk serves: subtracted from both clouds it leaves distances alone, and float32 keeps their digits
    whatever the offset. The pooled mean is pulled away by one outlier of 1e30, and its sum in float64 takes a copy of the
    clouds; choosing between the two would read numbers on the host. The median does neither.
    """
    pooled = [x] if y is None else [x, y]
    stride = centre_stride(sum(cloud.shape[-2] for cloud in pooled))
    return median([cloud[..., ::stride, :] for cloud in pooled])


def centre_stride(total: int) -> int:
    """Distance in memory of the points that ``centre`` looks at."""
    return -(-total // _MOST_MEDIAN)


def median(clouds: list[Tensor]) -> Tensor:
    """Coordinatewise lower median (…, 1, d) of pooled clouds; by a sort, since on a GPU torch's own is not deterministic."""
    pooled = torch.cat(clouds, dim=-2).sort(dim=-2).values
    middle = (pooled.shape[-2] - 1) // 2
    return pooled[..., middle : middle + 1, :]


def _block(columns: int, on_gpu: bool) -> int:
    """Most slices in a block."""
    elements = _BLOCK_ELEMENTS * (_GPU_FACTOR if on_gpu else 1)
    return min(max(elements // columns, _LEAST_BLOCK), _MOST_BLOCK)


def pieces(count: int, columns: int, on_gpu: bool = False) -> list[tuple[int, int]]:
    """Cut slices into blocks of nearly equal size, none of one slice unless there is but one."""
    parts = -(-count // _block(columns, on_gpu))
    cuts = [k * count // parts for k in range(parts + 1)]
    return list(pairwise(cuts))


def walk(
    slices: Slices,
    x: Tensor,
    y: Tensor | None,
    shift: Tensor | None,
    visit: Visit,
    wanted: tuple[bool, bool],
    backend: str | None,
    columns: int | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Visit all slices, and return the sums over them of gradient times direction, for the sides that are ``wanted``.

    ``x`` (N, d) and ``y`` (M, d) are contiguous; ``shift`` (1, d) is taken from both. ``visit(start, stop, tx, ty)`` gets
    the projections (stop - start, N) and (stop - start, M) of slices start … stop - 1, which are overwritten later, and
    returns the gradients in them, or None. Without ``y`` there is no ``ty``. Blocks are cut for ``columns`` points of both
    clouds together, by default their number: ranks that meet at each block must agree on it.
    """
    if columns is None:
        columns = x.shape[0] + (0 if y is None else y.shape[0])
    grads = tuple(
        torch.zeros_like(cloud) if want and cloud is not None else None
        for cloud, want in zip((x, y), wanted, strict=True)
    )
    if slices.rows is not None:
        _walk_rows(slices.rows, x, y, shift, visit, grads, backend, columns)
        return grads[0], grads[1]
    first = 0
    for group in _groups(slices.transforms, columns, x.is_cuda):
        merged = _merged(group)
        _walk_transform(merged, first, x, y, shift, visit, grads, backend, columns)
        first += merged.count
    return grads[0], grads[1]


def _groups(parts: tuple[Transform, ...], columns: int, on_gpu: bool) -> list[list[Transform]]:
    """Transforms that share a block: short ones on a GPU, whose multiprocessors outnumber the slices of one."""
    groups: list[list[Transform]] = []
    most, room = _block(columns, on_gpu), 0
    for part in parts:
        if on_gpu and groups and part.count <= room:
            groups[-1].append(part)
            room -= part.count
        else:
            groups.append([part])
            room = most - part.count
    return groups


def _merged(group: list[Transform]) -> Transform:
    """Several transforms as one, whose signs are (K, 3, D)."""
    if len(group) == 1:
        return group[0]
    depth, count = group[0].signs.shape[-1], sum(part.count for part in group)
    size = (len(group) - 1) * depth + group[-1].size
    pick: slice | Tensor = slice(0, size)
    if count < size:
        pick = torch.cat([_indices(part) + k * depth for k, part in enumerate(group)])
    return Transform(torch.stack([part.signs for part in group]), pick, size, count)


def _indices(part: Transform) -> Tensor:
    if isinstance(part.pick, Tensor):
        return part.pick
    return torch.arange(part.pick.start, part.pick.start + part.count, device=part.signs.device)


def _walk_rows(
    rows: Tensor,
    x: Tensor,
    y: Tensor | None,
    shift: Tensor | None,
    visit: Visit,
    grads: tuple[Tensor | None, ...],
    backend: str | None,
    columns: int,
) -> None:
    if rows.shape[0] == 0:
        return
    cuts = pieces(rows.shape[0], columns, x.is_cuda)
    most = max(stop - start for start, stop in cuts)
    products = [None if cloud is None else _products.products(cloud, shift, most, backend) for cloud in (x, y)]
    for start, stop in cuts:
        block = rows[start:stop]
        tx, ty = (None if side is None else side.project(block) for side in products)
        assert tx is not None
        for side, grad, found in zip(products, grads, visit(start, stop, tx, ty), strict=True):
            if side is not None and grad is not None and found is not None:
                side.add_back(grad, found, block)


def _chunk(cloud: Tensor) -> int:
    return _CHUNK * (_GPU_FACTOR if cloud.is_cuda else 1)


def _chunks(cloud: Tensor) -> Iterator[tuple[int, int]]:
    for start in range(0, cloud.shape[0], _chunk(cloud)):
        yield start, min(start + _chunk(cloud), cloud.shape[0])


def _transformed(part: Transform, cloud: Tensor, shift: Tensor | None, hadamard: Callable[..., Tensor]) -> Tensor:
    """All rows of a transform up to the last one needed, (size, N); no copy of the cloud is centred as a whole."""
    if cloud.shape[0] <= _chunk(cloud):
        return hadamard(cloud if shift is None else cloud - shift, part.signs, part.size, False)
    found = cloud.new_empty(part.size, cloud.shape[0])
    for start, stop in _chunks(cloud):
        points = cloud[start:stop] if shift is None else cloud[start:stop] - shift
        found[:, start:stop] = hadamard(points, part.signs, part.size, False)
    return found


def _walk_transform(
    part: Transform,
    first: int,
    x: Tensor,
    y: Tensor | None,
    shift: Tensor | None,
    visit: Visit,
    grads: tuple[Tensor | None, ...],
    backend: str | None,
    columns: int,
) -> None:
    """One transform, in blocks: gradients take the place of their projections, and go back by the transposed transform."""
    hadamard = _backend.pick("mmd_hadamard", x.device, backend)
    whole = [None if cloud is None else _transformed(part, cloud, shift, hadamard) for cloud in (x, y)]
    picked = [None if rows is None else rows[part.pick] for rows in whole]
    assert picked[0] is not None
    cuts = pieces(part.count, columns, x.is_cuda)
    for start, stop in cuts:
        tx, ty = (None if rows is None else rows[start:stop] for rows in picked)
        assert tx is not None
        for side, found in enumerate(visit(first + start, first + stop, tx, ty)):
            if grads[side] is None or found is None:
                continue
            if len(cuts) == 1:
                picked[side] = found
            else:
                picked[side][start:stop] = found  # type: ignore[index]
    for grad, full, rows in zip(grads, whole, picked, strict=True):
        if grad is not None and full is not None and rows is not None:
            _add_back(part, _unpicked(part, full, rows), grad, hadamard)


def _unpicked(part: Transform, full: Tensor, rows: Tensor) -> Tensor:
    """The picked rows among zeros, in the memory ``full`` that they came from."""
    if part.count == part.size:
        return rows
    full.zero_()
    full[part.pick] = rows
    return full


def _add_back(part: Transform, full: Tensor, grad: Tensor, hadamard: Callable[..., Tensor]) -> None:
    for start, stop in _chunks(grad):
        block = full if grad.shape[0] <= _chunk(grad) else full[:, start:stop].contiguous()
        grad[start:stop] += hadamard(block, part.signs, grad.shape[1], True)
