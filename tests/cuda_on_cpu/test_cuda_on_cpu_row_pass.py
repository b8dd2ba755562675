"""The CUDA kernels of ot_row_pass, run on the CPU."""

from __future__ import annotations

import pytest
import torch

from . import row_pass_checks as checks
from . import twin

pytestmark = pytest.mark.cuda_on_cpu
EDGES = ["forbidden", "zero_mass", "small_reg", "large_scores", "cutoff", "misaligned", "bad_arguments"]


@pytest.fixture(scope="module")
def plain():
    return twin.Twin("plain")


@pytest.fixture(params=twin.ORDERS)
def op(plain, request):
    plain.configure(request.param)
    yield plain.ops.ot_row_pass
    plain.configure()


def test_row_pass_matches_float64(op):
    # a warp a row up to 256 columns, a block beyond
    checks.check_shapes(op, [(1, 1), (1, 257), (40, 1), (17, 256), (70, 300)])


def test_row_pass_widths(op):
    checks.check_widths(op, checks.WIDTHS + checks.LONG_WIDTHS, 5)


def test_row_pass_groups(plain):
    # at least 3 batches for each of 264 groups, or 2112 of them where a row is a warp's
    plain.configure("random")
    checks.check_groups(
        plain.ops.ot_row_pass, [(8 * 2112 + 5, 3), (6 * 528 + 3, 300), (6 * 264 + 1, 1030), (795, 2050)]
    )
    plain.configure()


def test_row_pass_groups_of_long_rows(plain):
    checks.check_groups(plain.ops.ot_row_pass, [(2 * 264 + 3, 4100), (3 * 264 + 1, 8196), (130, 16400)])


def test_row_pass_points(op):
    checks.check_points(op, [(3, 130), (140, 20), (600, 1100)])


def test_row_pass_high_dimension(op):
    checks.assert_close(op, checks.case(5, 33, d=40, metric=checks.SQEUCLIDEAN, reg=1.0))


@pytest.mark.parametrize("name", EDGES)
def test_row_pass_edges(op, name):
    getattr(checks, f"check_{name}")(op)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_pass_is_deterministic(plain, dtype):
    for arguments in (
        checks.case(50, 600, dtype=dtype),
        checks.case(600, 1030, dtype=dtype),
        checks.case(9, 16400, dtype=dtype),
        checks.case(50, 200, 3, checks.EUCLIDEAN, dtype),
    ):
        results = []
        for order, seed in (("forward", 1), ("reverse", 1), ("random", 1), ("random", 2)):
            plain.configure(order, seed)
            results.append(plain.ops.ot_row_pass(*arguments))
        plain.configure()
        for row_lse, col_sum in results[1:]:
            assert torch.equal(row_lse, results[0][0])
            assert torch.equal(col_sum, results[0][1])


def test_row_pass_indices_beyond_32_bits(plain, monkeypatch):
    """n * m > 2^31: only the first and last blocks run, and most of the cost is pages never touched."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    n, m = 40 << 20, 64
    cost = torch.empty(n, m, dtype=torch.float32)
    cost[-1] = 1 - torch.arange(m) % 2  # the last row's odd columns have cost 0
    g, a = torch.zeros(m, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    plain.configure(sample_blocks=4)
    row_lse, _ = plain.ops.ot_row_pass(cost, None, 0, None, None, g, a, 1e-2)
    plain.configure()
    torch.testing.assert_close(row_lse[-1], torch.tensor(m / 2, dtype=torch.float64).log())
