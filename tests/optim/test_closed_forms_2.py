"""AdaBelief, MADGRAD and Mirror MADGRAD against their formulas written out once more in numpy, float64."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .problems import KERNEL_AND_REFERENCE, normal
from .test_closed_forms import SIZE, compare, gradients, trajectory


def adabelief(
    p, g, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0, amsgrad=False, weight_decouple=True,
    fixed_decay=False, rectify=True, degenerated_to_sgd=True,
):  # fmt: skip
    m = v = largest = np.zeros_like(p)
    (b1, b2), most = betas, 2 / (1 - betas[1]) - 1
    for t, row in enumerate(g, 1):
        if weight_decouple:
            p = p * (1 - (1 if fixed_decay else lr) * weight_decay)
        else:
            row = row + weight_decay * p
        bc1, bc2 = 1 - b1**t, 1 - b2**t
        m = b1 * m + (1 - b1) * row
        v = b2 * v + (1 - b2) * (row - m) ** 2 + eps
        largest = np.maximum(largest, v)
        rho = most - 2 * t * b2**t / bc2
        if not rectify:
            p = p - lr / bc1 * m / (np.sqrt(largest if amsgrad else v) / math.sqrt(bc2) + eps)
        elif rho >= 5:
            r = math.sqrt(bc2 * (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            p = p - lr * r / bc1 * m / (np.sqrt(v) + eps)
        elif degenerated_to_sgd:
            p = p - lr / bc1 * m
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-8, "weight_decay": 0.2},
        {"weight_decay": 0.01, "fixed_decay": True, "degenerated_to_sgd": False},
        {"weight_decay": 0.2, "weight_decouple": False, "eps": 1e-6},
        {"rectify": False, "eps": 1e-8},
        {"rectify": False, "eps": 1e-8, "amsgrad": True, "betas": (0.5, 0.7)},
        {"amsgrad": True, "eps": 1e-8, "betas": (0.5, 0.7)},
    ],
    ids=str,
)
def test_adabelief(options, fused):
    state = compare(optim.AdaBelief, adabelief, fused, **options)
    assert ("max_exp_avg_var" in state) == options.get("amsgrad", False)
    if options.get("amsgrad"):
        assert (state["max_exp_avg_var"] >= state["exp_avg_var"]).all()


def test_adabeliefs_eps_stays_in_its_variance():
    """A constant gradient of 1e-6, 3000 steps, eps = 1e-8: the parameter moves by 9.5e-4, not by 2.4e-2."""
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = optim.AdaBelief([p], eps=1e-8, rectify=False)
    p.grad = torch.full_like(p, 1e-6)
    for _ in range(3000):
        optimizer.step()
    assert -p.item() == pytest.approx(9.5e-4, rel=0.01)
    *_, wanted = adabelief(np.zeros(1), np.full((3000, 1), 1e-6), eps=1e-8, rectify=False)
    assert p.item() == pytest.approx(float(wanted[0]), rel=1e-10)
    floor = 1e-8 * (1 - 0.999**3000) / (1 - 0.999)
    assert float(optimizer.state[p]["exp_avg_var"]) == pytest.approx(floor, rel=1e-3)


def madgrad(p, g, lr=1e-2, momentum=0.9, weight_decay=0.0, eps=1e-6, decouple_decay=False):
    """From the fixed x0, also without momentum (where the release recovers it)."""
    x0, total, dual = p.copy(), np.zeros(SIZE), np.zeros(SIZE)
    size = lr + eps if lr != 0 else 0.0
    for k, row in enumerate(g):
        weight, before = size * math.sqrt(k + 1), p
        if not decouple_decay:
            row = row + weight_decay * p
        total, dual = total + weight * row**2, dual + weight * row
        root = np.cbrt(total) + eps
        z = x0 - np.divide(dual, root, out=np.zeros(SIZE), where=root != 0)
        p = momentum * p + (1 - momentum) * z
        if decouple_decay:
            p = p - size * weight_decay * before
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1},
        {"weight_decay": 0.1, "decouple_decay": True},
        {"momentum": 0.0},
        {"momentum": 0.0, "lr": 0.1, "weight_decay": 0.1},
        {"eps": 0.0},
        {"eps": 0.0, "momentum": 0.0},
        {"lr": 0.0},
        {"lr": 0.0, "momentum": 0.0},
    ],
    ids=str,
)
def test_madgrad(options, fused):
    state = compare(optim.MADGRAD, madgrad, fused, **options)
    assert ("x0" in state) == (options.get("momentum", 0.9) > 0)


@KERNEL_AND_REFERENCE
def test_madgrad_without_momentum_decays_decoupled(fused):
    """x0 is what the iterate and the old sums give, so a decay moves it too."""
    options = {"momentum": 0.0, "weight_decay": 0.1, "decouple_decay": True, "eps": 1e-6, "lr": 0.05}
    g, p, size = gradients(), normal(SIZE).numpy(), 0.05 + 1e-6
    total, dual, wanted = np.zeros(SIZE), np.zeros(SIZE), []
    for k, row in enumerate(g):
        before, x0 = p, p + dual / (np.cbrt(total) + 1e-6)
        total, dual = total + size * math.sqrt(k + 1) * row**2, dual + size * math.sqrt(k + 1) * row
        p = x0 - dual / (np.cbrt(total) + 1e-6) - size * 0.1 * before
        wanted.append(p)
    np.testing.assert_allclose(trajectory(optim.MADGRAD, g, fused=fused, **options)[0], wanted, rtol=1e-12, atol=1e-12)


@KERNEL_AND_REFERENCE
def test_madgrad_at_a_learning_rate_of_0_only_relaxes(fused):
    p = normal(SIZE).requires_grad_()
    optimizer = optim.MADGRAD([p], fused=fused)
    p.grad = normal(SIZE, seed=1)
    optimizer.step()
    state = {name: value.clone() for name, value in optimizer.state[p].items()}
    before = p.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    z = state["x0"] - state["s"] / (state["grad_sum_sq"].pow(1 / 3) + 1e-6)
    torch.testing.assert_close(p.detach(), 0.9 * before + 0.1 * z, rtol=1e-13, atol=1e-13)
    for name in ("s", "grad_sum_sq", "x0"):
        assert torch.equal(optimizer.state[p][name], state[name])


def mirror_madgrad(p, g, lr=1e-2, momentum=0.9, weight_decay=0.0, eps=0.0, decouple_decay=False):
    z, total = p.copy(), np.zeros(SIZE)
    size = lr + eps if lr != 0 else 0.0
    for k, row in enumerate(g):
        if decouple_decay:
            z = z * (1 - size * weight_decay)
        else:
            row = row + weight_decay * p
        total = math.sqrt(k / (k + 1)) * total + row**2
        root = np.cbrt(total) + eps
        z = z - size * (k + 1) ** (1 / 3) * np.divide(row, root, out=np.zeros(SIZE), where=root != 0)
        p = momentum * p + (1 - momentum) * z
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "eps": 1e-4},
        {"weight_decay": 0.1, "decouple_decay": True},
        {"momentum": 0.0},
        {"lr": 0.0},
    ],
    ids=str,
)
def test_mirror_madgrad(options, fused):
    compare(optim.MirrorMADGRAD, mirror_madgrad, fused, **options)


@pytest.mark.parametrize("scale", [1e-18, 1e-15, 1e-6, 1e6, 1e12, 1e18])
def test_cube_root_over_float32s_range(scale):
    """One step without momentum from sums at 0: p = -w g / cbrt(w g^2), to 2.4e-7 in the root and a few roundings."""
    g = normal(64, seed=3, dtype=torch.float32) * scale
    p = torch.zeros(64, requires_grad=True)
    p.grad = g.clone()
    optim.MADGRAD([p], lr=1.0, momentum=0.0, eps=0.0).step()
    square = g.double().square()
    normal_ones = (square > 2e-38) & (square < 3e38)
    wanted = -g.double() / square.pow(1 / 3)
    error = ((p.detach().double() - wanted) / wanted)[normal_ones].abs()
    assert float(error.max()) < 6e-7
