"""Readable torch truth of the transport operators; runs wherever no kernel exists.

A cost is ``(cost, y, metric, row_shift, col_shift)``: metric 0 takes the matrix ``cost`` (n, m) and centres its entries
as ``(cost - row_shift_i) - col_shift_j``; metrics 1, 2, 3 (squared Euclidean, Euclidean, city block) take points
``cost`` (n, d) and ``y`` (d, m). Everything is computed in float64, whatever the dtype of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

MATRIX, SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK = range(4)
BLOCK = 8  # columns of a block in a sparse plan
_CHUNK_ENTRIES = 1 << 19


def cost_rows(
    cost: Tensor, y: Tensor | None, metric: int, row_shift: Tensor | None, col_shift: Tensor | None
) -> Tensor:
    """Centred cost of the given rows as a float64 matrix."""
    if metric == MATRIX:
        rows = cost.double()
        rows = rows if row_shift is None else rows - row_shift.double()[:, None]
        return rows if col_shift is None else rows - col_shift.double()
    assert y is not None
    total = torch.zeros(cost.shape[0], y.shape[1], dtype=torch.float64, device=cost.device)
    for x_k, y_k in zip(cost.double().unbind(1), y.double().unbind(0), strict=True):
        difference = x_k[:, None] - y_k
        total += difference.abs() if metric == CITYBLOCK else difference.square()
    return total.sqrt() if metric == EUCLIDEAN else total


def centre(cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row minima, then column minima of what is left, and the largest finite entry of each column of it."""
    row_shift = cost.amin(1)
    col_low, col_top = torch.full_like(cost[0], math.inf), torch.full_like(cost[0], -math.inf)
    for chunk, shift in zip(cost.split(256), row_shift.split(256), strict=True):
        centred = chunk - shift[:, None]
        col_low = torch.minimum(col_low, centred.amin(0))
        col_top = torch.maximum(col_top, centred.masked_fill(centred.isposinf(), -math.inf).amax(0))
    return row_shift, col_low, col_top


