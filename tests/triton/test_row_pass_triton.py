"""ot_row_pass in Triton, in the interpreter: TRITON_INTERPRET=1 in a process of its own."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

from ..cuda_on_cpu import row_pass_checks as checks

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
]


@pytest.fixture(scope="module")
def op():
    pytest.importorskip("triton")
    importlib.import_module("fastcore_ops.triton_kernels.sinkhorn_newton")
    return torch.ops.fastcore_triton.ot_row_pass


# A tile is 16 rows by 128 columns, a group of rows at least one tile high.
@pytest.mark.parametrize("shape", [(1, 1), (17, 3), (3, 130)], ids=str)
def test_row_pass_triton_matches_float64(op, shape):
    checks.check_shapes(op, [shape])


def test_row_pass_triton_several_tiles(op):
    checks.assert_close(op, checks.case(40, 260, dtype=torch.float32, shifts=True))
    checks.assert_close(op, checks.case(40, 260, 2, checks.CITYBLOCK, torch.float64))
    checks.assert_close(op, checks.case(33, 129, 9, checks.SQEUCLIDEAN, torch.float32, reg=1.0))


@pytest.mark.parametrize("name", ["forbidden", "zero_mass", "small_reg", "large_scores", "bad_arguments"])
def test_row_pass_triton_edges(op, name):
    getattr(checks, f"check_{name}")(op)


def test_row_pass_triton_is_deterministic(op):
    arguments = checks.case(40, 200, dtype=torch.float32)
    first, second = op(*arguments), op(*arguments)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("points", [False, True])
def test_row_pass_triton_opcheck(op, points):
    arguments = checks.case(5, 7, 2, checks.EUCLIDEAN) if points else checks.case(5, 7, shifts=True)
    torch.library.opcheck(op.default, arguments)


def test_row_pass_triton_compiles_fullgraph(op):
    arguments = checks.case(5, 7)

    def shifted(*args):
        row_lse, col_sum = op(*args)
        return row_lse + 1, col_sum * 2

    compiled = torch.compile(shifted, backend="aot_eager", fullgraph=True)
    for got, expected in zip(compiled(*arguments), shifted(*arguments), strict=True):
        assert torch.equal(got, expected)
