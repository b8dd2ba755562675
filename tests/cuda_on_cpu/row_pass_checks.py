"""Checks of ot_row_pass on any build of its kernel: against float64 torch, at the edges, and bit for bit.

As a program, under a sanitizer: python -m tests.cuda_on_cpu.row_pass_checks MODE
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable

import torch

Op = Callable[..., tuple[torch.Tensor, torch.Tensor]]
MATRIX, SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK = range(4)


def truth(cost, y, metric, row_shift, col_shift, g, a, reg):
    """The definition, in float64."""
    if metric == MATRIX:
        c = cost.double()
        c = c if row_shift is None else c - row_shift.double()[:, None]
        c = c if col_shift is None else c - col_shift.double()[None, :]
    else:
        d = cost.double()[:, :, None] - y.double()[None]
        c = d.abs().sum(1) if metric == CITYBLOCK else d.square().sum(1)
        c = c.sqrt() if metric == EUCLIDEAN else c
    z = (g - c) / reg
    row_lse = torch.logsumexp(z, 1)
    plan = a[:, None] * torch.exp(z - row_lse[:, None])
    return row_lse, plan.nan_to_num(0.0).sum(0)


def case(n, m, d=0, metric=MATRIX, dtype=torch.float64, shifts=False, seed=0, reg=0.05):
    """Arguments of the op: costs in [0, d] or so, masses that sum to 1."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, dtype=torch.float64):
        return torch.rand(*shape, dtype=torch.float64, generator=generator).to(dtype)

    cost = uniform(n, m if metric == MATRIX else d, dtype=dtype)
    y = None if metric == MATRIX else uniform(d, m, dtype=dtype)
    row_shift, col_shift = (uniform(n, dtype=dtype), uniform(m, dtype=dtype)) if shifts else (None, None)
    a = uniform(n) + 0.1
    return cost, y, metric, row_shift, col_shift, uniform(m) - 0.5, a / a.sum(), reg


def assert_close(op: Op, arguments) -> None:
    cost, reg = arguments[0], arguments[-1]
    row_lse, col_sum = op(*arguments)
    expected_lse, expected_sum = truth(*arguments)
    assert row_lse.dtype == col_sum.dtype == torch.float64
    # A rounding of the exponent, whose size is that of (range of cost + range of g) / reg. Points in float32
    # have costs in float32; a matrix's error is only that of the exponent's own rounding and of exp.
    unit = 2.0**-52 if cost.dtype == torch.float64 else 2.0**-23
    bound = 8 * unit * (1 + 4 / reg)
    torch.testing.assert_close(row_lse, expected_lse, rtol=8 * unit, atol=bound)
    # Entries below exp(-60) or, in float32, exp(-42) of their row's largest are taken as zero.
    smallest = math.exp(-60 if cost.dtype == torch.float64 else -42)
    torch.testing.assert_close(col_sum, expected_sum, rtol=bound, atol=float(arguments[-2].sum()) * smallest)


def check_shapes(op: Op, shapes) -> None:
    for (n, m), dtype in itertools.product(shapes, (torch.float32, torch.float64)):
        for shifts in (False, True):
            assert_close(op, case(n, m, dtype=dtype, shifts=shifts))
        for metric, d in itertools.product((SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK), (1, 3)):
            assert_close(op, case(n, m, d, metric, dtype))


def check_forbidden(op: Op) -> None:
    """+inf costs give exact zeros; a row without a finite cost gives -inf and adds nothing."""
    for dtype in (torch.float32, torch.float64):
        cost, y, metric, row_shift, col_shift, g, a, reg = case(7, 300, dtype=dtype, shifts=True)
        cost[3] = torch.inf
        cost[:, 5] = torch.inf
        cost[1, ::2] = torch.inf
        arguments = (cost, y, metric, row_shift, col_shift, g, a, reg)
        row_lse, col_sum = op(*arguments)
        assert row_lse[3] == -torch.inf
        assert torch.isfinite(row_lse[[0, 1, 2, 4, 5, 6]]).all()
        assert col_sum[5] == 0
        assert torch.isfinite(col_sum).all()
        torch.testing.assert_close(col_sum.sum(), a.sum() - a[3], rtol=1e-6, atol=0)
        assert_close(op, arguments)


def check_zero_mass(op: Op) -> None:
    for dtype in (torch.float32, torch.float64):
        arguments = list(case(6, 40, dtype=dtype))
        arguments[6][2] = 0
        alone = [arguments[0][[0, 1, 3, 4, 5]], *arguments[1:6], arguments[6][[0, 1, 3, 4, 5]], arguments[7]]
        torch.testing.assert_close(op(*arguments)[1], op(*alone)[1], rtol=1e-14, atol=0)
        assert_close(op, arguments)
        arguments[6].zero_()
        assert (op(*arguments)[1] == 0).all()