def plan_rows(
    cost: Tensor,
    y: Tensor | None,
    metric: int,
    row_shift: Tensor | None,
    col_shift: Tensor | None,
    g: Tensor,
    a: Tensor,
    reg: float,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield ``(rows, centred cost, log sum exp, plan)`` for chunks of rows: L = lse_j((g - C) / reg), P = a exp(. - L)."""
    n, m = cost.shape[0], g.shape[0]
    step = max(1, _CHUNK_ENTRIES // m)
    for start in range(0, n, step):
        rows = slice(start, min(n, start + step))
        centred = cost_rows(cost[rows], y, metric, None if row_shift is None else row_shift[rows], col_shift)
        z = (g - centred) / reg
        row_lse = torch.logsumexp(z, dim=1)
        plan = a[rows, None] * (z - row_lse[:, None]).exp()
        yield rows, centred, row_lse, torch.nan_to_num(plan, nan=0.0)  # a row that is forbidden throughout


def row_pass(
    cost: Tensor,
    y: Tensor | None,
    metric: int,
    row_shift: Tensor | None,
    col_shift: Tensor | None,
    g: Tensor,
    a: Tensor,
    reg: float,
) -> tuple[Tensor, Tensor]:
    """Evaluation pass: log sum exp of each row, and column sums of the plan whose rows are exact."""
    row_lse, col_sum = torch.empty_like(a), torch.zeros_like(g)
    for rows, _, lse, plan in plan_rows(cost, y, metric, row_shift, col_shift, g, a, reg):
        row_lse[rows] = lse
        col_sum += plan.sum(0)
    return row_lse, col_sum


def dense_build(
    cost: Tensor,
    y: Tensor | None,
    metric: int,
    row_shift: Tensor | None,
    col_shift: Tensor | None,
    g: Tensor,
    a: Tensor,
    reg: float,
    plan: Tensor,
) -> tuple[Tensor, Tensor]:
    """Evaluation pass that also writes the plan, in the dtype of the cost."""
    row_lse, col_sum = torch.empty_like(a), torch.zeros_like(g)
    for rows, _, lse, part in plan_rows(cost, y, metric, row_shift, col_shift, g, a, reg):
        row_lse[rows], plan[rows] = lse, part.to(plan.dtype)
        col_sum += part.sum(0)
    return row_lse, col_sum


def sparse_build(
    cost: Tensor,
    y: Tensor | None,
    metric: int,
    row_shift: Tensor | None,
    col_shift: Tensor | None,
    g: Tensor,
    a: Tensor,
    b: Tensor,
    reg: float,
    threshold: float,
    max_entries: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Evaluation pass that keeps blocks of eight columns with an entry above ``threshold * min(a_i, b_j)``.

    For a block, b_j is the least in it. More than ``max_entries`` entries are not kept: the plan is then empty.
    """
    n, m = a.shape[0], g.shape[0]
    row_lse, col_sum = torch.empty_like(a), torch.zeros_like(g)
    padding = -m % BLOCK
    least_b = torch.nn.functional.pad(b, (0, padding), value=float("inf")).view(-1, BLOCK).amin(1)
    counts = torch.zeros(n + 1, dtype=torch.int64, device=a.device)
    blocks, values, total = [], [], 0
    for rows, _, lse, plan in plan_rows(cost, y, metric, row_shift, col_shift, g, a, reg):
        row_lse[rows] = lse
        col_sum += plan.sum(0)
        blocked = torch.nn.functional.pad(plan, (0, padding)).view(plan.shape[0], -1, BLOCK)
        keep = blocked.amax(2) > torch.minimum(threshold * a[rows, None], threshold * least_b)
        counts[1:][rows] = keep.sum(1)
        total += int(keep.sum())
        if total * BLOCK <= max_entries:
            blocks.append(keep.nonzero()[:, 1].int())
            values.append(blocked[keep].to(cost.dtype))
    if total * BLOCK > max_entries:
        empty = cost.new_empty(0, BLOCK)
        return row_lse, col_sum, torch.zeros_like(counts), counts.new_empty(0, dtype=torch.int32), empty
    return row_lse, col_sum, counts.cumsum(0), torch.cat(blocks), torch.cat(values)


def stored_matrix(indptr: Tensor | None, blocks: Tensor | None, values: Tensor, n: int, m: int) -> Tensor:
    """Dense float64 form of a stored matrix: ``values`` itself, or rows of column blocks."""
    if indptr is None:
        return values.double()
    assert blocks is not None
    count = (m + BLOCK - 1) // BLOCK
    dense = torch.zeros(n, count, BLOCK, dtype=torch.float64, device=values.device)
    row_of = torch.repeat_interleave(torch.arange(n, device=values.device), indptr.diff())
    dense[row_of, blocks.long()] = values.double()
    return dense.view(n, -1)[:, :m]


def plan_product(
    cost: Tensor,
    y: Tensor | None,
    metric: int,
    row_shift: Tensor | None,
    col_shift: Tensor | None,
    g: Tensor,
    a: Tensor,
    reg: float,
    v: Tensor | None,
    w: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """``rows_k = P v_k`` and ``cols_k = P^T w_k``; without w, ``cols_k = P^T (rows_k / a)``."""
    k_rows = 0 if v is None else v.shape[0]
    k_cols = k_rows if w is None else w.shape[0]
    rows_out = torch.empty(k_rows, a.shape[0], dtype=torch.float64, device=a.device)
    cols_out = torch.zeros(k_cols, g.shape[0], dtype=torch.float64, device=a.device)
    for rows, _, _, plan in plan_rows(cost, y, metric, row_shift, col_shift, g, a, reg):
        if v is not None:
            rows_out[:, rows] = v @ plan.t()
        weights = torch.nan_to_num(rows_out[:, rows] / a[rows], nan=0.0) if w is None else w[:, rows]
        cols_out += weights @ plan
    return rows_out, cols_out


def cg(
    indptr: Tensor | None,
    blocks: Tensor | None,
    values: Tensor,
    u: Tensor,
    v: Tensor,
    a: Tensor,
    diagonal: Tensor,
    rhs: Tensor,
    threshold: float,
    tol: float,
    max_iter: int,
) -> tuple[Tensor, Tensor]:
    """Jacobi-preconditioned CG for Newton's system ``(diag(diagonal) - P^T diag(1/a) P) d = rhs``, ``P = diag(u) K diag(v)``.

    Blocks of eight columns of P without an entry above ``threshold * min(a_i, diagonal_j)`` are left out; what they take
    from the column sums stays on the diagonal, so the matrix is the Laplacian ``diag(P^T 1) - P^T diag(1 / P 1) P`` of what
    is kept, plus a non-negative diagonal. Returns the solution and info = (iterations, relative L1 residual).
    """
    n, m = a.shape[0], diagonal.shape[0]
    plan = u[:, None] * stored_matrix(indptr, blocks, values, n, m) * v
    padding = -m % BLOCK
    bar = threshold * torch.nn.functional.pad(diagonal, (0, padding), value=float("inf")).view(-1, BLOCK).amin(1)
    largest = torch.nn.functional.pad(plan, (0, padding)).view(n, -1, BLOCK).amax(2)
    keep = (largest > torch.minimum(threshold * a[:, None], bar)).repeat_interleave(BLOCK, 1)[:, :m]
    plan = plan * keep
    row_sum = plan.sum(1)
    share = torch.nan_to_num(plan / row_sum[:, None], nan=0.0)
    extra = diagonal - plan.sum(0)
    extra = extra.where(extra > 1e-13 * diagonal, torch.zeros_like(extra))

    def product(d: Tensor) -> Tensor:
        return plan.sum(0) * d - plan.t() @ (share @ d) + extra * d

    inverse = 1.0 / torch.maximum((plan * (1 - share)).sum(0) + extra, 1e-14 * diagonal)
    x, r, p = torch.zeros_like(rhs), rhs.clone(), torch.zeros_like(rhs)
    size = float(r.abs().sum())
    residual, rho_before, iterations = (1.0 if size > 0 else 0.0), 1.0, 0
    while iterations < max_iter and residual > tol:
        z = inverse * r
        rho = float(r @ z)
        p = z + (rho / rho_before if iterations else 0.0) * p
        q = product(p)
        curvature = float(p @ q)
        if not curvature > 0:
            break
        x += (rho / curvature) * p
        r -= (rho / curvature) * q
        rho_before, residual, iterations = rho, float(r.abs().sum()) / size, iterations + 1
    return x, torch.tensor([float(iterations), residual], dtype=torch.float64, device=a.device)


def sinkhorn_steps(
    indptr: Tensor | None,
    blocks: Tensor | None,
    values: Tensor,
    a: Tensor,
    b: Tensor,
    v: Tensor,
    steps: int,
    tol: float,
    limit: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sinkhorn's iteration ``u = a / K v``, ``c = v * K^T u``, ``v *= b / c`` on a stored kernel; v moves in place.

    ``errors[s] = |b - c|_1`` before v moves. A step whose error meets ``tol``, after which v would leave
    ``[exp(-limit), exp(limit)]``, or the last one, leaves v as it was measured; later errors stay NaN.
    """
    errors = torch.full((steps,), float("nan"), dtype=torch.float64, device=a.device)
    kernel = stored_matrix(indptr, blocks, values, a.shape[0], b.shape[0])
    u, c = a, b
    for step in range(steps):
        u = a / (kernel @ v)
        product = kernel.t() @ u
        c = v * product
        errors[step] = (c - b).abs().sum()
        following = b / product
        inside = bool(((following < math.exp(limit)) & (following > math.exp(-limit))).all())
        if float(errors[step]) <= tol or not inside or step + 1 == steps:
            break
        v.copy_(following)
    return u, c, errors
