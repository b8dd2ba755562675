"""Cases of the transport operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
from . import _op_inputs, _reference


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
_SUMS = {"row_lse": Tolerance(2, worst=0.36), "col_sum": Tolerance(2, worst=0.46)}

OP_CASES = [
    Case(
        name="ot_centre",
        api=_run("ot_centre", _CENTRE),
        reference=_truth(_reference.centre, _CENTRE),
        inputs=_op_inputs.centre_inputs,
        tolerance={name: Tolerance(1, worst=0.41) for name in _CENTRE},
        main_op="ot_centre",
        ops=("ot_centre",),
        bad_inputs=_bad(
            "ot_centre", _op_inputs.centre_inputs, "wide", {"cost_strided": ("cost", lambda cost: cost.t())}
        ),
    ),
    Case(
        name="ot_row_pass",
        api=_run("ot_row_pass", _PASS),
        reference=_truth(_reference.row_pass, _PASS),
        inputs=_op_inputs.row_pass_inputs,
        tolerance=_SUMS,
        condition=row_condition,
        main_op="ot_row_pass",
        ops=("ot_row_pass",),
        bad_inputs=_bad("ot_row_pass", _op_inputs.row_pass_inputs, "shifts", _BAD_ROW_PASS),
    ),
    Case(
        name="ot_dense_build",
        api=_with_written("plan", _run("ot_dense_build", _PASS)),
        reference=_with_written("plan", _truth(_reference.dense_build, _PASS)),
        inputs=_op_inputs.dense_inputs,
        tolerance={**_SUMS, "plan": Tolerance(2, worst=0.58)},
        condition=row_condition,
        main_op="ot_dense_build",
        ops=("ot_dense_build",),
        bad_inputs=_bad(
            "ot_dense_build",
            _op_inputs.dense_inputs,
            "shifts",
            {**_BAD_ROW_PASS, "plan_strided": ("plan", lambda plan: plan.t())},
        ),
    ),
    Case(
        name="ot_sparse_build",
        api=_sparse_outputs(_run("ot_sparse_build", _SPARSE)),
        reference=_sparse_outputs(_truth(_reference.sparse_build, _SPARSE)),
        inputs=_op_inputs.sparse_inputs,
        tolerance={**_SUMS, "kept": Tolerance(2, worst=0.58)},
        condition=row_condition,
        main_op="ot_sparse_build",
        ops=("ot_sparse_build",),
        bad_inputs=_bad(
            "ot_sparse_build",
            _op_inputs.sparse_inputs,
            "shifts",
            {**_BAD_ROW_PASS, "b_short": ("b", lambda b: b[1:].contiguous())},
        ),
    ),
    Case(
        name="ot_plan_product",
        api=_run("ot_plan_product", ("rows", "cols")),
        reference=_truth(_reference.plan_product, ("rows", "cols")),
        inputs=_op_inputs.product_inputs,
        tolerance={"rows": Tolerance(3, worst=0.61), "cols": Tolerance(4, worst=1.1)},
        condition=row_condition,
        main_op="ot_plan_product",
        ops=("ot_plan_product",),
        bad_inputs=_bad(
            "ot_plan_product",
            _op_inputs.product_inputs,
            "shifts_both",
            {**_BAD_ROW_PASS, "v_wide": ("v", lambda v: v.t().contiguous())},
        ),
    ),
    Case(
        name="ot_cg",
        api=_cg_outputs(_run("ot_cg", ("direction", "info"))),
        reference=_cg_outputs(_truth(_reference.cg, ("direction", "info"))),
        inputs=_op_inputs.cg_inputs,
        tolerance={"direction": Tolerance(1, worst=0.18)},
        condition=lambda inputs, dtype: 1.2e-7 / torch.finfo(dtype).eps,  # the system is stored in float32
        main_op="ot_cg",
        ops=("ot_cg",),
        bad_inputs=_bad(
            "ot_cg",
            _op_inputs.cg_inputs,
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
        inputs=_op_inputs.steps_inputs,
        tolerance={name: Tolerance(8, worst=1.8) for name in (*_STEPS, "v")},
        condition=lambda inputs, dtype: (
            2.2e-16 / torch.finfo(dtype).eps
        ),  # the kernel is read as it is; all else is float64
        main_op="sinkhorn_steps",
        ops=("sinkhorn_steps",),
        bad_inputs=_bad(
            "sinkhorn_steps",
            _op_inputs.steps_inputs,
            "all_steps",
            {
                "a_float32": ("a", lambda a: a.float()),
                "v_float32": ("v", lambda v: v.float()),
                "values_strided": ("values", lambda values: torch.stack([values, values], 2)[..., 0]),
            },
        ),
    ),
]
