"""Checks of the kernel distances' CUDA kernels: counts bit for bit, sums against float64, every size of block.

As a program, under a sanitizer: python -m tests.cuda_on_cpu.mmd_checks MODE
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch import Tensor

from fastcore_ops.mmd import _reference_hadamard, _reference_rank, _reference_split
from tests.mmd import rank_problems as problems

F32, F64 = torch.float32, torch.float64
POINTS, EVERYTHING = 7, 31  # gradients and value; with potentials
LAWS = ("normal", "ties", "constant", "bytes")
# Of each block in shared memory, then beyond them: points of the longer side, and of the other.
SIZES = ((1, 1), (2, 513), (1024, 30), (1025, 700), (4097, 1), (8193, 260))
LARGE = ((20481, 20), (24577, 9))


def cpu_ops() -> Any:
    importlib.import_module("fastcore_ops._C")
    return torch.ops.fastcore_ops


def draw(slices: int, count: int, dtype: torch.dtype, law: str = "normal", seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1000 * count)
    z = torch.randn(slices, count, generator=generator, dtype=F64)
    if law == "ties":
        z = (4 * z).round() / 4
    if law == "constant":
        z = torch.full_like(z, -0.75)
    if law == "bytes":  # numbers whose keys differ in one byte
        z = 1 + torch.randint(0, 256, z.shape, generator=generator) * 2.0**-7 + 0 * z
    return z.to(dtype)


def weights(count: int, *rows: int) -> Tensor:
    drawn = torch.rand(*rows, count, generator=torch.Generator().manual_seed(count), dtype=F64) + 0.1
    return drawn / drawn.sum(-1, keepdim=True)


def assert_close(got: Tensor, want: Tensor, units: float = 100) -> None:
    """To `units` of the rounding of the outputs' dtype, NaN at the same places."""
    assert got.shape == want.shape
    if not want.numel():
        return
    scale = float(want.nan_to_num(nan=0.0).abs().max())
    error = units * torch.finfo(got.dtype).eps * scale
    torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=error, equal_nan=True)


def check_rank(ops: Any, n: int, m: int, dtype: torch.dtype, law: str = "normal", outputs: int = POINTS) -> None:
    x, y = draw(2, n, dtype, law), draw(2, m, dtype, law, seed=1)
    for unbiased in (False, True) if min(n, m) > 1 else (False,):
        arguments = (x, y, None, None, unbiased, outputs)
        got, exact = ops.mmd_rank(*arguments), cpu_ops().mmd_rank(*arguments)
        want = _reference_rank.rank(x.double(), y.double(), *arguments[2:])
        for k in range(2):
            assert torch.equal(got[k], exact[k])
        for k in range(2, 5):
            assert_close(got[k], want[k], 3000)  # the potentials of the reference err by that


def check_sizes(ops: Any, sizes: Any = SIZES) -> None:
    for n, m in sizes:
        for pair in ((n, m), (m, n)):
            check_rank(ops, *pair, F32)


def check_swept(ops: Any, sizes: Any = ((1, 1), (3, 70), (1500, 900), (4096, 100))) -> None:
    """In global memory: float64, and what takes prefix sums."""
    for n, m in sizes:
        check_rank(ops, n, m, F64)
        check_rank(ops, n, m, F32, outputs=EVERYTHING)


def check_laws(ops: Any) -> None:
    for law in LAWS:
        for dtype in (F32, F64):
            check_rank(ops, 120, 90, dtype, law, EVERYTHING)
            check_rank(ops, 120, 90, dtype, law)


HARD_SIZES = ((1, 1), (1, 300), (300, 260), (900, 1500))


