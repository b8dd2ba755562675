"""Cases of the public calls over all pairs: ``mmd``, ``energy_distance`` and the Cauchy-Schwarz pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Differentiable, Inputs, Outputs, Tolerance
from . import _bad_inputs_exact as bad_inputs
from . import _reference_exact as reference
from ._divergence import cauchy_schwarz_divergence, cauchy_schwarz_mutual_information
from ._exact import energy_distance, mmd
from ._kernels import KERNELS, check_kernel

Call = Callable[..., Any]


def _with_gradients(call: Call, leaves: tuple[str, ...]) -> Call:
    """The value of a call, and its gradients in the named arguments where they are there."""

    def outputs(**inputs: Any) -> Outputs:
        given = {name: inputs[name].clone().requires_grad_() for name in leaves if inputs.get(name) is not None}
        value = call(**{**inputs, **given})
        gradients = torch.autograd.grad(value.sum(), list(given.values()))
        return {"value": value.detach(), **{f"grad_{name}": g for name, g in zip(given, gradients, strict=True)}}

    return outputs


def _api(call: Call, leaves: tuple[str, ...]) -> Callable[..., Outputs]:
    outputs = _with_gradients(call, leaves)

    def api(backend: str, **inputs: Any) -> Outputs:
        with _backend.use_backend(backend):
            return outputs(**inputs)

    return api


def _matrix(x: Tensor, y: Tensor, **options: Any) -> Tensor:
    kernel = check_kernel("reference", **options)
    return reference.pair_kernel(x, y, kernel.code, kernel.scale, kernel.shape)[0]


def _dense_mmd(
    x: Tensor,
    y: Tensor,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    unbiased: bool = False,
    half: bool = False,
    signed: bool = False,
    **options: Any,
) -> Tensor:
    """The three sums over whole matrices."""
    options = {"kernel": "riesz", "unbiased": unbiased, **options}
    a = reference.uniform(x) if x_weights is None else x_weights
    b = reference.uniform(y) if y_weights is None else y_weights
    within = []
    for points, weights in ((x, a), (y, b)):
        matrix = _matrix(points, points, **options)
        n = points.shape[0]
        if unbiased:
            matrix = matrix.where(~torch.eye(n, dtype=torch.bool, device=x.device), 0.0) * (n / (n - 1))
        within.append(weights @ matrix @ weights)
    total = within[0] + within[1] - 2 * (a @ _matrix(x, y, **options) @ b)
    return total / 2 if half else total


def _dense_divergence(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    xx, yy, xy = (
        _matrix(*pair, kernel="gaussian", bandwidth=bandwidth).mean().log() for pair in ((x, x), (y, y), (x, y))
    )
    return xx + yy - 2 * xy


def _dense_information(x: Tensor, y: Tensor, x_bandwidth: float, y_bandwidth: float) -> Tensor:
    k = _matrix(x, x, kernel="gaussian", bandwidth=x_bandwidth)
    q = _matrix(y, y, kernel="gaussian", bandwidth=y_bandwidth)
    rows = (k.mean(1) * q.mean(1)).mean()
    return (k * q).mean().log() + (k.mean() * q.mean()).log() - 2 * rows.log()


def _clouds(dtype: torch.dtype, device: str, seed: int, n: int, m: int, d: int, **more: Any) -> Inputs:
    generator = torch.Generator().manual_seed(seed + 100 * n + m)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return {"x": x.to(device, dtype), "y": (y + 0.5).to(device, dtype), **more}


def _masses(dtype: torch.dtype, device: str, seed: int, n: int, m: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed + n)
    a, b = (torch.rand(k, generator=generator, dtype=torch.float64) + 0.1 for k in (n, m))
    return {"x_weights": (a / a.sum()).to(device), "y_weights": (b / b.sum()).to(device)}


def _mmd_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    def clouds(*sizes: int, **more: Any) -> Inputs:
        return _clouds(dtype, device, seed, *sizes, **more)

    found = {name: clouds(31, 24, 3, kernel=name, bandwidth=0.8, unbiased=name == "log") for name in KERNELS}
    found["weights"] = {**clouds(31, 24, 3), **_masses(dtype, device, seed, 31, 24)}
    found["signed"] = {**found["weights"], "signed": True, "half": True}
    found["signed"]["x_weights"] = found["signed"]["x_weights"] - 0.05
    found["unbiased"] = clouds(9, 12, 5, unbiased=True)
    found["matern_general"] = clouds(9, 12, 5, kernel="matern", bandwidth=2.0, nu=0.9)
    found["two_points"] = clouds(1, 1, 2)
    return found


def _energy_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    plain = _clouds(dtype, device, seed, 70, 40, 2)
    return {
        "plain": plain,
        "weights": {**plain, **_masses(dtype, device, seed, 70, 40)},
        "half": {**plain, "half": True},
    }


def _divergence_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    return {"plain": _clouds(dtype, device, seed, 40, 33, 3, bandwidth=1.1)}


def _information_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found = _clouds(dtype, device, seed, 40, 40, 3)
    found["y"] = found["x"][:, :2] + found["y"][:, :2] / 2
    return {"plain": {**found, "x_bandwidth": 1.1, "y_bandwidth": 0.9}}


_LEAVES = ("x", "y", "x_weights", "y_weights")


def _cancellation(inputs: Inputs, dtype: torch.dtype) -> float:
    """How much smaller the value is than what it is the difference of, up to the gradients' own."""
    options = {name: value for name, value in inputs.items() if name not in (*_LEAVES, "half", "signed")}
    options.setdefault("kernel", "riesz")
    x, y = inputs["x"].double().cpu(), inputs["y"].double().cpu()
    between = float(_matrix(x, y, **options).abs().mean())
    wide: dict[str, Any] = {name: v.double().cpu() if isinstance(v, Tensor) else v for name, v in inputs.items()}
    return 1.0 + between / max(abs(float(_dense_mmd(**wide))), 1e-300)


