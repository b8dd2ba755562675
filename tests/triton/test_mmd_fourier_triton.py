"""Fourier modes in Triton, in the interpreter: TRITON_INTERPRET=1 in a process of its own. Parity: tests/contract."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

import fastcore_ops as fo
from fastcore_ops import _backend
from fastcore_ops.mmd import _cases_smooth as cases
from fastcore_ops.mmd import _reference_smooth as reference
from fastcore_ops.mmd import _spectrum
from fastcore_ops.testing.compare import relative_error

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
    pytest.mark.filterwarnings(
        "ignore:(invalid value|divide by zero|overflow):RuntimeWarning"
    ),  # numpy's, of infinities
]
F32, F64 = torch.float32, torch.float64


@pytest.fixture(scope="module")
def op():
    pytest.importorskip("triton")
    importlib.import_module("fastcore_ops.triton_kernels.mmd_fourier")
    return torch.ops.fastcore_triton.mmd_fourier


@pytest.fixture
def small_tiles(op, monkeypatch):
    """Tiles as on a GPU: many of them, and several of modes."""
    kernels = importlib.import_module("fastcore_ops.triton_kernels.mmd_fourier_kernels")
    for name, size in (("BLOCK_SUMS", 32), ("BLOCK_POINTS", 32), ("BLOCK_MODES", 8)):
        monkeypatch.setattr(kernels, name, size)


def arguments(n, m, kernel="imq", d=5, dtype=F64, slices=1, weights=False, bandwidth=2.0, **more):
    x, y = cases._clouds(dtype, "cpu", 0, slices, n, m)
    code, shape = cases._KERNELS[kernel]
    masses = [cases._masses("cpu", 0, size) if weights else None for size in (n, m)]
    start = {"x": x, "y": y, "x_weights": masses[0], "y_weights": masses[1]}
    return start | cases._series(code, shape, d, dtype == F64, bandwidth, "cpu") | more


def assert_true(found, inputs, units=3.0):
    """Outputs against the reference, in the units of the case."""
    wide = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
    *wanted, modes = reference.fourier(**wide)
    unit = torch.finfo(inputs["x"].dtype).eps * cases._fourier_condition(inputs, inputs["x"].dtype)
    for got, want in zip(found, wanted, strict=False):
        assert relative_error(got, want) <= units * unit
    assert torch.equal(found[5], modes)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 129])
@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_mmd_fourier_triton_at_the_edges_of_tiles(op, small_tiles, n, kernel):
    for weights in (False, True):
        inputs = arguments(n, 65 - n % 3, kernel, weights=weights)
        assert_true(op(**inputs), inputs)


@pytest.mark.parametrize("count", [7, 8, 9, 16, 17])
def test_mmd_fourier_triton_at_the_edges_of_modes(op, small_tiles, count):
    inputs = arguments(20, 30)
    union = torch.cat([inputs["x"], inputs["y"]], 1)
    span = float((union.max() - union.min()) / inputs["bandwidth"])
    length = inputs["stretch"] * _spectrum.rounded_up(span) + inputs["margin"]
    inputs |= {"low": 2.5 / length, "high": (count + 2.5) / length}  # from the third mode on
    found = op(**inputs)
    assert int(found[5]) == count
    assert_true(found, inputs)


@pytest.mark.parametrize("programs", [1, 6, 64])
def test_mmd_fourier_triton_of_several_groups(op, monkeypatch, programs):
    """Groups of a slice's points, the last one cut, and more of them than are added up at once."""
    monkeypatch.setattr(importlib.import_module("fastcore_ops.triton_kernels.mmd_fourier"), "WANTED_PROGRAMS", programs)
    for kernel, weights in (("gaussian", False), ("laplace", True), ("laplace", False)):
        inputs = arguments(650, 130, kernel, slices=2, weights=weights)
        assert_true(op(**inputs), inputs)


