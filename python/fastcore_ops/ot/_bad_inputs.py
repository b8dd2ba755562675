"""Calls that the transport family refuses, each with the words its message must have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ..testing.cases import BadInput
from ._point_cloud import PointCloud
from ._sinkhorn_newton import sinkhorn_newton
from ._transport_map import transport_map
from ._transport_result import OTResult

_COST = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
_A = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
_B = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


def _with(tensor: torch.Tensor, place: Any, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


def bad_cost_and_masses(solve: Callable[..., OTResult]) -> list[BadInput]:
    """Bad calls of ``sinkhorn_newton`` and ``sinkhorn``."""

    def bad(label: str, words: str, error: type[Exception] = ValueError, **changes: Any) -> BadInput:
        arguments = {"cost": _COST, "a": _A, "b": _B, "reg": 1.0, **changes}
        named = (solve.__name__, *words.split("|"))
        return BadInput(label, lambda: solve(**arguments), error, named)

    meta = torch.device("meta")
    found = [
        bad("cost_vector", "`cost` of shape (n, m)|(4,)", cost=_COST[0]),
        bad("cost_batch", "`cost` of shape (n, m)", cost=_COST[None]),
        bad("cost_no_rows", "`cost`|at least 1|(0, 4)", cost=_COST[:0], a=None, b=None),
        bad("cost_no_columns", "`cost`|at least 1|(3, 0)", cost=_COST[:, :0], a=None, b=None),
        bad("cost_nan", "`cost` without NaN", cost=_with(_COST, (1, 2), math.nan)),
        bad("cost_minus_inf", "`cost`|-inf", cost=_with(_COST, (1, 2), -math.inf)),
        bad("cost_row_forbidden", "`cost` with a finite entry|line 1", cost=_with(_COST, 1, math.inf)),
        bad(
            "cost_column_forbidden", "`cost` with a finite entry|line 2", cost=_with(_COST, (slice(None), 2), math.inf)
        ),
        bad("cost_complex", "`cost` of a real dtype|complex|Convert it", TypeError, cost=_COST.to(torch.complex128)),
        bad("cost_bool", "`cost` of a real dtype|bool|Convert it", TypeError, cost=_COST > 1),
        bad("cost_bool_array", "`cost` of a real dtype|bool|Convert it", TypeError, cost=(_COST > 1).numpy()),
        bad("cost_complex_array", "`cost` of a real dtype|complex|Convert it", TypeError, cost=_COST.numpy() * 1j),
        bad("cost_sparse", "`cost` to be a dense tensor|to_dense", TypeError, cost=_COST.to_sparse()),
        bad("cost_object", "`cost` to be a tensor or an array", TypeError, cost=object()),
        bad("cost_string", "`cost` to be a tensor or an array", TypeError, cost="costs"),
        bad("a_short", "`a` of shape (3,) to match `cost`|(2,)", a=_A[:2]),
        bad("a_matrix", "`a` of shape (3,) to match `cost`|(3, 1)", a=_A[:, None]),
        bad("b_long", "`b` of shape (4,) to match `cost`|(5,)", b=torch.ones(5)),
        bad("a_negative", "`a` to be non-negative|-0.1", a=_with(_A, 0, -0.1)),
        bad("b_negative", "`b` to be non-negative|-0.1", b=_with(_B, 3, -0.1)),
        bad("a_nan", "`a` to be finite", a=_with(_A, 0, math.nan)),
        bad("b_inf", "`b` to be finite", b=_with(_B, 0, math.inf)),
        bad("a_no_mass", "`a` with some mass", a=0 * _A),
        bad("b_no_mass", "`b` with some mass", b=0 * _B),
        bad("a_complex", "`a` of a real dtype", TypeError, a=_A.to(torch.complex128)),
        bad("b_bool", "`b` of a real dtype", TypeError, b=_B > 0),
        bad("unbalanced", "`a` and `b` of equal mass|1.01|0.0099|Rescale one of them", b=1.01 * _B),
        bad("barely_unbalanced", "`a` and `b` of equal mass|e-06|Rescale one of them", b=(1 + 3e-6) * _B),
        bad("a_elsewhere", "`a` on the device of `cost`|meta|Move `a` there", a=_A.to(meta)),
        bad("b_elsewhere", "`b` on the device of `cost`|meta|Move `b` there", b=_B.to(meta)),
        bad("reg_zero", "`reg` to be a finite number above 0|0", reg=0.0),
        bad("reg_negative", "`reg` to be a finite number above 0|-1", reg=-1.0),
        bad("reg_nan", "`reg` to be a finite number above 0|nan", reg=math.nan),
        bad("reg_inf", "`reg` to be a finite number above 0|inf", reg=math.inf),
        bad("reg_text", "`reg` to be a positive number|'small'", TypeError, reg="small"),
        bad("reg_none", "`reg` to be a positive number|None", TypeError, reg=None),
        bad("tol_zero", "`tol` to be a finite number above 0", tol=0.0),
        bad("max_passes_zero", "`max_passes` to be at least 1|0", max_passes=0),
        bad("max_passes_float", "`max_passes` to be an integer|1.5", TypeError, max_passes=1.5),
        bad("init_kind", "`init` to be an OTResult or a pair (f, g)|int", TypeError, init=3),
        bad("init_shape", "`init`|match `cost`", init=(_A[:2], _B[:3])),
        bad("init_nan", "`init` with `f` finite", init=(_A * math.nan, _B * math.nan)),
        BadInput(
            "backend_name",
            lambda: solve(_COST, reg=1.0, backend="fortran"),
            ValueError,
            ("'cpp'", "'reference'", "'fortran'"),
        ),
        BadInput(
            "backend_absent",
            lambda: solve(_COST, reg=1.0, backend="cuda"),
            RuntimeError,
            ("'cuda'", "cannot run", "'cpu'"),
        ),
    ]
    if solve is sinkhorn_newton:
        found += [
            bad("method_name", "`method` to be one of|'newton'|'bfgs'", method="bfgs"),
            bad("max_newton_negative", "`max_newton` to be at least 0|-1", max_newton=-1),
            bad("max_newton_bool", "`max_newton` to be an integer", TypeError, max_newton=True),
        ]
    return found


def bad_points() -> list[BadInput]:
    """Bad calls of ``PointCloud``."""
    x, y = torch.rand(3, 2, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)

    def bad(label: str, words: str, error: type[Exception] = ValueError, **changes: Any) -> BadInput:
        arguments = {"x": x, "y": y, **changes}
        return BadInput(label, lambda: PointCloud(**arguments), error, ("PointCloud", *words.split("|")))

    return [
        bad("x_vector", "`x` of shape (points, coordinates)|(2,)", x=x[0]),
        bad("y_empty", "`y` of shape (points, coordinates)|(0, 2)", y=y[:0]),
        bad("x_no_coordinates", "`x`|(3, 0)", x=x[:, :0], y=y[:, :0]),
        bad("widths", "`y` with 2 coordinates like `x`|3", y=torch.rand(4, 3, dtype=torch.float64)),
        bad("dtypes", "`y` of the dtype of `x`|float32|Convert one", TypeError, y=y.float()),
        bad("x_nan", "`x` to be finite", x=x * math.nan),
        bad("y_inf", "`y` to be finite", y=y / 0),
        bad("x_complex", "`x` of a real dtype", TypeError, x=x.to(torch.complex128)),
        bad("y_bool", "`y` of a real dtype", TypeError, y=y > 0),
        bad("metric", "`metric` to be one of|'sqeuclidean'|'cosine'", metric="cosine"),
        bad("devices", "`y` on the device of `x`|meta|Move `y` there", y=y.to("meta")),
        bad("x_kind", "`x` to be a tensor or an array", TypeError, x=object()),
    ]


def bad_maps() -> list[BadInput]:
    """Bad calls of ``transport_map``, of the map, and of the result's methods."""
    points = PointCloud(torch.rand(3, 2), torch.rand(4, 2))

    def between_points() -> OTResult:
        return sinkhorn_newton(points, reg=1.0)

    def of_matrix() -> OTResult:
        return sinkhorn_newton(_COST, reg=1.0)

    return [
        BadInput(
            "matrix",
            lambda: transport_map(of_matrix()),
            TypeError,
            ("transport_map", "PointCloud", "cost matrix", "Pass points"),
        ),
        BadInput(
            "width",
            lambda: transport_map(between_points())(torch.rand(5, 3)),
            ValueError,
            ("`x_new` of shape (k, 2)", "(5, 3)"),
        ),
        BadInput(
            "vector",
            lambda: transport_map(between_points())(torch.rand(2)),
            ValueError,
            ("`x_new` of shape (k, 2)", "(2,)"),
        ),
        BadInput(
            "nan",
            lambda: transport_map(between_points())(torch.full((1, 2), math.nan)),
            ValueError,
            ("`x_new` to be finite",),
        ),
        BadInput(
            "complex",
            lambda: transport_map(between_points())(torch.rand(3, 2) * 1j),
            TypeError,
            ("`x_new` of a real dtype",),
        ),
        BadInput(
            "threshold", lambda: of_matrix().plan_sparse(-1.0), ValueError, ("`threshold` to be at least 0", "-1")
        ),
        BadInput("apply_axis", lambda: of_matrix().apply(_B, axis=2), ValueError, ("`axis` to be 0 or 1", "2")),
        BadInput(
            "apply_shape", lambda: of_matrix().apply(_A, axis=1), ValueError, ("`v` of shape (4,) or (4, k)", "(3,)")
        ),
        BadInput("apply_complex", lambda: of_matrix().apply(_B * 1j), TypeError, ("`v` of a real dtype",)),
    ]