def check_hard(ops: Any, sizes: Any = HARD_SIZES) -> None:
    """Slices for buckets and slices for the sort, in one launch."""
    for n, m in sizes:
        x, y = problems.hard_slices(n, 0), problems.hard_slices(m, 1)
        for unbiased in (False, True) if min(n, m) > 1 else (False,):
            for outputs in (1, POINTS):
                got = ops.mmd_rank(x, y, None, None, unbiased, outputs)
                want = cpu_ops().mmd_rank(x, y, None, None, unbiased, outputs)
                for k in range(2):
                    torch.testing.assert_close(got[k], want[k], rtol=0, atol=0, equal_nan=True)
                torch.testing.assert_close(got[2], want[2], rtol=1e-9, atol=0, equal_nan=True)
                once = ops.mmd_rank_sorted(x, y.sort().values, None, None, unbiased, outputs)
                torch.testing.assert_close(once[0], want[0], rtol=0, atol=0, equal_nan=True)


def check_close_samples(ops: Any) -> None:
    """Values far below the range: the sort finds them, after the gradients by buckets."""
    x = draw(2, 400, F32)
    y = x.nextafter(torch.tensor(9.0))[:, torch.randperm(400, generator=torch.Generator().manual_seed(0))].contiguous()
    got = ops.mmd_rank(x, y, None, None, False, 4)[2]
    want = _reference_rank.rank(x.double(), y.double(), None, None, False, 4)[2]
    torch.testing.assert_close(got, want, rtol=1e-11, atol=0)


def check_weighted(ops: Any) -> None:
    for dtype in (F32, F64):
        for law in ("normal", "ties"):
            x, y = draw(3, 70, dtype, law), draw(3, 2100, dtype, law, seed=1)
            for pair in ((weights(70), weights(2100)), (weights(70, 3), weights(2100, 3))):
                got = ops.mmd_rank(x, y, *pair, False, EVERYTHING)
                want = _reference_rank.rank(x.double(), y.double(), *pair, False, EVERYTHING)
                for k in range(5):
                    assert_close(got[k], want[k], 2000)


def check_sorted(ops: Any, sizes: Any = (1, 700, 5000)) -> None:
    """A side sorted once gives what it gives unsorted."""
    for dtype in (F32, F64):
        for m in sizes:
            x, y = draw(2, 150, dtype), draw(2, m, dtype, "ties", seed=1)
            for shares in (None, weights(m), weights(m, 2)):
                own = None if shares is None else weights(150)
                points, cumulative = ops.mmd_sort(y, shares)
                want = _reference_rank.sort(y, shares)
                assert torch.equal(points, want[0])
                assert_close(cumulative, want[1])
                running = None if shares is None else cumulative
                got = ops.mmd_rank_sorted(x, points, own, running, False, EVERYTHING)
                direct = ops.mmd_rank(x, y, own, shares, False, EVERYTHING)
                for part, whole in zip(got, (direct[0], direct[2], direct[3]), strict=True):
                    assert_close(part, whole, 0 if shares is None and part.dtype == dtype == F32 else 2000)


def check_not_finite(ops: Any) -> None:
    """NaN and infinities, in one slice: NaN in all its outputs, and in no other's."""
    for dtype in (F32, F64):
        for bad in (torch.nan, -torch.nan, torch.inf, -torch.inf):
            for outputs in (POINTS, EVERYTHING):
                x, y = draw(3, 40, dtype), draw(3, 30, dtype, seed=1)
                x[1, 7] = bad
                y[2, 0] = bad
                found = ops.mmd_rank(x, y, None, None, False, outputs)
                found += ops.mmd_wasserstein(x, y, 2.0, POINTS)
                for output in found:
                    if output.numel():
                        assert not output[0].isnan().any()
                        assert output[1:].isnan().all()


def check_identical(ops: Any) -> None:
    """x = y in another order: 0, exactly."""
    for dtype in (F32, F64):
        x = draw(2, 300, dtype, "ties")
        y = x[:, torch.randperm(300, generator=torch.Generator().manual_seed(0))].contiguous()
        for output in ops.mmd_rank(x, y, None, None, False, POINTS)[:3]:
            assert not output.any()


