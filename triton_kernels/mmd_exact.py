"""Exact kernel sums in Triton (csrc/mmd/radial.h): a program a block of rows, walking over tiles of pairs.

Differences of coordinates are taken pair by pair, so nothing cancels where the clouds lie far from the origin, and squared
distances are summed in parts. What a pair gives is added up in float64, a tile's gradients in the type of the points. Each
side has a walk of its own: programs own what they write, so results are deterministic. Float32 points whose squares leave
the range of float32 are computed in float64: both ways are launched, and a number on the device says which of them works.
"""

from __future__ import annotations

import os
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from .mmd_radial import (
    FORMS,
    MATERN_TABLE,
    POLYNOMIAL,
    TABLE_SHAPE,
    form_of,
    has_table,
    is_kernel,
    product_tile,
    radial_tile,
)

GRAD_X, GRAD_Y, SUM, POTENTIAL_X, POTENTIAL_Y = 1, 2, 4, 8, 16

DEPTH = tl.constexpr(128)  # coordinates that are summed before their sum is added to others
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BLOCK_ROWS, BLOCK_COLS = (256, 256) if INTERPRETED else (32, 64)  # the interpreter counts operations, not elements
MOST_COORDINATES = 4  # of the gradients at a time; on an H200 1 takes twice as long, 8 is slower in float64
WANTED_PROGRAMS, MOST_GROUPS = 1024, 8  # groups of columns, whose sums are added afterwards, cost memory


@triton.jit
def _pair_tile(xt, yt, rows, cols, row_inside, col_inside, n, m, d, FORM: tl.constexpr, real: tl.constexpr):
    """Squared distances of a tile, or inner products; 0 outside the matrix."""
    tile = tl.zeros([rows.shape[0], cols.shape[0]], real)
    x_k, y_k = xt + rows, yt + cols
    for start in range(0, d, DEPTH):
        part = tl.zeros([rows.shape[0], cols.shape[0]], real)
        for _ in range(tl.minimum(d - start, DEPTH)):
            x = tl.load(x_k, mask=row_inside, other=0.0).to(real)
            y = tl.load(y_k, mask=col_inside, other=0.0).to(real)
            if FORM == POLYNOMIAL:
                part += x[:, None] * y[None, :]
            else:
                difference = x[:, None] - y[None, :]
                part += difference * difference
            x_k += n
            y_k += m
        tile += part
    return tl.where(row_inside[:, None] & col_inside[None, :], tile, 0.0)


