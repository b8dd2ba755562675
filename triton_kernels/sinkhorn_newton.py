"""ot_row_pass in Triton: row log-sum-exps and column sums of the plan, from a cost matrix or from points.

Two passes over the n x m entries, as tiles: an online softmax along each row, then the column sums of the
entries that are now normalised, by groups of rows that are added in order. The cuts depend on n and m alone,
so results are deterministic. float32 keeps what the difference g - C loses (g = hi + lo, TwoSum) and adds it
after the largest score has been subtracted; sums are float64.
"""

from __future__ import annotations

import os
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

MATRIX, SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK = (tl.constexpr(k) for k in range(4))

BLOCK_ROWS, BLOCK_COLS = 16, 128
ADD_BLOCK = 256
WANTED_PROGRAMS = 2048  # enough for any GPU, and few enough partial sums
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def _cost_tile(cost, y, row_shift, col_shift, rows, cols, n, m, d, METRIC: tl.constexpr):
    """Costs of a tile; +inf outside the matrix."""
    row_inside, col_inside = rows < n, cols < m
    inside = row_inside[:, None] & col_inside[None, :]
    if METRIC == MATRIX:
        tile = tl.load(cost + rows[:, None] * m + cols[None, :], mask=inside, other=float("inf"))
        if row_shift is not None:
            tile -= tl.load(row_shift + rows, mask=row_inside, other=0.0)[:, None]
        if col_shift is not None:
            tile -= tl.load(col_shift + cols, mask=col_inside, other=0.0)[None, :]
    else:
        tile = tl.zeros([rows.shape[0], cols.shape[0]], cost.dtype.element_ty)
        x_k, y_k = cost + rows * d, y + cols
        for _ in range(d):
            x = tl.load(x_k, mask=row_inside, other=0.0)
            difference = x[:, None] - tl.load(y_k, mask=col_inside, other=0.0)[None, :]
            if METRIC == CITYBLOCK:
                tile += tl.abs(difference)
            else:
                tile += difference * difference
            x_k += 1
            y_k += m
        if METRIC == EUCLIDEAN:
            tile = tl.sqrt(tile) if tile.dtype == tl.float64 else tl.sqrt_rn(tile)
        tile = tl.where(inside, tile, float("inf"))
    return tile


@triton.jit
def _score_tile(cost, g):
    """g - C as a rounded sum, and what the rounding lost (nothing is kept in float64)."""
    hi = g.to(cost.dtype)[None, :]
    score = hi - cost
    lost = tl.zeros_like(score)
    if cost.dtype == tl.float32:
        lo = (g - g.to(tl.float32).to(tl.float64)).to(tl.float32)
        forbidden = score == float("-inf")
        finite = tl.where(forbidden, 0.0, score)
        from_cost = finite - hi
        lost = (hi - (finite - from_cost)) - (cost + from_cost) + lo[None, :]
        lost = tl.where(forbidden, 0.0, lost)
    return score, lost