def check_permutation(ops: Any) -> None:
    for dtype in (F32, F64):
        for n, rows in ((2, 1), (50, 33), (700, 70)):
            z = draw(2, n, dtype, "ties")
            generator = torch.Generator().manual_seed(n)
            order = torch.stack([torch.randperm(n, generator=generator) for _ in range(rows)])
            labels = (order < max(1, n // 3)).to(torch.uint8)
            assert_close(ops.mmd_permutation(z, labels), _reference_rank.permutation(z, labels), 100)


def check_wasserstein(ops: Any) -> None:
    for dtype in (F32, F64):
        for n, m, p in ((1, 1, 2.0), (7, 3, 1.0), (100, 64, 2.5), (3, 700, 2.0), (500, 11, 1.5)):
            x, y = draw(2, n, dtype, "ties"), draw(2, m, dtype, seed=1)
            got = ops.mmd_wasserstein(x, y, p, POINTS)
            for part, want in zip(got, _reference_rank.wasserstein(x.double(), y.double(), p, POINTS), strict=True):
                assert_close(part, want, 20)


# points, width, log2 of the depth, slices: one entry; each number of levels in the last sweep; tiles of each number of
# points, the last not full; several transforms, the last not whole; a point as large as shared memory, and larger.
HADAMARD = (
    (1, 1, 0, 1),
    (5, 3, 2, 4),
    (40, 60, 6, 64),
    (17, 120, 7, 9),
    (150, 30, 5, 80),
    (33, 700, 10, 500),
    (5, 3000, 12, 8),
)
LONG_HADAMARD = ((3, 9000, 14, 3), (2, 20000, 15, 40), (2, 40000, 16, 2**16 + 100))


def check_hadamard(ops: Any, sizes: Any = HADAMARD, dtypes: Any = (F32, F64)) -> None:
    for dtype in dtypes:
        for n, d, log_depth, size in sizes:
            generator = torch.Generator().manual_seed(n)
            shape = (-(-size // 2**log_depth), 3, 2**log_depth)
            signs = 2 * torch.randint(0, 2, shape, generator=generator).to(dtype) - 1
            for x, wanted, transpose in ((draw(n, d, dtype), size, False), (draw(size, n, dtype), d, True)):
                got = ops.mmd_hadamard(x, signs, wanted, transpose)
                want = _reference_hadamard.hadamard(x.double(), signs.double(), wanted, transpose)
                assert_close(got, want, 10)


def check_split(ops: Any) -> None:
    """The bits of torch's own conversions, aligned and not, up to the end and beyond it."""
    for rows, columns, first, count in ((9, 520, 4, 8), (70, 33, 3, 64), (5, 7, 0, 5), (1, 1, 0, 3)):
        x = draw(rows, columns, F32) * 10.0 ** draw(rows, columns, F32, "ties", seed=1)
        x[0, 0], x[-1, -1] = torch.inf, torch.nan
        for arguments in ((x, None, first, count, False, True), (x, x[:1].contiguous(), first, count, False, False),
                          (x.t().contiguous(), None, first, count, True, False)):  # fmt: skip
            got, want = ops.mmd_split(*arguments), _reference_split.split(*arguments)
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


KERNELS = ((0, 0.5), (0, 1.5), (6, 0.0), (7, 2.0))  # powers, logarithm, thin plate
SOE_SIZES = ((1, 1), (40, 25), (5, 300))  # within a chunk, one beyond, several


def check_soe(ops: Any, sizes: Any = SOE_SIZES, dtypes: Any = (F32, F64)) -> None:
    """What the C++ loops give, which take the same nodes in another order."""
    for n, m in sizes:
        for dtype in dtypes:
            x, y = draw(2, n, dtype, "ties"), draw(2, m, dtype, "ties", seed=1)
            check_soe_of(ops, x, y, None, None)
            check_soe_of(ops, x, y, weights(n), weights(m))


def check_soe_of(ops: Any, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None) -> None:
    for kernel, r in KERNELS:
        for unbiased in (False, True) if a is None and min(x.shape[1], y.shape[1]) > 1 else (False,):
            for outputs in (2, EVERYTHING):
                arguments = (x, y, a, b, kernel, r, 0.3, 1.5, unbiased, outputs)
                for got, want in zip(ops.mmd_soe(*arguments), cpu_ops().mmd_soe(*arguments), strict=True):
                    assert_close(got, want, 10 if got.dtype == F32 else 1e6)


def check_soe_edges(ops: Any) -> None:
    for dtype in (F32, F64):
        x = draw(2, 90, dtype, "ties")
        same = x[:, torch.randperm(90, generator=torch.Generator().manual_seed(0))].contiguous()
        flat = draw(2, 50, dtype, "constant")
        for left, right in ((x, same), (flat, flat)):
            for kernel, r in KERNELS:
                for output in ops.mmd_soe(left, right, None, None, kernel, r, 0.3, 1.5, False, 3):
                    assert not output.any()
        x[1, 5] = torch.inf
        check_soe_of(ops, x, flat, None, None)


def check_subset(ops: Any) -> None:
    """Small sizes, every branch: what runs under the sanitizers."""
    check_rank(ops, 70, 300, F32)
    check_hard(ops, ((30, 40),))
    check_swept(ops, ((40, 70),))
    check_rank(ops, 4096, 3, F32, outputs=EVERYTHING)
    check_weighted_of_few(ops)
    check_sorted_of_few(ops)
    check_permutation_of_few(ops)
    check_hadamard(ops, HADAMARD[:5])
    check_hadamard(ops, ((1, 40000, 16, 3),), (F64,))
    check_wasserstein_of_few(ops)
    check_soe_of_few(ops)
    check_split(ops)


def check_weighted_of_few(ops: Any) -> None:
    x, y, pair = draw(2, 9, F32, "ties"), draw(2, 20, F32, "ties", seed=1), (weights(9), weights(20))
    want = _reference_rank.rank(x.double(), y.double(), *pair, False, EVERYTHING)
    for got, truth in zip(ops.mmd_rank(x, y, *pair, False, EVERYTHING), want, strict=True):
        assert_close(got, truth, 2000)


def check_sorted_of_few(ops: Any) -> None:
    for shares in (None, weights(40)):
        y = draw(2, 40, F32, "ties")
        for got, want in zip(ops.mmd_sort(y, shares), _reference_rank.sort(y, shares), strict=True):
            assert_close(got, want)


def check_soe_of_few(ops: Any) -> None:
    x, y = draw(2, 40, F64, "ties"), draw(2, 30, F64, "ties", seed=1)
    arguments = (x, y, None, None, 0, 1.5, 0.0, 1.0, True, EVERYTHING)
    for got, want in zip(ops.mmd_soe(*arguments), cpu_ops().mmd_soe(*arguments), strict=True):
        assert_close(got, want, 1e6)


def check_permutation_of_few(ops: Any) -> None:
    z, labels = draw(2, 70, F32), (torch.arange(35 * 70).view(35, 70) % 3 == 0).to(torch.uint8)
    assert_close(ops.mmd_permutation(z, labels), _reference_rank.permutation(z, labels))


def check_wasserstein_of_few(ops: Any) -> None:
    x, y = draw(2, 12, F64), draw(2, 300, F64, seed=1)
    want = _reference_rank.wasserstein(x, y, 1.5, POINTS)
    for got, truth in zip(ops.mmd_wasserstein(x, y, 1.5, POINTS), want, strict=True):
        assert_close(got, truth)


if __name__ == "__main__":
    from .twin import ORDERS, Twin

    torch.set_num_threads(1)
    twin = Twin(sys.argv[1])
    for order in ORDERS[: 1 if sys.argv[1] == "tsan" else 2]:
        twin.configure(order)
        check_subset(twin.ops)
    print("all checks passed")