@triton.jit
def exact_rows_kernel(
    xt, yt, v, table, extreme, potential, gradient, n, m, d, group_cols, degree,
    first: tl.float64, second: tl.float64, third: tl.float64,
    FORM: tl.constexpr, DOUBLE: tl.constexpr, DIAGONAL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr, COORDINATES: tl.constexpr,
):  # fmt: skip
    """Sums over one group of columns: of v K, and of v times the gradient in the rows' points, a coordinate a line."""
    real: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    group = tl.program_id(1).to(tl.int64)
    row_inside, count = rows < n, group_cols
    if extreme is not None:
        if DOUBLE:
            chosen = tl.load(extreme) != 0
        else:
            chosen = tl.load(extreme) == 0
        row_inside, count = row_inside & chosen, tl.where(chosen, group_cols, 0)
    # A float argument is a plain number in the interpreter, which a cast would send through float32.
    c1 = tl.full([1, 1], first, tl.float64).to(real)
    c2 = tl.full([1, 1], second, tl.float64).to(real)
    c3 = tl.full([1, 1], third, tl.float64).to(real)
    total = tl.zeros([BLOCK_ROWS], tl.float64)
    for start in range(0, count, BLOCK_COLS):
        cols = group * group_cols + start + tl.arange(0, BLOCK_COLS)
        col_inside = cols < m
        s = _pair_tile(xt, yt, rows, cols, row_inside, col_inside, n, m, d, FORM, real)
        if FORM == POLYNOMIAL:
            value, slope = product_tile(s, c1, c3, degree)
        else:
            value, slope = radial_tile(s, table, c1, c2, c3, FORM)
        keep = row_inside[:, None] & col_inside[None, :]
        if not DIAGONAL:
            keep = keep & (rows[:, None] != cols[None, :])
        if v is None:
            total += tl.sum(tl.where(keep, value.to(tl.float64), 0.0), 1)
        else:
            weight = tl.load(v + cols, mask=col_inside, other=0.0)[None, :]
            # A weight of 0 silences an infinite kernel too.
            weighed = keep & (weight != 0.0)
            total += tl.sum(tl.where(weighed, value, 0.0).to(tl.float64) * weight, 1)
            slope = slope * weight.to(real)
        if gradient is not None:
            slope = tl.where(keep, slope, 0.0)
            for k in range(0, d, COORDINATES):
                ks = (k + tl.arange(0, COORDINATES)).to(tl.int64)
                inside = row_inside[:, None] & (ks < d)[None, :]
                y_inside = col_inside[:, None] & (ks < d)[None, :]
                along = tl.load(yt + ks[None, :] * m + cols[:, None], mask=y_inside, other=0.0).to(real)[None, :, :]
                if FORM != POLYNOMIAL:
                    x = tl.load(xt + ks[None, :] * n + rows[:, None], mask=inside, other=0.0).to(real)
                    along = x[:, None, :] - along
                pull = tl.sum(slope[:, :, None] * along, 1).to(tl.float64)
                out = gradient + (group * d + ks)[None, :] * n + rows[:, None]
                tl.store(out, tl.load(out, mask=inside, other=0.0) + pull, mask=inside)
    tl.store(potential + group * n + rows, total, mask=row_inside)


def _check(op: str, condition: bool, what: str) -> None:
    if not condition:
        raise RuntimeError(f"{op}: {what}")


def _check_arguments(op, x, y, u, v, kernel, shape, table) -> None:
    _check(op, x.dtype in (torch.float32, torch.float64), "`x` is neither float32 nor float64")
    _check(op, x.dim() == 2 and x.numel() > 0 and x.is_contiguous(), "`x` is not a contiguous matrix")
    _check(op, y is None or (y.dim() == 2 and y.shape[0] > 0), "`y` is not a matrix")
    _check(op, y is not None or v is None, "`y_weights` without `y`")
    _check(op, is_kernel(kernel), "`kernel` is none of the codes")
    of_table = has_table(kernel, shape)
    _check(op, (table is not None) == of_table, "`table` is for the Matern kernel of general order, and only for it")
    n, d = x.shape
    m = n if y is None else y.shape[0]
    for name, tensor, dtype, size in (
        ("y", y, x.dtype, (m, d)),
        ("x_weights", u, torch.float64, (n,)),
        ("y_weights", v, torch.float64, (m,)),
        ("table", table, torch.float64, TABLE_SHAPE),
    ):
        if tensor is not None:
            _check(op, tensor.dtype == dtype and tensor.shape == size, f"`{name}` has the wrong dtype or shape")
            _check(op, tensor.is_contiguous(), f"`{name}` is not contiguous")
            _check(op, tensor.device == x.device, f"`{name}` is on another device than `x`")
    _check(op, x.is_cuda or INTERPRETED, "Triton runs CPU tensors only under TRITON_INTERPRET=1")


def _relative(weights: Tensor | None, count: int) -> tuple[Tensor | None, Tensor | float]:
    """Weights in units of the heaviest, and that unit; uniform ones are None."""
    if weights is None:
        return None, 1.0 / count
    weights = weights.nan_to_num(0.0, 0.0, 0.0)
    unit = weights.abs().max()
    unit = torch.where(unit == 0, 1.0, unit)
    return weights / unit, unit


