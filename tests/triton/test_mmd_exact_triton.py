"""The exact kernel sums in Triton, in the interpreter: TRITON_INTERPRET=1 in a process of its own. Parity: tests/contract."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

from fastcore_ops import _backend, mmd
from fastcore_ops.mmd import _cases_exact as cases
from fastcore_ops.mmd import _reference_exact as reference
from fastcore_ops.testing.compare import relative_error

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
]
F32, F64 = torch.float32, torch.float64


@pytest.fixture(scope="module")
def op():
    pytest.importorskip("triton")
    importlib.import_module("fastcore_ops.triton_kernels.mmd_exact")
    return torch.ops.fastcore_triton


def arguments(n, m, d, kernel="riesz", dtype=F32, **more):
    return cases._arguments(dtype, "cpu", 0, n, m, d, kernel, **more)


def assert_true(found, inputs, units):
    """Outputs of the backward against float64, in units of the rounding of the points' type."""
    wide = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
    for got, want in zip(found, reference.exact_bwd(**wide), strict=True):
        assert relative_error(got, want) <= units * torch.finfo(inputs["x"].dtype).eps


@pytest.mark.parametrize("kernel", ["riesz", "matern", "polynomial"])
def test_mmd_exact_triton_of_several_groups(op, kernel):
    """Columns in groups, their last tile cut; rows in tiles."""
    inputs = arguments(37, 601, 2, kernel, weights=True)
    assert_true(op.mmd_exact_bwd(**inputs), inputs, 8)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("factor", [1e20, 1e-20])
def test_mmd_exact_triton_of_numbers_whose_squares_overflow(op, factor, alone):
    inputs = arguments(9, 0 if alone else 7, 3)
    for name in ("x", "y"):
        inputs[name] = None if inputs[name] is None else inputs[name] * factor
    assert_true(op.mmd_exact_bwd(**inputs), inputs, 2)


def test_mmd_exact_triton_far_from_the_origin(op):
    """Differences of points are taken first: in whole numbers they are exact."""
    inputs = arguments(40, 33, 5)
    for name in ("x", "y"):
        inputs[name] = (8 * inputs[name]).round()
    moved = {**inputs, "x": inputs["x"] + 1e6, "y": inputs["y"] + 1e6}
    for got, want in zip(op.mmd_exact_bwd(**moved), op.mmd_exact_bwd(**inputs), strict=True):
        assert torch.equal(got, want)


def test_mmd_exact_triton_silences_points_without_weight(op):
    """Coinciding points, whose logarithm is infinite: one of them weighs nothing."""
    inputs = arguments(5, 4, 2, "log", F64, weights=True)
    inputs["y"][1] = inputs["x"][2]
    total, potential_x, _ = op.mmd_exact_fwd(**inputs)
    assert not potential_x[2].isfinite() and not total.isfinite()
    inputs["y_weights"][1] = 0.0
    total, potential_x, _ = op.mmd_exact_fwd(**inputs)
    assert potential_x.isfinite().all() and total.isfinite().all()


def test_mmd_exact_triton_wants(op):
    inputs = arguments(9, 8, 3)
    whole = op.mmd_exact_bwd(**inputs)
    for bit in range(5):
        for k, part in enumerate(op.mmd_exact_bwd(**{**inputs, "outputs": 1 << bit})):
            assert torch.equal(part, whole[k]) if k == bit else part.shape == (0,)
    for part, want in zip(op.mmd_exact_fwd(**inputs), whole[2:], strict=True):
        assert torch.equal(part, want)


@pytest.mark.parametrize("label", cases._CHANGES)
def test_mmd_exact_triton_bad_arguments(op, label):
    argument, change = cases._CHANGES[label]
    inputs = arguments(6, 7, 2, dtype=F64, weights=True)
    inputs[argument] = change(inputs[argument])
    for name in ("mmd_exact_fwd", "mmd_exact_bwd"):
        with pytest.raises(RuntimeError, match=f"{name}: .*`{argument}`"):
            getattr(op, name)(**inputs)


@pytest.mark.parametrize("alone", [False, True])
def test_mmd_exact_triton_opcheck(op, alone):
    inputs = arguments(5, 0 if alone else 7, 2, weights=True)
    for name in ("mmd_exact_fwd", "mmd_exact_bwd"):
        torch.library.opcheck(getattr(op, name).default, tuple(inputs.values()))


def test_mmd_exact_triton_under_the_calls(op):
    x, y = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=F64).unbind()
    for kernel in ("riesz", "gaussian", "polynomial"):
        found = []
        for backend in ("triton", "reference"):
            leaf = x.clone().requires_grad_()
            with _backend.use_backend(backend):
                value = mmd.mmd(leaf, y, kernel=kernel, unbiased=True)
                found.append((value.detach(), *torch.autograd.grad(value, leaf)))
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