def check_small_reg(op: Op) -> None:
    """float32 with compensation: far below the error 6e-8 * cost / reg of a plain difference."""
    reg = 1e-4
    cost, *rest, g, a, _ = case(33, 300, dtype=torch.float32)
    arguments = (1 + cost, *rest, 1 + 0.01 * g, a, reg)  # both the difference and g lose digits
    (row_lse, col_sum), (expected_lse, expected_sum) = op(*arguments), truth(*arguments)
    plain = 6e-8 / reg  # 6e-4
    assert ((row_lse - expected_lse).abs() < plain / 50).all()
    assert (col_sum - expected_sum).abs().sum() < plain / 50


def check_large_scores(op: Op) -> None:
    """No overflow, whatever the offset."""
    for dtype, offset in ((torch.float64, 1e6), (torch.float32, 1e3)):
        cost, *rest, g, a, _ = case(5, 70, dtype=dtype)
        for sign in (-1, 1):
            row_lse, col_sum = op(cost, *rest, g + sign * offset, a, 1e-2)
            assert torch.isfinite(row_lse).all()
            torch.testing.assert_close(col_sum.sum(), a.sum(), rtol=1e-6, atol=0)


def check_bad_arguments(op: Op) -> None:
    good = case(3, 4)
    bad = {
        "g of another length": (5, good[5][:3].contiguous()),
        "a of another dtype": (6, good[6].float()),
        "cost not contiguous": (0, good[0].t().contiguous().t()),
        "y without a metric": (1, good[0]),
        "unknown metric": (2, 4),
        "shift of another dtype": (3, good[6].float()),
        "half cost": (0, good[0].half()),
        "one-dimensional cost": (0, good[6]),
    }
    for what, (position, value) in bad.items():
        arguments = list(good)
        arguments[position] = value
        message = None
        try:
            op(*arguments)
        except RuntimeError as error:
            message = str(error)
        assert message is not None, f"accepted: {what}"
        assert "ot_row_pass" in message, what


# Every width of the fused kernel, full and with a tail that vectors of 16 bytes fit or do not; then rows too long for it,
# in one range of columns and in two.
WIDTHS = (250, 256, 700, 1023, 1024, 1028, 2047, 2048, 3001, 4096, 4100, 8191, 8192, 8196, 12001, 16384)
LONG_WIDTHS = (16385, 16388, 33002)


def check_widths(op: Op, widths, n: int) -> None:
    for m, dtype, shifts in itertools.product(widths, (torch.float32, torch.float64), (False, True)):
        assert_close(op, case(n, m, dtype=dtype, shifts=shifts))


def check_groups(op: Op, shapes) -> None:
    """Groups of several batches: the ring of costs goes round, and the last batch and the last group are not full."""
    for (n, m), dtype in itertools.product(shapes, (torch.float32, torch.float64)):
        assert_close(op, case(n, m, dtype=dtype, shifts=True))


def check_misaligned(op: Op) -> None:
    """Arguments that start beside a multiple of 16 bytes, though m is one."""

    def moved(tensor):
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)

    for dtype, m in itertools.product((torch.float32, torch.float64), (64, 16400)):
        arguments = case(5, m, dtype=dtype, shifts=True)
        for position in (0, 4, 5):
            some = list(arguments)
            some[position] = moved(some[position])
            assert some[position].data_ptr() % 16
            for got, expected in zip(op(*some), op(*arguments), strict=True):
                assert torch.equal(got, expected)


def check_cutoff(op: Op) -> None:
    """Entries below exp(-60) or, in float32, exp(-42) of their row's largest are exact zeros."""
    for dtype, kept, m in itertools.product((torch.float32, torch.float64), (False, True), (20, 16400)):
        depth = (60 if dtype == torch.float64 else 42) + (-1 if kept else 1)
        cost, *rest, g, a, _ = case(3, m, dtype=dtype)
        cost.zero_()
        cost[:, 7] = depth
        col_sum = op(cost, *rest, torch.zeros_like(g), a, 1.0)[1]
        assert (col_sum[7] > 0) == kept


def check_points(op: Op, shapes) -> None:
    for (n, m), metric, d in itertools.product(shapes, (SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK), (1, 2, 3, 5)):
        for dtype in (torch.float32, torch.float64):
            assert_close(op, case(n, m, d, metric, dtype, reg=0.2))


def check_subset(op: Op) -> None:
    """Small sizes, every branch: what runs under the sanitizers."""
    check_shapes(op, [(1, 1), (3, 5), (20, 40)])
    for arguments in [case(2, 300, dtype=torch.float32, shifts=True), case(2, 300, 2, EUCLIDEAN)]:
        assert_close(op, arguments)
    check_widths(op, (3001, 8193, 16385), 2)
    check_misaligned(op)
    check_forbidden(op)
    check_zero_mass(op)


if __name__ == "__main__":
    from .twin import ORDERS, Twin

    torch.set_num_threads(1)
    twin = Twin(sys.argv[1])
    for order in ORDERS[: 1 if sys.argv[1] == "tsan" else 2]:
        twin.configure(order)
        check_subset(twin.ops.ot_row_pass)
    print("all checks passed")