def _extreme(clouds: list[Tensor]) -> Tensor | None:
    """Whether squares of float32 points leave the range of float32: a number on their device."""
    if clouds[0].dtype == torch.float64:
        return None
    most = torch.stack([cloud.abs().max() for cloud in clouds]).max()
    return ((most > 1e17) | ((most > 0) & (most < 1e-15))).to(torch.int32)


def _rows(xt: Tensor, yt: Tensor, v: Tensor | None, table: Tensor | None, extreme: Tensor | None, form: tuple,
          diagonal: bool, with_gradient: bool) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Sums of v K (n,) and of v times its gradients (d, n), float64; points are columns of ``xt`` and ``yt``."""
    (d, n), m = xt.shape, yt.shape[1]
    tiles = triton.cdiv(n, BLOCK_ROWS)
    groups = max(1, min(WANTED_PROGRAMS // tiles, MOST_GROUPS, triton.cdiv(m, BLOCK_COLS)))
    group_cols = triton.cdiv(triton.cdiv(m, groups), BLOCK_COLS) * BLOCK_COLS
    groups = triton.cdiv(m, group_cols)
    potential = torch.empty(groups, n, dtype=torch.float64, device=xt.device)
    gradient = potential.new_zeros(groups, d, n) if with_gradient else None
    code, degree, numbers = form
    options = {"FORM": code.value, "DIAGONAL": diagonal, "BLOCK_ROWS": BLOCK_ROWS, "BLOCK_COLS": BLOCK_COLS}
    options["COORDINATES"] = min(MOST_COORDINATES, triton.next_power_of_2(d))
    for double in (True,) if extreme is None else (False, True):
        exact_rows_kernel[(tiles, groups)](
            xt,
            yt,
            v,
            table,
            extreme,
            potential,
            gradient,
            n,
            m,
            d,
            group_cols,
            degree,
            *numbers,
            DOUBLE=double,
            **options,
        )
    return potential.sum(0), None if gradient is None else gradient.sum(0)


def _sums(op, x, y, u, v, kernel, scale, shape, table, diagonal, outputs) -> tuple[Tensor, ...]:
    """The five outputs; those that are not wanted have no elements."""
    _check_arguments(op, x, y, u, v, kernel, shape, table)
    clouds = [x] if y is None else [x, y]
    n, m = x.shape[0], clouds[-1].shape[0]
    poison = sum((part * 0).sum(dtype=torch.float64) for part in (*clouds, u, v) if part is not None)
    # One number that is not finite spoils everything in the end; until then it is none.
    xt, *rest = (cloud.nan_to_num(0.0, 0.0, 0.0).t().contiguous() for cloud in clouds)
    yt = rest[0] if rest else xt
    u, unit_u = _relative(u, n)
    v, unit_v = (u, unit_u) if y is None else _relative(v, m)
    both, form, extreme = unit_u * unit_v, form_of(kernel, scale, shape, x.shape[1]), _extreme([xt, *rest])
    grad_x, grad_y = x.new_empty(0), x.new_empty(0)
    total, potential_x, potential_y = (x.new_empty(0, dtype=torch.float64) for _ in range(3))
    if outputs & (GRAD_X | SUM | POTENTIAL_X):
        found, slopes = _rows(xt, yt, v, table, extreme, form, diagonal or y is not None, bool(outputs & GRAD_X))
        if slopes is not None:
            grad_x = _gradient(slopes, u, (2 if y is None else 1) * both, poison, x.dtype)
        if outputs & SUM:
            weighed = found if u is None else (u * found).masked_fill(u == 0, 0.0)
            total = (both * weighed.sum() + poison).reshape(1)
        if outputs & POTENTIAL_X:
            potential_x = unit_v * found + poison
    if y is not None and outputs & (GRAD_Y | POTENTIAL_Y):
        found, slopes = _rows(yt, xt, u, table, extreme, form, True, bool(outputs & GRAD_Y))
        if slopes is not None:
            grad_y = _gradient(slopes, v, both, poison, x.dtype)
        if outputs & POTENTIAL_Y:
            potential_y = unit_u * found + poison
    return grad_x, grad_y, total, potential_x, potential_y


def _gradient(
    slopes: Tensor, weights: Tensor | None, factor: Tensor | float, poison: Tensor, dtype: torch.dtype
) -> Tensor:
    weighed = slopes if weights is None else slopes * weights
    return (weighed * factor + poison).t().to(dtype).contiguous()


def _bwd(x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs):
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        return _sums("mmd_exact_bwd", x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs)


def _fwd(x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs):
    wanted = outputs & (SUM | POTENTIAL_X | POTENTIAL_Y)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        return _sums("mmd_exact_fwd", x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, wanted)[2:]


def _fwd_fake(x, y, x_weights, y_weights, kernel, scale, shape, table, diagonal, outputs):
    m = 0 if y is None else y.shape[0]
    sizes = ((SUM, 1), (POTENTIAL_X, x.shape[0]), (POTENTIAL_Y, m))
    return tuple(x.new_empty(size if outputs & bit else 0, dtype=torch.float64) for bit, size in sizes)


def _bwd_fake(x, y, *rest):
    grad_x = torch.empty_like(x) if rest[-1] & GRAD_X else x.new_empty(0)
    grad_y = torch.empty_like(y) if y is not None and rest[-1] & GRAD_Y else x.new_empty(0)
    return grad_x, grad_y, *_fwd_fake(x, y, *rest)


_ARGUMENTS = "Tensor x, Tensor? y, Tensor? x_weights, Tensor? y_weights, int kernel, float scale, float shape, "
_ARGUMENTS += "Tensor? table, bool diagonal, int outputs"
_SUMS = "Tensor sum, Tensor potential_x, Tensor potential_y"
for _name, _returns, _function, _fake in (
    ("mmd_exact_fwd", _SUMS, _fwd, _fwd_fake),
    ("mmd_exact_bwd", f"Tensor grad_x, Tensor grad_y, {_SUMS}", _bwd, _bwd_fake),
):
    torch.library.define(f"fastcore_triton::{_name}", f"({_ARGUMENTS}) -> ({_returns})")
    torch.library.impl(f"fastcore_triton::{_name}", ("cpu", "cuda"), _function)
    torch.library.register_fake(f"fastcore_triton::{_name}", _fake)


def _compile_gate() -> list[tuple[triton.JITFunction, dict[str, str], dict[str, object]]]:
    """What is compiled for a GPU on machines without one: every form in both types, and every argument absent once."""
    sizes = {"n": "i64", "m": "i64", "d": "i32", "group_cols": "i32", "degree": "i32"}
    numbers = dict.fromkeys(("first", "second", "third"), "fp64")
    gate = []

    def add(form, points, double, absent, coordinates=MOST_COORDINATES):
        types = {"xt": f"*{points}", "yt": f"*{points}", "v": "*fp64", "table": "*fp64", "extreme": "*i32"}
        types |= {"potential": "*fp64", "gradient": "*fp64"} | sizes | numbers
        constants = {"FORM": form, "DOUBLE": double, "DIAGONAL": "v" in absent}
        constants |= {"BLOCK_ROWS": BLOCK_ROWS, "BLOCK_COLS": BLOCK_COLS, "COORDINATES": coordinates}
        constants |= dict.fromkeys(absent)
        gate.append((exact_rows_kernel, {k: t for k, t in types.items() if k not in absent}, constants))

    for form in range(FORMS):
        no_table = () if form == MATERN_TABLE.value else ("table",)
        add(form, "fp32", False, no_table)
        add(form, "fp64", True, ("extreme", *no_table))
    add(0, "fp32", True, ("table", "v"), 1)
    add(0, "fp32", False, ("table", "v", "gradient"))
    return gate


COMPILE_GATE = _compile_gate() if not INTERPRETED else []
