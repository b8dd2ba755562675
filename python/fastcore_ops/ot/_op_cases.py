"""Cases of the transport operators: small inputs that reach every branch of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
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
    reg: float = 0.05,
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


def _row_pass_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
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


def _few_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """A smaller choice for the operators that share the row pass's loops."""
    every = _row_pass_inputs(dtype, device, seed)
    return {name: every[name] for name in ("1x1", "dense", "long_rows", "shifts", "forbidden", "square_3d", "city_5d")}


def _sparse_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = {}
    for name, shared in _few_inputs(dtype, device, seed).items():
        m = shared["g"].shape[0]
        b = _draw(seed + m, device, torch.float64)(m) + 0.1
        source = {key: value for key, value in shared.items() if key != "reg"}
        tail = {"b": b / b.sum(), "reg": shared["reg"], "threshold": 1e-3, "max_entries": 10**6}
        found[name] = {**source, **tail}
    found["too_dense"] = {**found["dense"], "max_entries": 10}
    found["nothing_kept"] = {**found["dense"], "threshold": 1e3}
    return found


def _product_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, shared in _few_inputs(dtype, device, seed).items():
        uniform = _draw(seed, device, torch.float64)
        v, w = uniform(2, shared["g"].shape[0]) - 0.5, uniform(3, shared["a"].shape[0]) - 0.5
        found[f"{name}_gram"] = {**shared, "v": v, "w": None}
        found[f"{name}_both"] = {**shared, "v": v, "w": w}
    found["dense_rows"] = {**found["dense_both"], "w": found["dense_both"]["w"][:0]}
    found["dense_cols"] = {**found["dense_both"], "v": None}
    return found


def _dense_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """The plan's memory comes from the caller, filled with what must not survive."""
    return {
        name: {
            **shared,
            "plan": torch.full((shared["a"].shape[0], shared["g"].shape[0]), torch.nan, dtype=dtype, device=device),
        }
        for name, shared in _few_inputs(dtype, device, seed).items()
    }


def _plan_of(inputs: Inputs) -> Tensor:
    return next(iter(_reference.plan_rows(*list(inputs.values())[:8])))[3]


def _centre_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
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


def _cg_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
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


def _steps_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
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


def _run(name: str, names: tuple[str, ...]) -> Callable[..., Outputs]:
    def api(backend: str, **inputs: Any) -> Outputs:
        device = next(value.device for value in inputs.values() if isinstance(value, Tensor))
        operator = _backend.pick(name, device, backend, main=True)
        return dict(zip(names, operator(*inputs.values()), strict=True))

    return api


def _truth(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Outputs]:
    return lambda **inputs: dict(zip(names, function(*inputs.values()), strict=True))


def _without_gauge(direction: Tensor) -> Tensor:
    return direction - direction.mean()


def _cg_outputs(solve: Callable[..., Any]) -> Callable[..., Outputs]:
    """Direction without its constant part (the null vector of the undamped system); the count of steps may differ."""

    def outputs(*args: Any, **inputs: Any) -> Outputs:
        found = solve(*args, **inputs)
        return {"direction": _without_gauge(found["direction"]), "solved": found["info"][1] <= inputs["tol"]}

    return outputs


def _sparse_outputs(build: Callable[..., Any]) -> Callable[..., Outputs]:
    """The kept entries as a matrix, beside the row pointers."""

    def outputs(*args: Any, **inputs: Any) -> Outputs:
        found = build(*args, **inputs)
        indptr, n, m = found["indptr"], inputs["a"].shape[0], inputs["g"].shape[0]
        kept = _reference.stored_matrix(indptr, found["blocks"], found["values"], n, m)
        return {"row_lse": found["row_lse"], "col_sum": found["col_sum"], "indptr": indptr, "kept": kept}

    return outputs


def _with_written(name: str, operator: Callable[..., Any]) -> Callable[..., Outputs]:
    """Outputs, and the argument that the operator writes to."""
    return lambda *args, **inputs: {**operator(*args, **inputs), name: inputs[name]}


def row_condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """Rounding of an exponent, in units of eps: its own size. Float32 matrices keep what the difference loses."""
    if dtype == torch.float32 and inputs["metric"] == 0 and inputs["row_shift"] is None:
        return 1.0
    cost = inputs["cost"] if inputs["metric"] == 0 else torch.tensor([float(inputs["cost"].shape[1])])
    largest = float(cost.double()[cost.isfinite()].abs().max()) + float(inputs["g"].abs().max())
    return 1.0 + largest / inputs["reg"]


def _spoilt(
    name: str, good: Callable[[], Inputs], changes: dict[str, tuple[str, Callable[[Any], Any]]]
) -> list[BadInput]:
    """One bad call per change of one argument; operators check what protects memory, and name operator and argument."""
    found = []
    for label, (argument, change) in changes.items():

        def call(argument: str = argument, change: Callable[[Any], Any] = change) -> Any:
            inputs = good()
            inputs[argument] = change(inputs[argument])
            return _backend.pick(name, torch.device("cpu"))(*inputs.values())

        found.append(BadInput(label, call, RuntimeError, (name, f"`{argument}`")))
    return found


_BAD_ROW_PASS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "g_short": ("g", lambda g: g[1:].contiguous()),
    "g_float32": ("g", lambda g: g.float()),
    "a_short": ("a", lambda a: a[1:].contiguous()),
    "cost_strided": ("cost", lambda cost: cost.t()),
    "shift_long": ("row_shift", lambda shift: torch.cat([shift, shift])),
    "shift_float64": ("col_shift", lambda shift: shift.float()),
}


