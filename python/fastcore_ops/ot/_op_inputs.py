"""Inputs of the transport operators' Cases: small problems that reach every branch of the kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..testing.cases import Inputs
from . import _reference


def _draw(seed: int, device: str, dtype: torch.dtype) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return uniform


def _problem(
    dtype: torch.dtype,
    device: str,
    seed: int,
    n: int,
    m: int,
    metric: int = 0,
    d: int = 0,
    shifts: bool = False,
    reg: float = 0.06,
) -> Inputs:
    """Arguments that every row pass takes. Masses vary by a factor of ten; float64, as the operators want them."""
    uniform = _draw(seed + 1000 * n + 10 * m + metric, device, dtype)
    matrix = metric == _reference.MATRIX
    cost = uniform(n, m) if matrix else uniform(n, d)
    a = uniform(n, dtype=torch.float64) + 0.1
    return {
        "cost": cost,
        "y": None if matrix else uniform(d, m),
        "metric": metric,
        "row_shift": cost.amin(1) if shifts else None,
        "col_shift": uniform(m) / 4 if shifts else None,
        "g": uniform(m, dtype=torch.float64) - 0.5,
        "a": a / a.sum(),
        "reg": reg,
    }


def _forbidden(inputs: Inputs) -> Inputs:
    """Some pairs forbidden, one whole row and one whole column; one row without mass."""
    cost = inputs["cost"].clone()
    cost[:, ::3] = torch.inf
    cost[2] = torch.inf
    cost[1] = 1.0
    cost[:, 4] = torch.inf
    a = inputs["a"].clone()
    a[5] = 0.0
    return {**inputs, "cost": cost, "a": a}


def row_pass_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    shapes: dict[str, Inputs] = {
        "1x1": _problem(dtype, device, seed, 1, 1),
        "dense": _problem(dtype, device, seed, 23, 37),
        "long_rows": _problem(dtype, device, seed, 5, 1100, reg=0.021),  # more than two tiles of columns
        "small_reg": _problem(dtype, device, seed, 19, 30, reg=1.3e-3),
        "shifts": _problem(dtype, device, seed, 18, 33, shifts=True),
        "row_shift_only": {**_problem(dtype, device, seed, 9, 14, shifts=True), "col_shift": None},
        "forbidden": _forbidden(_problem(dtype, device, seed, 21, 35)),
        "tall": _problem(dtype, device, seed, 130, 3),
    }
    for name, metric in (("square", 1), ("euclid", 2), ("city", 3)):
        for d in (1, 2, 3, 5):
            shapes[f"{name}_{d}d"] = _problem(dtype, device, seed, 17, 26, metric, d, reg=0.13)
    return shapes


def few_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """A smaller choice for the operators that share the row pass's loops."""
    every = row_pass_inputs(dtype, device, seed)
    return {name: every[name] for name in ("1x1", "dense", "long_rows", "shifts", "forbidden", "square_3d", "city_5d")}


def sparse_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = {}
    for name, shared in few_inputs(dtype, device, seed).items():
        m = shared["g"].shape[0]
        b = _draw(seed + m, device, torch.float64)(m) + 0.1
        source = {key: value for key, value in shared.items() if key != "reg"}
        tail = {"b": b / b.sum(), "reg": shared["reg"], "threshold": 1e-3, "max_entries": 10**6}
        found[name] = {**source, **tail}
    found["too_dense"] = {**found["dense"], "max_entries": 10}
    found["nothing_kept"] = {**found["dense"], "threshold": 1e3}
    return found


def product_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, shared in few_inputs(dtype, device, seed).items():
        uniform = _draw(seed, device, torch.float64)
        v, w = uniform(2, shared["g"].shape[0]) - 0.5, uniform(3, shared["a"].shape[0]) - 0.5
        found[f"{name}_gram"] = {**shared, "v": v, "w": None}
        found[f"{name}_both"] = {**shared, "v": v, "w": w}
    found["dense_rows"] = {**found["dense_both"], "w": found["dense_both"]["w"][:0]}
    found["dense_cols"] = {**found["dense_both"], "v": None}
    return found


