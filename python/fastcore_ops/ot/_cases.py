"""Cases of the transport family: operators (from ``_op_cases``) and public calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._result import ConvergenceWarning
from ..testing.cases import BadInput, Case, Differentiable, Inputs, Outputs, Tolerance
from . import _reference
from ._bad_inputs import bad_cost_and_masses, bad_maps, bad_points
from ._op_cases import OP_CASES
from ._point_cloud import METRICS, PointCloud
from ._reference_solution import solution
from ._sinkhorn_newton import sinkhorn, sinkhorn_newton
from ._transport_map import transport_map
from ._transport_result import OTResult

_TOL = {torch.float64: 1e-12, torch.float32: 1e-7}


def _problem(dtype: torch.dtype, device: str, seed: int, n: int, m: int, **more: Any) -> Inputs:
    generator = torch.Generator().manual_seed(seed + 100 * n + m)
    cost, a, b = (torch.rand(*s, generator=generator, dtype=torch.float64) for s in ((n, m), (n,), (m,)))
    a, b = (a + 0.2) / (a + 0.2).sum(), (b + 0.2) / (b + 0.2).sum()
    return {
        "cost": cost.to(device, dtype),
        "a": a.to(device),
        "b": b.to(device),
        "reg": 0.1,
        "tol": _TOL[dtype],
        **more,
    }


def _matrix_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = {
        "square": _problem(dtype, device, seed, 20, 20),
        "wide": _problem(dtype, device, seed, 12, 31),
        "tall": _problem(dtype, device, seed, 31, 12),
        "small_reg": _problem(dtype, device, seed, 24, 22, reg=0.02),
        "one_row": _problem(dtype, device, seed, 1, 9),
        "zero_masses": _problem(dtype, device, seed, 14, 18),
        "forbidden": _problem(dtype, device, seed, 19, 17),
        "mass_seven": _problem(dtype, device, seed, 15, 16),
    }
    for side, start in (("a", 1), ("b", 2)):
        mass = found["zero_masses"][side]
        mass[start::4] = 0.0
        mass /= mass.sum()
        found["mass_seven"][side] *= 7.0
    cost = found["forbidden"]["cost"]
    cost[(torch.arange(19)[:, None] + torch.arange(17)) % 4 == 1] = torch.inf
    return found


def _newton_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = _matrix_inputs(dtype, device, seed)
    return {**found, "newton": {**found["small_reg"], "method": "newton"}}


def _cloud_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for metric, (n, m, d) in zip(METRICS, ((21, 16, 3), (14, 25, 2), (18, 18, 5)), strict=True):
        x, y = (torch.rand(k, d, generator=generator, dtype=torch.float64).to(device, dtype) for k in (n, m))
        masses = {key: value for key, value in _problem(dtype, device, seed, n, m).items() if key in ("a", "b", "tol")}
        found[metric] = {"x": x, "y": y + 0.5, "metric": metric, "reg": 0.3, **masses}
    return found


def _outputs(f: Tensor, g: Tensor, plan: Tensor, **numbers: Tensor) -> Outputs:
    """What is compared of a solution; the products are those of one fixed vector per side."""
    n, m = plan.shape
    v, w = (torch.linspace(-1, 1, k, dtype=torch.float64, device=plan.device) for k in (m, n))
    return {"f": f, "g": g, "plan": plan, "rows": plan.double() @ v, "cols": plan.double().t() @ w, **numbers}


def _solved(result: OTResult) -> Outputs:
    outputs = _outputs(
        result.f,
        result.g,
        result.plan(),
        value=result.value,
        dual_value=result.dual_value,
        linear_cost=result.linear_cost,
    )
    n, m = result.f.shape[0], result.g.shape[0]
    v, w = (torch.linspace(-1, 1, k, dtype=torch.float64, device=result.f.device) for k in (m, n))
    sparse = result.plan_sparse(0.0).to_dense()
    return {**outputs, "rows": result.apply(v), "cols": result.apply(w, axis=0), "sparse": sparse}


def _truth(cost: Tensor, a: Tensor, b: Tensor, reg: float, **unused: Any) -> Outputs:
    found = solution(cost, a, b, reg)
    more = {"value": found["value"], "dual_value": found["value"], "linear_cost": found["linear_cost"]}
    return {**_outputs(found["f"], found["g"], found["plan"], **more), "sparse": found["plan"]}


def _matrix_call(solve: Callable[..., OTResult]) -> Callable[..., Outputs]:
    return lambda backend, **inputs: _solved(_quiet(solve, backend=backend, **inputs))


def _quiet(solve: Callable[..., OTResult], *args: Any, **options: Any) -> OTResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # float32 may end at its precision limit, above tol
        return solve(*args, **options)


def _cloud_call(backend: str, x: Tensor, y: Tensor, metric: str, **options: Any) -> Outputs:
    return _solved(_quiet(sinkhorn_newton, PointCloud(x, y, metric), backend=backend, **options))


def _distances(x: Tensor, y: Tensor, metric: str) -> Tensor:
    return _reference.cost_rows(x, y.t(), METRICS.index(metric) + 1, None, None)


def _cloud_truth(x: Tensor, y: Tensor, metric: str, **inputs: Any) -> Outputs:
    return _truth(_distances(x, y, metric), **inputs)


def _new_points(x: Tensor) -> Tensor:
    return torch.cat([x, x[:4] + 0.25])


def _map_call(backend: str, x: Tensor, y: Tensor, metric: str, **options: Any) -> Outputs:
    result = _quiet(sinkhorn_newton, PointCloud(x, y, metric), backend=backend, **options)
    return {"images": transport_map(result)(_new_points(x))}


def _map_truth(x: Tensor, y: Tensor, metric: str, **inputs: Any) -> Outputs:
    g = _cloud_truth(x, y, metric, **inputs)["g"]
    exponent = (g - _distances(_new_points(x), y, metric)) / inputs["reg"] + inputs["b"].log()
    return {"images": exponent.softmax(dim=1) @ y}


def _condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """An entry of the plan moves by eps * cost / reg, and by what the tolerance leaves."""
    if "cost" in inputs:
        cost_range = 1.0
    else:
        cost = _distances(inputs["x"].double(), inputs["y"].double(), inputs["metric"])
        cost_range = float(cost.max())
    return 1.0 + cost_range / inputs["reg"] + inputs["tol"] / torch.finfo(dtype).eps


# Gradients ---------------------------------------------------------------------------------------------------------


def _value(cost: Any, a_logits: Tensor, b_logits: Tensor) -> Tensor:
    """The value as a function that gradcheck can step in: a softmax keeps the sums of the masses."""
    value: Tensor = sinkhorn_newton(cost, a_logits.softmax(0), b_logits.softmax(0), reg=0.1, tol=1e-13).value
    return value


def _leaves(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)


def _matrix_gradients() -> list[Differentiable]:
    return [
        Differentiable("wide", _value, _leaves((4, 6), (4,), (6,))),
        Differentiable("tall", _value, _leaves((6, 3), (6,), (3,))),
    ]


def _cloud_gradients() -> list[Differentiable]:
    def through(metric: str) -> Callable[..., Tensor]:
        return lambda x, y, a, b: _value(PointCloud(x, y, metric), a, b)

    return [Differentiable(metric, through(metric), _leaves((5, 2), (4, 2), (5,), (4,))) for metric in METRICS] + [
        Differentiable("transposed", through("sqeuclidean"), _leaves((3, 2), (5, 2), (3,), (5,)))
    ]


def _tolerances(potentials: float, entries: float, numbers: float) -> dict[str, Tolerance]:
    """Worst errors seen, and thrice that."""
    worst = dict.fromkeys(("f", "g"), potentials) | dict.fromkeys(("plan", "sparse", "rows", "cols"), entries)
    worst |= dict.fromkeys(("value", "dual_value", "linear_cost"), numbers)
    return {name: Tolerance(3 * error, error) for name, error in worst.items()}


def _sinkhorn_bad() -> list[BadInput]:
    return bad_cost_and_masses(sinkhorn)


CASES = [
    *OP_CASES,
    Case(
        name="sinkhorn_newton",
        api=_matrix_call(sinkhorn_newton),
        reference=_truth,
        inputs=_newton_inputs,
        tolerance=_tolerances(2.4, 0.9, 0.15),
        condition=_condition,
        main_op="ot_row_pass",
        bad_inputs=lambda: bad_cost_and_masses(sinkhorn_newton),
        differentiable=_matrix_gradients,
    ),
    Case(
        name="sinkhorn",
        api=_matrix_call(sinkhorn),
        reference=_truth,
        inputs=_matrix_inputs,
        tolerance=_tolerances(15.0, 6.3, 0.6),
        condition=_condition,
        main_op="ot_row_pass",
        bad_inputs=_sinkhorn_bad,
    ),
    Case(
        name="point_cloud",
        api=_cloud_call,
        reference=_cloud_truth,
        inputs=_cloud_inputs,
        tolerance=_tolerances(0.9, 3.4, 0.3),
        condition=_condition,
        main_op="ot_row_pass",
        bad_inputs=bad_points,
        differentiable=_cloud_gradients,
    ),
    Case(
        name="transport_map",
        api=_map_call,
        reference=_map_truth,
        inputs=_cloud_inputs,
        tolerance={"images": Tolerance(1.0, 0.3)},
        condition=_condition,
        main_op="ot_row_pass",
        bad_inputs=bad_maps,
    ),
]