def _bad(
    name: str, inputs: Callable[..., dict[str, Inputs]], variant: str, changes: Any
) -> Callable[[], list[BadInput]]:
    return lambda: _spoilt(name, lambda: inputs(torch.float64, "cpu", 0)[variant], changes)


_PASS = ("row_lse", "col_sum")
_SPARSE = ("row_lse", "col_sum", "indptr", "blocks", "values")
_CENTRE = ("row_shift", "col_shift", "col_top")
_STEPS = ("u", "col_sum", "errors")
_SUMS = {"row_lse": Tolerance(2, worst=0.36), "col_sum": Tolerance(2, worst=0.31)}

OP_CASES = [
    Case(
        name="ot_centre",
        api=_run("ot_centre", _CENTRE),
        reference=_truth(_reference.centre, _CENTRE),
        inputs=_centre_inputs,
        tolerance={name: Tolerance(1, worst=0.41) for name in _CENTRE},
        main_op="ot_centre",
        ops=("ot_centre",),
        bad_inputs=_bad("ot_centre", _centre_inputs, "wide", {"cost_strided": ("cost", lambda cost: cost.t())}),
    ),
    Case(
        name="ot_row_pass",
        api=_run("ot_row_pass", _PASS),
        reference=_truth(_reference.row_pass, _PASS),
        inputs=_row_pass_inputs,
        tolerance=_SUMS,
        condition=row_condition,
        main_op="ot_row_pass",
        ops=("ot_row_pass",),
        bad_inputs=_bad("ot_row_pass", _row_pass_inputs, "shifts", _BAD_ROW_PASS),
    ),
    Case(
        name="ot_dense_build",
        api=_with_written("plan", _run("ot_dense_build", _PASS)),
        reference=_with_written("plan", _truth(_reference.dense_build, _PASS)),
        inputs=_dense_inputs,
        tolerance={**_SUMS, "plan": Tolerance(2, worst=0.45)},
        condition=row_condition,
        main_op="ot_dense_build",
        ops=("ot_dense_build",),
        bad_inputs=_bad(
            "ot_dense_build",
            _dense_inputs,
            "shifts",
            {**_BAD_ROW_PASS, "plan_strided": ("plan", lambda plan: plan.t())},
        ),
    ),
    Case(
        name="ot_sparse_build",
        api=_sparse_outputs(_run("ot_sparse_build", _SPARSE)),
        reference=_sparse_outputs(_truth(_reference.sparse_build, _SPARSE)),
        inputs=_sparse_inputs,
        tolerance={**_SUMS, "kept": Tolerance(2, worst=0.31)},
        condition=row_condition,
        main_op="ot_sparse_build",
        ops=("ot_sparse_build",),
        bad_inputs=_bad(
            "ot_sparse_build",
            _sparse_inputs,
            "shifts",
            {**_BAD_ROW_PASS, "b_short": ("b", lambda b: b[1:].contiguous())},
        ),
    ),
    Case(
        name="ot_plan_product",
        api=_run("ot_plan_product", ("rows", "cols")),
        reference=_truth(_reference.plan_product, ("rows", "cols")),
        inputs=_product_inputs,
        tolerance={"rows": Tolerance(2, worst=0.31), "cols": Tolerance(2, worst=0.55)},
        condition=row_condition,
        main_op="ot_plan_product",
        ops=("ot_plan_product",),
        bad_inputs=_bad(
            "ot_plan_product",
            _product_inputs,
            "shifts_both",
            {**_BAD_ROW_PASS, "v_wide": ("v", lambda v: v.t().contiguous())},
        ),
    ),
    Case(
        name="ot_cg",
        api=_cg_outputs(_run("ot_cg", ("direction", "info"))),
        reference=_cg_outputs(_truth(_reference.cg, ("direction", "info"))),
        inputs=_cg_inputs,
        tolerance={"direction": Tolerance(1, worst=0.18)},
        condition=lambda inputs, dtype: 1.2e-7 / torch.finfo(dtype).eps,  # the system is stored in float32
        main_op="ot_cg",
        ops=("ot_cg",),
        bad_inputs=_bad(
            "ot_cg",
            _cg_inputs,
            "small_dense",
            {
                "values_short": ("values", lambda values: values[1:].contiguous()),
                "rhs_float32": ("rhs", lambda rhs: rhs.float()),
                "diagonal_strided": ("diagonal", lambda diagonal: torch.stack([diagonal, diagonal], 1)[:, 0]),
            },
        ),
    ),
    Case(
        name="sinkhorn_steps",
        api=_with_written("v", _run("sinkhorn_steps", _STEPS)),
        reference=_with_written("v", _truth(_reference.sinkhorn_steps, _STEPS)),
        inputs=_steps_inputs,
        tolerance={name: Tolerance(8, worst=1.8) for name in (*_STEPS, "v")},
        condition=lambda inputs, dtype: (
            2.2e-16 / torch.finfo(dtype).eps
        ),  # the kernel is read as it is; all else is float64
        main_op="sinkhorn_steps",
        ops=("sinkhorn_steps",),
        bad_inputs=_bad(
            "sinkhorn_steps",
            _steps_inputs,
            "all_steps",
            {
                "a_float32": ("a", lambda a: a.float()),
                "v_float32": ("v", lambda v: v.float()),
                "values_strided": ("values", lambda values: torch.stack([values, values], 2)[..., 0]),
            },
        ),
    ),
]