def dense_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """The plan's memory comes from the caller, filled with what must not survive."""
    return {
        name: {
            **shared,
            "plan": torch.full((shared["a"].shape[0], shared["g"].shape[0]), torch.nan, dtype=dtype, device=device),
        }
        for name, shared in few_inputs(dtype, device, seed).items()
    }


def _plan_of(inputs: Inputs) -> Tensor:
    return next(iter(_reference.plan_rows(*list(inputs.values())[:8])))[3]


def centre_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Costs with an offset, one with forbidden pairs and whole columns of them."""
    found = {}
    for name, (n, m) in {"1x1": (1, 1), "wide": (19, 37), "long_rows": (5, 1100), "tall": (300, 3)}.items():
        found[name] = {"cost": 3 * _draw(seed + n, device, dtype)(n, m) - 1}
    cost = found["wide"]["cost"].clone()
    cost[:, ::3] = torch.inf
    cost[2, 2:] = torch.inf
    return {**found, "forbidden": {"cost": cost}}


def _stored(matrix: Tensor, keep: Tensor, dtype: torch.dtype) -> Inputs:
    """A matrix as rows of column blocks: those with an entry to keep."""
    n, m = matrix.shape
    padding = (0, -m % _reference.BLOCK)
    blocked, kept = (torch.nn.functional.pad(t, padding).view(n, -1, _reference.BLOCK) for t in (matrix, keep))
    chosen = kept.any(2)
    indptr = torch.nn.functional.pad(chosen.sum(1).cumsum(0), (1, 0))
    return {"indptr": indptr, "blocks": chosen.nonzero()[:, 1].int(), "values": blocked[chosen].to(dtype)}


def cg_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Newton's system at a plan, dense and sparse, undamped (semidefinite) and damped."""
    found: dict[str, Inputs] = {}
    for size, (n, m) in {"small": (23, 17), "blocks": (180, 140)}.items():
        shared = _problem(torch.float64, device, seed, n, m, reg=0.2 if size == "small" else 0.05)
        plan = _plan_of(shared)
        columns = plan.sum(0)
        rhs = _draw(seed, device, torch.float64)(m) * columns
        rhs = rhs - columns * (rhs.sum() / columns.sum())
        u, v = 0.5 + _draw(seed, device, torch.float64)(n), 0.5 + _draw(seed + 1, device, torch.float64)(m)
        kernel, wanted = plan / (u[:, None] * v), plan > 0.02 * shared["a"][:, None]
        common = {"u": u, "v": v, "a": shared["a"], "diagonal": columns, "rhs": rhs}
        end = {"threshold": 0.0, "tol": 1e-11, "max_iter": 500}
        dense = {"indptr": None, "blocks": None, "values": kernel.to(dtype), **common, **end}
        found[f"{size}_dense"] = dense
        found[f"{size}_damped"] = {**dense, "diagonal": columns * 1.3}
        found[f"{size}_dropped"] = {**dense, "threshold": 0.05}
        found[f"{size}_sparse"] = {**_stored(kernel, wanted, dtype), **common, **end}
        found[f"{size}_sparse_dropped"] = {**found[f"{size}_sparse"], "threshold": 0.1}
    return found


def steps_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    sizes = {"all_steps": (23, 37, 0.0, 50.0), "meets_tol": (30, 20, 1e-3, 50.0), "leaves": (9, 12, 0.0, 0.4)}
    for name, (n, m, tol, limit) in sizes.items():
        uniform = _draw(seed + n, device, torch.float64)
        a, b = uniform(n) + 0.1, uniform(m) + 0.1
        kernel = (-5 * uniform(n, m)).exp()
        start = torch.ones(m, dtype=torch.float64, device=device)
        common = {"a": a / a.sum(), "b": b / b.sum(), "v": start, "steps": 7, "tol": tol, "limit": limit}
        found[name] = {"indptr": None, "blocks": None, "values": kernel.to(dtype), **common}
        found[f"{name}_sparse"] = {**_stored(kernel, kernel > 0.7 * kernel.amax(1)[:, None], dtype), **common}
    return found