@triton.jit
def row_lse_kernel(
    cost, y, row_shift, col_shift, g, a, row_lse, row_max, weight, n, m, d, reg: tl.float64,
    METRIC: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """Row log-sum-exps; and for the column sums the reference and weight = a / sum of each row."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    # A float argument is a plain number in the interpreter, which a cast would send through float32.
    inverse_reg = (1.0 / tl.full([1], reg, tl.float64)).to(cost.dtype.element_ty)
    best = tl.full([BLOCK_ROWS], float("-inf"), cost.dtype.element_ty)
    total = tl.zeros([BLOCK_ROWS], tl.float64)
    for start in range(0, m, BLOCK_COLS):
        cols = start + tl.arange(0, BLOCK_COLS)
        tile = _cost_tile(cost, y, row_shift, col_shift, rows, cols, n, m, d, METRIC)
        score, lost = _score_tile(tile, tl.load(g + cols, mask=cols < m, other=0.0))
        larger = tl.maximum(best, tl.max(score, 1))
        # Nothing but forbidden entries so far: any finite reference gives zeros instead of inf - inf.
        reference = tl.where(larger == float("-inf"), 0.0, larger)
        total *= tl.exp((best.to(tl.float64) - reference.to(tl.float64)) / reg)
        p = tl.exp((score - reference[:, None] + lost) * inverse_reg)
        total += tl.sum(p.to(tl.float64), 1)
        best = larger
    reference = tl.where(best == float("-inf"), 0.0, best)
    empty = total == 0.0
    positive = tl.where(empty, 1.0, total)
    lse = tl.where(empty, float("-inf"), reference.to(tl.float64) / reg + tl.log(positive))
    inside = rows < n
    mass = tl.load(a + rows, mask=inside, other=0.0)
    tl.store(row_lse + rows, lse, mask=inside)
    tl.store(row_max + rows, reference, mask=inside)
    tl.store(weight + rows, tl.where(empty, 0.0, mass / positive), mask=inside)


@triton.jit
def column_partials_kernel(
    cost, y, row_shift, col_shift, g, row_max, weight, partial, n, m, d, group_rows, reg: tl.float64,
    METRIC: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """Column sums of the plan over one group of rows."""
    cols = tl.program_id(0).to(tl.int64) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    group = tl.program_id(1).to(tl.int64)
    inverse_reg = (1.0 / tl.full([1], reg, tl.float64)).to(cost.dtype.element_ty)  # see row_lse
    potential = tl.load(g + cols, mask=cols < m, other=0.0)
    total = tl.zeros([BLOCK_COLS], tl.float64)
    for start in range(0, group_rows, BLOCK_ROWS):
        rows = group * group_rows + start + tl.arange(0, BLOCK_ROWS)
        tile = _cost_tile(cost, y, row_shift, col_shift, rows, cols, n, m, d, METRIC)
        score, lost = _score_tile(tile, potential)
        reference = tl.load(row_max + rows, mask=rows < n, other=0.0)
        p = tl.exp((score - reference[:, None] + lost) * inverse_reg)
        total += tl.sum(p.to(tl.float64) * tl.load(weight + rows, mask=rows < n, other=0.0)[:, None], 0)
    tl.store(partial + group * m + cols, total, mask=cols < m)


@triton.jit
def add_partials_kernel(partial, col_sum, groups, m, BLOCK: tl.constexpr):
    """Sums over the groups, in order."""
    cols = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    addresses = partial + cols
    for _ in range(groups):
        total += tl.load(addresses, mask=cols < m, other=0.0)
        addresses += m
    tl.store(col_sum + cols, total, mask=cols < m)


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise RuntimeError(f"ot_row_pass: {what}")


def _check_arguments(cost, y, metric, row_shift, col_shift, g, a) -> None:
    _check(cost.dtype in (torch.float32, torch.float64), "expected float32 or float64")
    _check((cost.dim(), g.dim(), a.dim()) == (2, 1, 1), "`cost` must have 2 dimensions, `g` and `a` 1")
    _check(metric in range(4) and (metric == 0) == (y is None), "`metric` and `y` do not go together")
    n, m = a.shape[0], g.shape[0]
    width = m if y is None else y.shape[0]
    _check(min(n, m, width) > 0, "empty input")
    for name, tensor, dtype, shape in (
        ("cost", cost, cost.dtype, (n, width)),
        ("y", y, cost.dtype, (width, m)),
        ("row_shift", row_shift, cost.dtype, (n,)),
        ("col_shift", col_shift, cost.dtype, (m,)),
        ("g", g, torch.float64, (m,)),
        ("a", a, torch.float64, (n,)),
    ):
        if tensor is not None:
            _check(tensor.dtype == dtype and tensor.shape == shape, f"`{name}` has the wrong dtype or shape")
            _check(tensor.is_contiguous(), f"`{name}` is not contiguous")
            _check(tensor.device == cost.device, f"`{name}` is on another device than `cost`")
    _check(cost.is_cuda or INTERPRETED, "Triton runs CPU tensors only under TRITON_INTERPRET=1")


def _row_pass(
    cost: Tensor, y: Tensor | None, metric: int, row_shift: Tensor | None, col_shift: Tensor | None,
    g: Tensor, a: Tensor, reg: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    _check_arguments(cost, y, metric, row_shift, col_shift, g, a)
    n, m, d = a.shape[0], g.shape[0], cost.shape[1]
    column_tiles = triton.cdiv(m, BLOCK_COLS)
    wanted_groups = max(1, WANTED_PROGRAMS // column_tiles)
    group_rows = triton.cdiv(triton.cdiv(n, wanted_groups), BLOCK_ROWS) * BLOCK_ROWS
    groups = triton.cdiv(n, group_rows)
    row_lse, weight, col_sum = torch.empty_like(a), torch.empty_like(a), torch.empty_like(g)
    row_max, partial = cost.new_empty(n), g.new_empty(groups, m)
    shared = {"METRIC": metric, "BLOCK_ROWS": BLOCK_ROWS, "BLOCK_COLS": BLOCK_COLS}
    shared["enable_fp_fusion"] = False  # costs of points with the bits of the other backends
    with torch.cuda.device(cost.device) if cost.is_cuda else nullcontext():
        row_lse_kernel[(triton.cdiv(n, BLOCK_ROWS),)](
            cost, y, row_shift, col_shift, g, a, row_lse, row_max, weight, n, m, d, reg, **shared
        )
        column_partials_kernel[(column_tiles, groups)](
            cost, y, row_shift, col_shift, g, row_max, weight, partial, n, m, d, group_rows, reg, **shared
        )
        add_partials_kernel[(triton.cdiv(m, ADD_BLOCK),)](partial, col_sum, groups, m, BLOCK=ADD_BLOCK)
    return row_lse, col_sum


def _row_pass_fake(cost, y, metric, row_shift, col_shift, g, a, reg):
    return torch.empty_like(a), torch.empty_like(g)


_OP = "fastcore_triton::ot_row_pass"
_COST = "Tensor cost, Tensor? y, int metric, Tensor? row_shift, Tensor? col_shift"
torch.library.define(_OP, f"({_COST}, Tensor g, Tensor a, float reg) -> (Tensor row_lse, Tensor col_sum)")
torch.library.impl(_OP, ("cpu", "cuda"), _row_pass)
torch.library.register_fake(_OP, _row_pass_fake)


def _compile_gate() -> list[tuple[triton.JITFunction, dict[str, str], dict[str, object]]]:
    """What is compiled for a GPU on machines without one: (kernel, types of arguments, constants)."""
    vectors = {"g": "*fp64", "a": "*fp64", "row_lse": "*fp64", "weight": "*fp64", "partial": "*fp64"}
    sizes = {"n": "i64", "m": "i32", "d": "i32", "group_rows": "i64", "reg": "fp64"}
    gate = []
    for real in ("fp32", "fp64"):
        for metric in range(4):
            types = vectors | sizes | {"cost": f"*{real}", "row_max": f"*{real}"}
            constants = {"METRIC": metric, "BLOCK_ROWS": BLOCK_ROWS, "BLOCK_COLS": BLOCK_COLS}
            given = ("row_shift", "col_shift") if metric == 0 else ("y",)
            types |= dict.fromkeys(given, f"*{real}")
            constants |= {name: None for name in ("y", "row_shift", "col_shift") if name not in given}
            gate += [
                (kernel, {k: t for k, t in types.items() if k in kernel.arg_names}, constants)
                for kernel in (row_lse_kernel, column_partials_kernel)
            ]
    add_types = {"partial": "*fp64", "col_sum": "*fp64", "groups": "i32", "m": "i32"}
    return [*gate, (add_partials_kernel, add_types, {"BLOCK": ADD_BLOCK})]


COMPILE_GATE = _compile_gate() if not INTERPRETED else []
