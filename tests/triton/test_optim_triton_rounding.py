"""Rounding of the optimizers in Triton, in the interpreter: TRITON_INTERPRET=1 in a process of its own."""

from __future__ import annotations

import os

import pytest
import torch

from fastcore_ops import _native
from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._reference_step import _mix64, _scramble, random_bits
from fastcore_ops.optim._switches import KAHAN, MASTER, NEAREST, SPLIT_MASTER, STOCHASTIC

from . import optim_step_cases as cases
from .optim_step_cases import assert_bits_of_the_cpu, assert_close, stepped

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),  # of the interpreter's NumPy
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _needs_triton():
    pytest.importorskip("triton")


# Largest error seen: 2.14, MADGRAD's division by a cube root, in the float32 that a master keeps.
@pytest.mark.parametrize(("name", "count", "p_dtype", "s_dtype", "rounding"), cases.STEPS, ids=str)
def test_optim_triton_rounds_like_the_reference(name, count, p_dtype, s_dtype, rounding):
    changes = cases.prologue(len(cases.SHAPES)) if s_dtype in cases.HALVES else {}
    given = cases.inputs(name, count, p_dtype, s_dtype, rounding, **changes)
    assert_close(name, given, 4)
    assert_bits_of_the_cpu(name, given)


@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC, KAHAN, SPLIT_MASTER, MASTER])
@pytest.mark.parametrize("dtype", cases.HALVES, ids=str)
def test_optim_triton_keeps_every_pattern(dtype, rounding):
    """Steps of learning rate 0, with a prologue that changes nothing."""
    if (dtype, rounding) == (torch.float16, SPLIT_MASTER):
        pytest.skip("float16 is not the upper half of a float32")
    start = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    extra = {KAHAN: torch.full((65536,), -0.0, dtype=dtype), SPLIT_MASTER: torch.zeros(65536, dtype=torch.int16)}
    extra[MASTER] = start.float()
    changes = {"params": [start.clone()], "extra": extra.get(rounding), "lr": torch.tensor(0.0)}
    changes["coefficients"] = torch.tensor([[1.0], [1.0], [0.0], [torch.inf]], dtype=torch.float64)
    given = cases.inputs("sgd", 0, dtype, cases.F32, rounding, ((65536,),), **changes)
    given["hyper"][3] = 0.0
    found = stepped("sgd", given)["params"][0]
    number = ~start.isnan()
    assert cases.same([found[number]], [start[number]]) and found[~number].isnan().all()


@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC])
@pytest.mark.parametrize("dtype", cases.HALVES, ids=str)
def test_optim_triton_rounds_every_exponent(dtype, rounding):
    """float32 numbers of every size, as a master or as what a step of learning rate 1 makes of parameters."""
    patterns = torch.randint(-(2**31), 2**31, (8192,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    wide = patterns.view(torch.float32)
    if rounding == NEAREST:
        changes = {"params": [wide.to(dtype)], "extra": wide, "lr": torch.tensor(0.0), "rounding": MASTER}
    else:  # p - g in float32, of parameters near the gradients and far from them
        p = wide.to(dtype) if dtype == torch.bfloat16 else patterns.to(torch.int16).view(dtype)
        changes = {"params": [p], "grads": [p.roll(1) * 0.3], "lr": torch.tensor(1.0), "rounding": STOCHASTIC}
    given = cases.inputs("sgd", 0, dtype, cases.F32, NEAREST, ((8192,),)) | changes
    given["hyper"][3] = 0.0
    found, truth = stepped("sgd", given)["params"][0], stepped("sgd", given, "reference")["params"][0]
    number = ~truth.isnan()
    assert cases.same([found[number]], [truth[number]]) and found[~number].isnan().all()


def test_optim_triton_end_of_float32():
    """Nothing but infinities becomes one in a split master; Kahan's compensation of an infinity is nothing."""
    most = torch.tensor([torch.finfo(torch.bfloat16).max, torch.inf, 1e38], dtype=torch.bfloat16)
    for rounding in (SPLIT_MASTER, KAHAN):
        # 1.003: more than half a step of bfloat16 above its largest number, below float32's largest.
        given = cases.inputs("sgd", 0, cases.BF16, cases.F32, rounding, ((6,),), lr=torch.tensor(1.003))
        given["hyper"][3] = 0.0
        p, extra = torch.zeros(6, dtype=torch.bfloat16), torch.zeros_like(given["extra"])
        given |= {"params": [p], "grads": [torch.cat([-most, most])], "extra": extra}
        found, truth = stepped("sgd", given), stepped("sgd", given, "reference")
        assert cases.same(cases.written(found), cases.written(truth))
        assert int(found["params"][0].isinf().sum()) == (2 if rounding == SPLIT_MASTER else 4)


@pytest.mark.parametrize("first", [0, 1 << 20, (1 << 32) - 64, 5 << 32])
@pytest.mark.parametrize("seed", [0, -3, (1 << 63) - 1])
def test_optim_triton_random_bits(seed, first):
    """Those of the reference, but for its place above 2^32."""
    from .random_bits_kernel import random_bits_kernel

    step, parameter, slot, wide = 70_000, 123, 2, (1 << 64) - 1
    out = torch.zeros(64, dtype=torch.int64)
    random_bits_kernel[(1,)](out, torch.tensor([seed, step, parameter, first]), SLOT=slot, BLOCK=64)
    key = _mix64(_mix64((seed + 0x9E3779B97F4A7C15) & wide) ^ step)
    key = _mix64(_mix64(key ^ (parameter * 16 + slot)) ^ (first >> 32))
    places = (torch.arange(64) + first) & 0xFFFFFFFF
    wanted = _scramble(places ^ (key & 0xFFFFFFFF)) ^ (key >> 32)
    assert torch.equal(out, wanted)
    if first == 0:
        assert torch.equal(out, random_bits(seed, step, parameter, slot, out))


def test_optim_triton_random_bits_of_shards():
    """A fifth row of the index says where in the whole parameter a shard begins, also across a multiple of 2^32."""
    sizes, begins = (70, 33), (40, (1 << 32) - 20)
    index = torch.tensor([[0, 128], [0, 1], [3, 5], [layout_code(torch.empty(n)) for n in sizes], begins])
    found = {}
    for backend in ("cpp", "triton"):
        params = [torch.ones(n, dtype=torch.bfloat16) for n in sizes]
        grads = [torch.full_like(p, -(2.0**-8)) for p in params]
        _native.handle("optim_sgd_", backend)(
            params, grads, [], torch.zeros(2), None, None, index, [1.0, 0.0, 0.0, 0.0, 0.0], None, None, None, None, False,
            STOCHASTIC, 5,
        )  # fmt: skip
        found[backend] = torch.cat(params)
    assert torch.equal(found["cpp"], found["triton"])
    assert 0 < int((found["cpp"] > 1).sum()) < sum(sizes)