def _smooth_pair(d: int = 2) -> tuple[Tensor, Tensor]:
    inputs = _clouds(torch.float64, "cpu", 3, 6, 5, d)
    return inputs["x"].requires_grad_(), inputs["y"].requires_grad_()


def _differentiable_mmd() -> list[Differentiable]:
    x, y = _smooth_pair()
    a, b = (torch.linspace(0.1, 0.3, k, dtype=torch.float64).requires_grad_() for k in (6, 5))
    found = []
    for kernel in KERNELS:
        if kernel == "log":
            continue

        def weighted(x: Tensor, y: Tensor, a: Tensor, b: Tensor, kernel: str = kernel) -> Tensor:
            return mmd(x, y, kernel=kernel, bandwidth=0.9, x_weights=a, y_weights=b, signed=True)

        found.append(Differentiable(kernel, weighted, (x, y, a, b)))
    found.append(Differentiable("log", lambda x, y: mmd(x, y, kernel="log", unbiased=True), (x, y)))
    found.append(Differentiable("root", lambda x, y: mmd(x, y, r=0.5, unbiased=True), (x, y)))
    return found


def _one(label: str, function: Call) -> Callable[[], list[Differentiable]]:
    def found() -> list[Differentiable]:
        x, y = _smooth_pair()
        return [Differentiable(label, lambda x, y: function(x, y[[0, 1, 2, 3, 4, 0]]), (x, y))]

    return found


def _case(
    name: str,
    call: Call,
    truth: Call,
    inputs: Callable[..., dict[str, Inputs]],
    tolerance: dict[str, Tolerance],
    bad: Callable[[], list[BadInput]],
    smooth: Callable[[], list[Differentiable]],
    leaves: tuple[str, ...] = ("x", "y"),
    condition: Callable[[Inputs, torch.dtype], float] = lambda inputs, dtype: 1.0,
) -> Case:
    return Case(
        name=name,
        api=_api(call, leaves),
        reference=_with_gradients(truth, leaves),
        inputs=inputs,
        tolerance=tolerance,
        main_op="mmd_exact_bwd",
        bad_inputs=bad,
        differentiable=smooth,
        condition=condition,
    )


_WEIGHTED = {
    "value": Tolerance(12, worst=6.3),
    "grad_x": Tolerance(5, worst=2.0),
    "grad_y": Tolerance(5, worst=2.4),
    "grad_x_weights": Tolerance(4, worst=1.5),
    "grad_y_weights": Tolerance(4, worst=2.1),
}
_DIVERGENCE = {
    "value": Tolerance(14, worst=7.1),
    "grad_x": Tolerance(8, worst=4.0),
    "grad_y": Tolerance(8, worst=3.7),
}
_INFORMATION = {
    "value": Tolerance(20, worst=10.9),
    "grad_x": Tolerance(12, worst=5.8),
    "grad_y": Tolerance(12, worst=6.0),
}

CALL_CASES = [
    _case(
        "mmd",
        mmd,
        _dense_mmd,
        _mmd_inputs,
        _WEIGHTED,
        bad_inputs.bad_distances,
        _differentiable_mmd,
        _LEAVES,
        _cancellation,
    ),
    _case(
        "energy_distance",
        energy_distance,
        _dense_mmd,
        _energy_inputs,
        _WEIGHTED,
        bad_inputs.bad_energy_distances,
        _one("energy", energy_distance),
        _LEAVES,
        _cancellation,
    ),
    _case(
        "cauchy_schwarz_divergence",
        cauchy_schwarz_divergence,
        _dense_divergence,
        _divergence_inputs,
        _DIVERGENCE,
        bad_inputs.bad_divergences,
        _one("divergence", lambda x, y: cauchy_schwarz_divergence(x, y, bandwidth=0.9)),
    ),
    _case(
        "cauchy_schwarz_mutual_information",
        cauchy_schwarz_mutual_information,
        _dense_information,
        _information_inputs,
        _INFORMATION,
        bad_inputs.bad_informations,
        _one("information", lambda x, y: cauchy_schwarz_mutual_information(x, y, x_bandwidth=0.9, y_bandwidth=0.7)),
    ),
]
