"""Compares what a backend computes with the float64 reference."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _backend
from .cases import Case, Inputs, copied, each_tensor


def serves(case: Case, backend: str, device: str) -> bool:
    """Whether a backend can run the main operator of a case on a device."""
    try:
        _backend.pick(case.main_op, torch.device(device), backend, main=True)
    except RuntimeError:
        return False
    return True


def truth_inputs(inputs: Inputs) -> Inputs:
    """The same inputs for the reference: on the CPU, floating tensors in float64."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        return tensor.double() if tensor.is_floating_point() else tensor

    return each_tensor(copied(inputs), convert)


def relative_error(got: Tensor, want: Tensor) -> float:
    """Largest difference over the largest finite entry of the truth; infinite where the patterns of inf or NaN differ."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    if got.shape != want.shape:
        return float("inf")
    finite = want.isfinite()
    if not torch.equal(got.masked_fill(finite & got.isfinite(), 0.0).nan_to_num(nan=7.0),
                       want.masked_fill(finite, 0.0).nan_to_num(nan=7.0)):  # fmt: skip
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    scale = float(want[finite].abs().max())
    return float((got[finite] - want[finite]).abs().max()) / (scale if scale > 0 else 1.0)


def measure(
    case: Case, backend: str, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> dict[tuple[str, str], float]:
    """Error of each output of each variant, in units of ``eps(dtype) * condition``; 0 or inf for integer outputs."""
    errors = {}
    for variant, inputs in case.inputs(dtype, device, seed).items():
        unit = torch.finfo(dtype).eps * case.condition(inputs, dtype)
        want = case.reference(**truth_inputs(inputs))
        got = case.api(backend, **copied(inputs))
        if got.keys() != want.keys():
            raise AssertionError(f"{case.name}: outputs {sorted(got)} instead of {sorted(want)}")
        for name, truth in want.items():
            if truth.is_floating_point():
                errors[variant, name] = relative_error(got[name], truth) / unit
            else:
                errors[variant, name] = 0.0 if torch.equal(got[name].cpu(), truth) else float("inf")
    return errors


def check_parity(case: Case, backend: str, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> bool:
    """Raise AssertionError where a backend is farther from the reference than the case allows.

    Returns False, and checks nothing, where the backend has no kernel for the case's main operator.
    """
    if not serves(case, backend, device):
        return False
    failures = []
    for (variant, name), error in measure(case, backend, dtype, device, seed).items():
        allowed = case.tolerance[name].c if name in case.tolerance else 0.0
        if not error <= allowed:
            failures.append(f"{variant}.{name}: {error:.3g} > {allowed:g} units of eps * condition")
    if failures:
        raise AssertionError(f"{case.name} on {backend}, {device}, {dtype}: " + "; ".join(failures))
    return True
