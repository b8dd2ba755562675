"""The transport operators: which backends have a kernel, and the shapes of what they return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _backend, _native
from . import _reference

for _name, _torch_truth, _backends in (
    ("ot_centre", _reference.centre, ("cpp",)),
    ("ot_row_pass", _reference.row_pass, ("cpp", "cuda", "triton")),
    ("ot_sparse_build", _reference.sparse_build, ("cpp",)),
    ("ot_dense_build", _reference.dense_build, ("cpp",)),
    ("ot_plan_product", _reference.plan_product, ("cpp",)),
    ("ot_cg", _reference.cg, ("cpp",)),
    ("sinkhorn_steps", _reference.sinkhorn_steps, ("cpp",)),
    ("vector_exp", torch.exp, ("cpp",)),
    ("vector_log", torch.log, ("cpp",)),
):
    _backend.register(_name, _torch_truth, _backends)


def _sides(cost: Tensor, y: Tensor | None) -> tuple[Any, Any]:
    return cost.shape[0], cost.shape[1] if y is None else y.shape[1]


def _centre_fake(cost):  # type: ignore[no-untyped-def]
    n, m = cost.shape
    return cost.new_empty(n), cost.new_empty(m), cost.new_empty(m)


def _row_pass_fake(cost, y, metric, row_shift, col_shift, g, a, reg):  # type: ignore[no-untyped-def]
    n, m = _sides(cost, y)
    return g.new_empty(n), g.new_empty(m)


def _dense_build_fake(cost, y, metric, row_shift, col_shift, g, a, reg, plan):  # type: ignore[no-untyped-def]
    n, m = _sides(cost, y)
    return g.new_empty(n), g.new_empty(m)


def _sparse_build_fake(cost, y, metric, row_shift, col_shift, g, a, b, reg, threshold, max_entries):  # type: ignore[no-untyped-def]
    n, m = _sides(cost, y)
    entries = torch.library.get_ctx().new_dynamic_size()
    return (
        g.new_empty(n),
        g.new_empty(m),
        g.new_empty(n + 1, dtype=torch.int64),
        g.new_empty(entries, dtype=torch.int32),
        cost.new_empty(entries, _reference.BLOCK),
    )


def _plan_product_fake(cost, y, metric, row_shift, col_shift, g, a, reg, v, w):  # type: ignore[no-untyped-def]
    n, m = _sides(cost, y)
    k_rows = 0 if v is None else v.shape[0]
    return g.new_empty(k_rows, n), g.new_empty(k_rows if w is None else w.shape[0], m)


def _cg_fake(indptr, blocks, values, u, v, a, diagonal, rhs, threshold, tol, max_iter):  # type: ignore[no-untyped-def]
    return torch.empty_like(rhs), rhs.new_empty(2)


def _sinkhorn_steps_fake(indptr, blocks, values, a, b, v, steps, tol, limit):  # type: ignore[no-untyped-def]
    return torch.empty_like(a), torch.empty_like(b), a.new_empty(steps)


def _vector_fake(x: Tensor) -> Tensor:
    return torch.empty_like(x)


_native.register_fake("ot_centre", _centre_fake)
_native.register_fake("ot_row_pass", _row_pass_fake)
_native.register_fake("ot_dense_build", _dense_build_fake)
_native.register_fake("ot_sparse_build", _sparse_build_fake)
_native.register_fake("ot_plan_product", _plan_product_fake)
_native.register_fake("ot_cg", _cg_fake)
_native.register_fake("sinkhorn_steps", _sinkhorn_steps_fake)
_native.register_fake("vector_exp", _vector_fake)
_native.register_fake("vector_log", _vector_fake)
