"""Cases of the exact kernel sums and of the calls made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
from . import _reference_exact as reference
from ._kernels import KERNELS
from ._matern_table import CLOSED_FORMS, matern_table

_FWD = ("sum", "potential_x", "potential_y")
_BWD = ("grad_x", "grad_y", *_FWD)
_NUMBERS = {  # bandwidth and shape of each kernel's case
    "riesz": (1.0, 1.0),
    "gaussian": (0.7, 0.0),
    "laplace": (0.6, 0.0),
    "matern": (0.8, 1.5),
    "rational_quadratic": (0.9, 1.3),
    "imq": (0.5, 0.5),
    "log": (1.0, 0.0),
    "thin_plate": (1.0, 0.0),
    "polynomial": (1.0, 3.0),
}


def _arguments(
    dtype: torch.dtype,
    device: str,
    seed: int,
    n: int,
    m: int,
    d: int,
    kernel: str,
    numbers: tuple[float, float] | None = None,
    weights: bool = False,
    outputs: int = 31,
) -> Inputs:
    """Two clouds, or one (m = 0), a quarter of a spread apart."""
    generator = torch.Generator().manual_seed(seed + 1000 * n + 10 * m + d)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    scale, shape = numbers or _NUMBERS[kernel]
    table = None
    if kernel == "matern" and shape not in CLOSED_FORMS:
        table = matern_table(shape, torch.device(device))
    x = normal(n, d).to(dtype)
    return {
        "x": x,
        "y": (normal(m, d) + 0.25).to(dtype) if m else None,
        "x_weights": normal(n) / n if weights else None,
        "y_weights": normal(m) / m if weights and m else None,
        "kernel": KERNELS.index(kernel),
        "scale": scale,
        "shape": shape,
        "table": table,
        "diagonal": kernel != "log",
        "outputs": outputs,
    }


def exact_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Every kernel, tiles that are full, cut and several, one cloud and two, weights of both signs."""
    make = lambda *args, **more: _arguments(dtype, device, seed, *args, **more)  # noqa: E731
    found = {f"{kernel}": make(37, 70, 3, kernel) for kernel in KERNELS}
    found |= {f"{kernel}_alone": make(70, 0, 3, kernel) for kernel in KERNELS}
    for shape in (0.5, 1.25, 1.75):
        found[f"riesz_{shape}"] = make(20, 15, 5, "riesz", (1.0, shape))
    for nu in (0.5, 2.5, 0.8, 3.1):
        found[f"matern_{nu}"] = make(20, 15, 5, "matern", (1.5, nu))
    found["line"] = make(150, 65, 1, "riesz", weights=True)
    found["weights_alone"] = make(66, 0, 2, "gaussian", weights=True)
    found["no_diagonal"] = {**make(66, 0, 2, "gaussian"), "diagonal": False}
    found["deep"] = make(11, 9, 300, "riesz")
    found["square_polynomial"] = make(11, 9, 20, "polynomial", (1.0, 2.0))
    found["sum_only"] = make(9, 10, 4, "riesz", outputs=reference.SUM)
    found["one_side"] = make(9, 66, 17, "laplace", outputs=reference.GRAD_Y | reference.POTENTIAL_Y)
    points = make(40, 33, 2, "riesz")
    points["y"][:20] = points["x"][:20]  # coinciding points
    found["coinciding"] = points
    spoilt = make(9, 8, 2, "gaussian")
    spoilt["y"][3, 1] = torch.inf
    found["not_finite"] = spoilt
    found["one_point"] = make(1, 1, 1, "riesz")
    found["panels"] = make(2100, 300, 2, "riesz")
    found["panels_alone"] = make(2100, 0, 2, "riesz")
    return found


def _run(name: str, names: tuple[str, ...]) -> Callable[..., Outputs]:
    def api(backend: str, **inputs: Any) -> Outputs:
        operator = _backend.pick(name, inputs["x"].device, backend, main=True)
        return dict(zip(names, operator(*inputs.values()), strict=True))

    return api


def _truth(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Outputs]:
    return lambda **inputs: dict(zip(names, function(*inputs.values()), strict=True))


_CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "x_strided": ("x", lambda x: x.t()),
    "x_empty": ("x", lambda x: x[:0]),
    "y_narrow": ("y", lambda y: y[:, 1:].contiguous()),
    "y_float32": ("y", lambda y: y.float()),
    "weights_short": ("x_weights", lambda w: w[1:].contiguous()),
    "weights_float32": ("y_weights", lambda w: w.float()),
    "unknown_kernel": ("kernel", lambda kernel: 99),
    "needless_table": ("table", lambda table: torch.zeros(1184, 16, dtype=torch.float64)),
}


def _bad(name: str) -> Callable[[], list[BadInput]]:
    def spoilt() -> list[BadInput]:
        found = []
        for label, (argument, change) in _CHANGES.items():

            def call(argument: str = argument, change: Callable[[Any], Any] = change) -> Any:
                inputs = _arguments(torch.float64, "cpu", 0, 6, 7, 2, "riesz", weights=True)
                inputs[argument] = change(inputs[argument])
                return _backend.pick(name, torch.device("cpu"))(*inputs.values())

            found.append(BadInput(label, call, RuntimeError, (name, f"`{argument}`")))
        return found

    return spoilt


def _condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """Sums are in float64: there their length shows, in float32 only the rounding of each pair."""
    longest = max(inputs["x"].shape[0], 0 if inputs["y"] is None else inputs["y"].shape[0])
    return max(1.0, longest**0.5 / 8) if dtype == torch.float64 else 1.0


_SUMS = {
    "sum": Tolerance(5, worst=1.6),
    "potential_x": Tolerance(8, worst=3.2),
    "potential_y": Tolerance(10, worst=4.8),
}
_GRADIENTS = {"grad_x": Tolerance(10, worst=4.9), "grad_y": Tolerance(10, worst=5.3)}

EXACT_CASES = [
    Case(
        name="mmd_exact_fwd",
        api=_run("mmd_exact_fwd", _FWD),
        reference=_truth(reference.exact_fwd, _FWD),
        inputs=exact_inputs,
        tolerance=_SUMS,
        condition=_condition,
        main_op="mmd_exact_fwd",
        ops=("mmd_exact_fwd",),
        bad_inputs=_bad("mmd_exact_fwd"),
    ),
    Case(
        name="mmd_exact_bwd",
        api=_run("mmd_exact_bwd", _BWD),
        reference=_truth(reference.exact_bwd, _BWD),
        inputs=exact_inputs,
        tolerance={**_SUMS, **_GRADIENTS},
        condition=_condition,
        main_op="mmd_exact_bwd",
        ops=("mmd_exact_bwd",),
        bad_inputs=_bad("mmd_exact_bwd"),
    ),
]