def test_mmd_fourier_triton_of_several_blocks_of_slices(op, monkeypatch):
    module = importlib.import_module("fastcore_ops.triton_kernels.mmd_fourier")
    inputs = arguments(70, 50, "laplace", slices=5)
    rows = {name: cases._masses("cpu", 3, 5, size) for name, size in (("x_weights", 70), ("y_weights", 50))}
    inputs |= rows
    monkeypatch.setattr(module, "MOST_GROUPS", 1)
    whole = op(**inputs)
    assert_true(whole, inputs)
    monkeypatch.setattr(module, "MOST_SLICES", 2)
    for got, want in zip(op(**inputs), whole, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("kernel", cases._KERNELS)
@pytest.mark.parametrize("d", [2, 784])
def test_mmd_fourier_triton_in_many_and_few_dimensions(op, kernel, d):
    for dtype, bandwidth in ((F64, 1.0), (F32, 20.0)):
        inputs = arguments(40, 30, kernel, d, dtype, bandwidth=bandwidth)
        assert_true(op(**inputs), inputs)


@pytest.mark.parametrize("kernel", ["laplace", "rational"])
@pytest.mark.parametrize("size", [1, 65, 999])
def test_mmd_fourier_triton_of_identical_samples(op, kernel, size, dtype):
    """Zero, in any order of the points."""
    inputs = arguments(size, 1, kernel, 7, dtype, slices=2)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    inputs["y"] = inputs["x"][:, order].contiguous()
    for part in op(**inputs)[:3]:
        assert (part == 0).all()


def test_mmd_fourier_triton_of_one_place(op, dtype):
    inputs = arguments(5, 3, "gaussian", dtype=dtype)
    inputs |= {"x": torch.full((2, 5), 3.7, dtype=dtype), "y": torch.full((2, 3), 3.7, dtype=dtype)}
    assert all((part == 0).all() for part in op(**inputs)[:3])


@pytest.mark.parametrize("kernel", ["laplace", "imq"])
@pytest.mark.parametrize("weights", [False, True])
def test_mmd_fourier_triton_spoils_no_other_slice(op, kernel, weights, dtype):
    inputs = arguments(90, 70, kernel, dtype=dtype, slices=4, weights=weights)
    clean = op(**inputs)
    inputs["x"][0, 2], inputs["y"][2, 0], inputs["y"][3, 69] = torch.nan, torch.inf, -torch.inf
    *parts, modes = op(**inputs)
    for got, want in zip(parts, clean, strict=False):
        assert got[[0, 2, 3]].isnan().all()
        assert torch.equal(got[1], want[1])
    assert (modes[[0, 2, 3]] == 0).all() and modes[1] == clean[5][1]


@pytest.mark.parametrize("kernel", ["gaussian", "laplace", "imq"])
def test_mmd_fourier_triton_of_bandwidths_far_below_the_range(op, kernel):
    found = op(**arguments(9, 7, kernel, 40, bandwidth=1e-30))
    assert all(part.isfinite().all() for part in found) and (found[5] > _spectrum.MAX_MODES).all()
    for bandwidth in (0.0, 1e-310, torch.nan):
        *parts, modes = op(**arguments(9, 7, kernel, 40, bandwidth=bandwidth))
        assert all(part.isnan().all() for part in parts) and (modes == 0).all()


def test_mmd_fourier_triton_wants(op):
    inputs = arguments(9, 8, "matern", slices=2)
    whole = op(**inputs)
    for bit in range(5):
        for k, part in enumerate(op(**{**inputs, "outputs": 1 << bit})[:5]):
            assert torch.equal(part, whole[k]) if k == bit else part.shape == (0,)


@pytest.mark.parametrize("label", cases._BAD | cases._BAD_SERIES)
def test_mmd_fourier_triton_bad_arguments(op, label):
    argument, change = (cases._BAD | cases._BAD_SERIES)[label]
    inputs = arguments(6, 7, weights=True, slices=2)
    inputs[argument] = change(inputs[argument])
    with pytest.raises(RuntimeError, match=f"mmd_fourier: .*`{argument}`"):
        op(**inputs)


@pytest.mark.parametrize("weights", [False, True])
def test_mmd_fourier_triton_opcheck(op, weights):
    torch.library.opcheck(op.default, tuple(arguments(5, 7, weights=weights).values()))


@pytest.mark.parametrize("kernel", ["gaussian", "laplace", "imq"])
def test_mmd_fourier_triton_under_the_calls(op, kernel):
    x, y = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=F64).unbind()
    directions = fo.mmd.make_directions(3, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = []
    for backend in ("triton", "reference"):
        leaf = x.clone().requires_grad_()
        with _backend.use_backend(backend):
            value = fo.sliced_mmd(leaf, y, kernel=kernel, bandwidth=1.0, directions=directions)
            found.append((value.detach(), *torch.autograd.grad(value, leaf)))
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kernel", ["laplace", "gaussian"])
def test_mmd_fourier_triton_window_where_the_band_holds_too_many_modes(op, kernel):
    """Laplace's begins at the first mode, where its kink has most of its share; the others lie around their peak."""
    inputs = arguments(5, 4, kernel=kernel, bandwidth=2e-3)
    found = op(**inputs)
    assert int(found[5].min()) > _spectrum.MAX_MODES
    assert_true(found, inputs, units=12.0)  # 3.7 seen: a mode's phase is off by eps times its number
