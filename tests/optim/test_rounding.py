"""16-bit parameters: what each rounding mode promises, and that no bit pattern is mangled."""

import pytest
import torch

from .problems import (
    HALVES,
    KERNEL_AND_REFERENCE,
    RELAXES,
    SUMS,
    VARIANTS,
    copies,
    every_variant,
    make,
    normal,
    parameters,
    same_bits,
)

MODES = {
    "nearest": {},
    "stochastic": {"rounding": "stochastic"},
    "kahan": {"rounding": "kahan"},
    "split_master": {"rounding": "split_master"},
    "master_weights": {"master_weights": True},
}


def joined(p, low):
    """The float32 that a bfloat16 and its low 16 bits make."""
    return ((p.detach().view(torch.int16).int() << 16) + low.int()).view(torch.float32)


def beside_float32(variant, p, options, **switches):
    """An optimizer of 16-bit parameters and one of equal float32 parameters, both with float32 states."""
    q = copies(p, torch.float32)
    return make(variant, p, state_dtype=torch.float32, **switches, **options), make(variant, q, **options), q


def step_both(narrow, p, wide, q, step):
    for i, (x, y) in enumerate(zip(p, q, strict=True)):
        y.grad = normal(*y.shape, seed=1000 * step + i).to(x.dtype).float()
        y.grad = torch.empty_like(y).copy_(y.grad)
        x.grad = torch.empty_like(x).copy_(y.grad)
    narrow.step()
    wide.step()


@KERNEL_AND_REFERENCE
@HALVES
@every_variant
def test_nearest_rounds_the_float32_result_of_each_step(variant, dtype, fused):
    p = parameters(dtype)
    narrow, wide, q = beside_float32(variant, p, {"fused": fused})
    for step in range(6):
        with torch.no_grad():
            for x, y in zip(p, q, strict=True):
                y.copy_(x)
        step_both(narrow, p, wide, q, step)
        assert same_bits(p, [y.to(dtype) for y in q])
    for x, y in zip(p, q, strict=True):
        for name, value in narrow.state[x].items():
            if name not in ("previous_grad", "x0", "anchor", "mu_product"):
                assert same_bits([value], [wide.state[y][name]]), name


@KERNEL_AND_REFERENCE
@every_variant
def test_split_master_is_the_float32_run(variant, fused):
    p = parameters(torch.bfloat16)
    narrow, wide, q = beside_float32(variant, p, {"fused": fused}, rounding="split_master")
    for step in range(8):
        step_both(narrow, p, wide, q, step)
    assert same_bits([joined(x, narrow.state[x]["master_low"]) for x in p], q)
    for x, y in zip(p, q, strict=True):
        half_ulp = torch.exp2(torch.floor(torch.log2(y.detach().abs())) - 8)
        assert ((x.detach().float() - y.detach()).abs() <= half_ulp).all()


@KERNEL_AND_REFERENCE
@HALVES
@every_variant
def test_master_weights_are_the_float32_run(variant, dtype, fused):
    p = parameters(dtype)
    narrow, wide, q = beside_float32(variant, p, {"fused": fused}, master_weights=True)
    for step in range(8):
        step_both(narrow, p, wide, q, step)
    assert same_bits([narrow.state[x]["master"] for x in p], q)
    assert same_bits(p, [y.to(dtype) for y in q])


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    ("variant", "lr"),
    [("AdamW", 3e-4), ("SGD_momentum", 3e-4), ("Lion", 3e-4), ("AdEMAMix", 3e-4), ("Adagrad", 1e-2), ("MADGRAD", 1e-3)],
)
def test_kahan_stays_beside_the_float32_run(variant, lr, fused):
    """200 small steps: 1.01 half ulps, where rounding to nearest is many ulps away.

    Each step rounds the compensation by up to 1/512 half ulps, at random but for Lion, whose steps have one size (1.07 seen).
    """
    p = [(1 + normal(400).abs()).bfloat16().requires_grad_()]
    nearest = copies(p)
    narrow, wide, q = beside_float32(variant, p, {"lr": lr, "fused": fused}, rounding="kahan")
    lossy = make(variant, nearest, state_dtype=torch.float32, lr=lr)
    for step in range(200):
        step_both(narrow, p, wide, q, step)
        nearest[0].grad = p[0].grad
        lossy.step()
    truth = q[0].detach()
    half_ulp = torch.exp2(torch.floor(torch.log2(truth.abs())) - 8)
    error, lost = (((x[0].detach().float() - truth).abs() / half_ulp) for x in (p, nearest))
    assert float(error.quantile(0.99)) <= (1.1 if variant == "Lion" else 1.01) and float(error.max()) <= 1 + 200 / 512
    assert float(lost.max()) > 1.5


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    ("dtype", "mode"),
    [
        (dtype, mode)
        for dtype in (torch.bfloat16, torch.float16)
        for mode in MODES
        if (dtype, mode) != (torch.float16, "split_master")
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*slow average:UserWarning")
def test_every_pattern_survives_steps_at_lr_0(dtype, mode, fused):
    for variant in VARIANTS:
        if variant in RELAXES:
            continue
        start = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
        start = start[start.isfinite()] if variant in SUMS else start  # a norm of NaN is NaN
        p = start.clone().requires_grad_()
        options = {"weight_decay": 0.0} if "weight_decay" in VARIANTS[variant][1] else {}
        optimizer = make(variant, [p], lr=0.0, fused=fused, **MODES[mode], **options)
        for _ in range(3):
            p.grad = torch.ones_like(p)
            optimizer.step()
        number = ~start.isnan()
        assert same_bits([p[number]], [start[number]]) and p[~number].isnan().all(), variant
