"""Cases of the operators that are not ranks: sums of exponentials and Fourier modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
from . import _reference_smooth, _spectrum

_NAMES = ("grad_x", "grad_y", "value", "potential_x", "potential_y")
_ALL = 31
Changes = dict[str, tuple[str, Callable[[Any], Any]]]  # label: argument and what spoils it


def _clouds(dtype: torch.dtype, device: str, seed: int, slices: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + 100 * n + m)
    x, y = (torch.randn(slices, k, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.to(device, dtype), (1.3 * y + 0.2).to(device, dtype)


def _masses(device: str, seed: int, *shape: int, signed: bool = False) -> Tensor:
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn - 0.3 if signed else drawn / drawn.sum(-1, keepdim=True)).to(device)


def _variants(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Clouds and weights in all the forms that both operators take; the last with every output and no NaN."""

    def of(x: Tensor, y: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> Inputs:
        return {"x": x, "y": y, "x_weights": a, "y_weights": b}

    x, y = _clouds(dtype, device, seed, 3, 37, 29)
    tied_x, tied_y = ((4 * t).round() / 4 for t in _clouds(dtype, device, seed, 2, 41, 50))
    zero = _masses(device, seed, 37)
    zero[::5] = 0.0
    spoilt = x.clone()
    spoilt[1, 3] = -torch.inf
    far = y.clone()
    far[2, -1] = torch.inf
    return {
        "plain": of(x, y),
        "ties": of(tied_x, tied_y),
        "one_each": of(x[:, :1].contiguous(), y[:, :1].contiguous()),
        "coincident": of(x[:, :1].contiguous(), x[:, :1].contiguous()),
        "one_value": of(torch.ones_like(x), torch.ones_like(y)),
        "not_finite": of(spoilt, far),
        "weights": of(x, y, zero, _masses(device, seed, 29)),
        "signed": of(x, y, _masses(device, seed, 3, 37, signed=True), _masses(device, seed, 3, 29, signed=True)),
        "outlier": of(torch.cat([x, torch.full_like(x[:, :1], 1e4)], 1), y),
        "long": of(*_clouds(dtype, device, seed, 2, 700, 300)),
    }


_FORMS = {
    "half": (0, 0.5),
    "near_one": (0, 1.01),
    "one_and_half": (0, 1.5),
    "high": (0, 1.9),
    "log": (6, 0.0),
    "thin": (7, 2.0),
}


def _soe_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, clouds in _variants(dtype, device, seed).items():
        for form, (kernel, r) in _FORMS.items():
            end = {"kernel": kernel, "r": r, "quadratic": 0.3 if kernel == 7 else 0.0, "scale": -1.7}
            found[f"{name}_{form}"] = {**clouds, **end, "unbiased": False, "outputs": _ALL}
    for form in _FORMS:
        found[f"unbiased_{form}"] = {**found[f"plain_{form}"], "unbiased": True}
        found[f"unbiased_ties_{form}"] = {**found[f"ties_{form}"], "unbiased": True}
    found["only_gradients"] = {**found["plain_half"], "outputs": 3}
    found["only_value"] = {**found["plain_high"], "outputs": 4}
    found["only_y"] = {**found["unbiased_log"], "outputs": 18}
    found["last"] = found["long_one_and_half"]
    return found


_KERNELS = {"gaussian": (1, 0.0), "laplace": (2, 0.0), "matern": (3, 1.5), "rational": (4, 1.0), "imq": (5, 0.5)}


def _series(kernel: int, shape: float, d: int, double: bool, bandwidth: float, device: str) -> Inputs:
    low, high = _spectrum.band(kernel, d, shape, double)
    stretch, margin = _spectrum.period(kernel, d, double)
    return {
        "bandwidth": torch.tensor(bandwidth, dtype=torch.float64, device=device),
        "kernel": kernel,
        "d": d,
        "shape": shape,
        "kink": _spectrum.kink(kernel, d),
        "low": low,
        "high": high,
        "stretch": stretch,
        "margin": margin,
        "unbiased": False,
        "outputs": _ALL,
    }


def _fourier_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    double = dtype == torch.float64
    kernels = list(_KERNELS.items())
    for k, (name, clouds) in enumerate(_variants(dtype, device, seed).items()):
        if name in ("one_value", "coincident"):  # 0 there, and rounding in the reference
            continue
        for form, (kernel, shape) in (
            kernels if name in ("plain", "weights", "signed") else (kernels[k % 5], kernels[(k + 2) % 5])
        ):
            for d in (1, 40) if name in ("plain", "signed") else (5,):
                width = 30.0 if name == "outlier" else 2.0
                found[f"{name}_{form}_{d}"] = {**clouds, **_series(kernel, shape, d, double, width, device)}
    for form in _KERNELS:
        found[f"unbiased_{form}"] = {**found[f"plain_{form}_40"], "unbiased": True}
    found["many_dimensions"] = {**found["plain_gaussian_40"], **_series(1, 0.0, 784, double, 30.0, device)}
    found["cut"] = {**found["plain_gaussian_40"], **_series(1, 0.0, 3, double, 1e-3, device)}
    found["cut_below"] = {**found["plain_gaussian_40"], **_series(4, 1.0, 200, double, 1e-2, device)}
    found["only_gradients"] = {**found["plain_imq_40"], "outputs": 3}
    found["only_value"] = {**found["plain_laplace_40"], "outputs": 4}
    found["only_y"] = {**found["unbiased_laplace"], "outputs": 18}
    long = _variants(dtype, device, seed)["long"]
    found["last"] = {**long, **_series(3, 1.5, 5, double, 2.0, device)}
    return found


def _named(operator: Callable[..., Any], inputs: Inputs) -> Outputs:
    found = operator(*inputs.values())
    return dict(zip((*_NAMES, "modes"), found, strict=False))


def _run(name: str) -> Callable[..., Outputs]:
    return lambda backend, **inputs: _named(_backend.pick(name, inputs["x"].device, backend, main=True), inputs)


def _soe_condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """The sums of exponentials are 32 nodes in float32, 96 in float64: what they leave, in units of eps."""
    left = 1e-5 if dtype == torch.float32 else 1e-11
    return 1.0 + left / torch.finfo(dtype).eps


def _fourier_condition(inputs: Inputs, dtype: torch.dtype) -> float:
    """All is float64 inside; phases of up to 4096 turns are rounded."""
    return 1.0 + 4096 * torch.finfo(torch.float64).eps / torch.finfo(dtype).eps


def _spoilt(name: str, good: Callable[[], Inputs], changes: Changes) -> list[BadInput]:
    found = []
    for label, (argument, change) in changes.items():

        def call(argument: str = argument, change: Callable[[Any], Any] = change) -> Any:
            inputs = good()
            inputs[argument] = change(inputs[argument])
            return _backend.pick(name, torch.device("cpu"))(*inputs.values())

        found.append(BadInput(label, call, RuntimeError, (name, f"`{argument}`")))
    return found


_BAD: Changes = {
    "x_strided": ("x", lambda x: x.t()),
    "y_dtype": ("y", lambda y: y.float()),
    "y_slices": ("y", lambda y: y[1:].contiguous()),
    "x_weights_short": ("x_weights", lambda a: a[1:].contiguous()),
    "y_weights_float32": ("y_weights", lambda b: b.float()),
    "y_weights_missing": ("y_weights", lambda b: None),
    "kernel_unknown": ("kernel", lambda kernel: 99),
    "unbiased_weights": ("unbiased", lambda unbiased: True),
}


_BAD_POWER: Changes = {
    "r_one": ("r", lambda r: 1.0),
    "r_two": ("r", lambda r: 2.0),
    "r_nan": ("r", lambda r: float("nan")),
}
_BAD_SERIES: Changes = {
    "bandwidth_float32": ("bandwidth", lambda width: width.float()),
    "bandwidth_of_each": ("bandwidth", lambda width: width.expand(2).contiguous()),
    "margin_zero": ("margin", lambda margin: 0.0),
    "d_zero": ("d", lambda d: 0),
}


def _bad(
    name: str, inputs: Callable[..., dict[str, Inputs]], variant: str, changes: Changes
) -> Callable[[], list[BadInput]]:
    return lambda: _spoilt(name, lambda: inputs(torch.float64, "cpu", 0)[variant], changes)


_SUM_TOLERANCE = {
    **dict.fromkeys(("grad_x", "grad_y"), Tolerance(7, worst=2.2)),
    **dict.fromkeys(("value", "potential_x", "potential_y"), Tolerance(2, worst=0.54)),
}

SMOOTH_CASES = [
    Case(
        name="mmd_soe",
        api=_run("mmd_soe"),
        reference=lambda **inputs: _named(_reference_smooth.soe, inputs),
        inputs=_soe_inputs,
        tolerance=_SUM_TOLERANCE,
        condition=_soe_condition,
        main_op="mmd_soe",
        bad_inputs=_bad("mmd_soe", _soe_inputs, "weights_half", _BAD | _BAD_POWER),
        ops=("mmd_soe",),
    ),
    Case(
        name="mmd_fourier",
        api=_run("mmd_fourier"),
        reference=lambda **inputs: _named(_reference_smooth.fourier, inputs),
        inputs=_fourier_inputs,
        tolerance={name: Tolerance(3, worst=1.1) for name in _NAMES},
        condition=_fourier_condition,
        main_op="mmd_fourier",
        bad_inputs=_bad("mmd_fourier", _fourier_inputs, "weights_gaussian_5", _BAD | _BAD_SERIES),
        ops=("mmd_fourier",),
    ),
]
