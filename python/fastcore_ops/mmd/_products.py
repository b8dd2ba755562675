"""Products of blocks of slices with one cloud, and of their gradients back: torch's own, or split for tensor cores.

Data-centre GPUs multiply bfloat16 matrices more than six times as fast as float32 ones. There a float32 number is taken as
the exact sum of three bfloat16 numbers, and the six largest of the nine products of parts are summed in float32 by one
product with six times the inner dimension: as exact as a float32 product. Only where the user let torch use TF32, which is
less exact and faster still, its own product stays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _backend

_ALIGN = 8  # points
_SPLIT_LEAST = 256  # coordinates, and slices in a block: with fewer the split costs what the products save
_SPLIT_CHUNK = 4096  # points whose parts are in the second cache together


class Products:
    """Projections in a buffer that is used again, and the way back.

    The bits of a projection must not depend on where a point stands. MKL's do in float32 where the number of points is no
    multiple of 4, and those of a single row (another routine) always: points are padded, a row gets a twin.
    """

    def __init__(self, cloud: Tensor, shift: Tensor | None, most: int) -> None:
        self.count = cloud.shape[0]
        missing = -self.count % _ALIGN
        self.cloud = cloud if shift is None else cloud - shift
        if missing:
            self.cloud = torch.nn.functional.pad(self.cloud, (0, 0, 0, missing))
        self.buffer = cloud.new_empty(max(2, most), self.count + missing)
        self.narrow = cloud.new_empty(most, self.count) if missing else None

    def project(self, rows: Tensor) -> Tensor:
        """Projections (P, N) of the cloud on rows (P, d)."""
        slices = rows.shape[0]
        if slices == 1:
            rows = rows.expand(2, -1).contiguous()
        found = torch.mm(rows, self.cloud.t(), out=self.buffer[: rows.shape[0]])[:slices]
        return found if self.narrow is None else self.narrow[:slices].copy_(found[:, : self.count])

    def add_back(self, grad: Tensor, found: Tensor, rows: Tensor) -> None:
        """Add the gradients ``found`` (P, N) along rows (P, d) to ``grad`` (N, d)."""
        grad.addmm_(found.t(), rows)


class SplitProducts:
    """The same by products of bfloat16 parts, for some thousands of points at a time, whose parts the second cache holds.

    The chunks are of one size, the last one filled up with zeros, so that every point goes through the same routine.
    """

    def __init__(self, cloud: Tensor, shift: Tensor | None, most: int, split: Callable[..., Tensor]) -> None:
        self.cloud, self.shift, self.split = cloud, shift, split
        self.count = cloud.shape[0]
        chunks = -(-self.count // _SPLIT_CHUNK)
        self.chunk = -(-self.count // (chunks * _ALIGN)) * _ALIGN
        self.starts = range(0, self.count, self.chunk)
        self.buffer = cloud.new_empty(most, len(self.starts) * self.chunk)
        exact = self.buffer.shape[1] == self.count
        self.narrow = None if exact else cloud.new_empty(most, self.count)

    def project(self, rows: Tensor) -> Tensor:
        """Projections (P, N) of the cloud on rows (P, d)."""
        slices = rows.shape[0]
        left = self.split(rows, None, 0, slices, False, True)
        found = self.buffer[:slices]
        for start in self.starts:
            right = self.split(self.cloud, self.shift, start, self.chunk, False, False)
            _multiply(left, right.t(), found[:, start : start + self.chunk])
        return found if self.narrow is None else self.narrow[:slices].copy_(found[:, : self.count])

    def add_back(self, grad: Tensor, found: Tensor, rows: Tensor) -> None:
        """Add the gradients ``found`` (P, N) along rows (P, d) to ``grad`` (N, d)."""
        right = self.split(rows, None, 0, rows.shape[1], True, True)
        part = grad.new_empty(self.chunk, grad.shape[1])
        for start in self.starts:
            left = self.split(found, None, start, self.chunk, True, False)
            _multiply(left.t(), right, part)
            target = grad[start : start + self.chunk]
            target += part[: target.shape[0]]


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Bfloat16 matrices, products summed in float32."""
    if out.is_cuda:
        torch.mm(left, right, torch.float32, out=out)
    else:  # no CPU is worth the split: the tests' way
        torch.mm(left.float(), right.float(), out=out)


@functools.cache
def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are more than six times as fast: A100, H100, B200 and theirs, no GPU for graphics."""
    if torch.version.hip is not None:
        return False
    major, minor = torch.cuda.get_device_capability(device)
    return (major, minor) == (8, 0) or major in (9, 10)


def _splits(cloud: Tensor, most: int, backend: str | None) -> bool:
    return (
        cloud.is_cuda
        and cloud.dtype == torch.float32
        and backend != "reference"
        and min(most, *cloud.shape) >= _SPLIT_LEAST
        and not torch.compiler.is_compiling()  # no trace writes a product's float32 sums into a part of a tensor
        and torch.backends.cuda.matmul.fp32_precision != "tf32"
        and _has_fast_bfloat16(cloud.device)
    )


def products(cloud: Tensor, shift: Tensor | None, most: int, backend: str | None) -> Products | SplitProducts:
    """Products of blocks of up to ``most`` slices with points (N, d), less ``shift`` (1, d)."""
    if _splits(cloud, most, backend):
        return SplitProducts(cloud, shift, most, _backend.pick("mmd_split", cloud.device, backend))
    return Products(cloud, shift, most)
