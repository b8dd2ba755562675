"""The rules that torch does not have, against their formulas written out once more in numpy, float64."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .problems import KERNEL_AND_REFERENCE, normal

STEPS, SIZE = 24, 37


def gradients(steps=STEPS):
    g = np.stack([normal(SIZE, seed=50 + t).numpy() for t in range(steps)])
    g[3:6, :10] = 0
    g[:, 11] = 0
    return g


def trajectory(kind, g, dtype=torch.float64, **options):
    """Our parameter after each step, and the optimizer's last state."""
    p = normal(SIZE).to(dtype).requires_grad_()
    optimizer = kind([p], **options)
    found = []
    for row in g:
        p.grad = torch.from_numpy(row).to(dtype)
        optimizer.step()
        found.append(p.detach().double().numpy().copy())
    return np.stack(found), optimizer.state[p]


def compare(kind, formula, fused, steps=STEPS, **options):
    """Float64 to rounding, float32 to a few units per step."""
    g = gradients(steps)
    wanted = np.stack(list(formula(normal(SIZE).numpy(), g, **options)))
    found, state = trajectory(kind, g, fused=fused, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    single, _ = trajectory(kind, g, torch.float32, fused=fused, **options)
    np.testing.assert_allclose(single, wanted, rtol=0, atol=2e-5)
    return state


def lion(p, g, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    m = np.zeros(SIZE)
    for row in g:
        p = p * (1 - lr * weight_decay)
        p = p - lr * np.sign(betas[0] * m + (1 - betas[0]) * row)
        m = betas[1] * m + (1 - betas[1]) * row
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", [{}, {"lr": 0.01, "betas": (0.5, 0.8), "weight_decay": 0.3}], ids=str)
def test_lion(options, fused):
    compare(optim.Lion, lion, fused, **options)


def ademamix(
    p,
    g,
    lr=1e-3,
    betas=(0.9, 0.999, 0.9999),
    alpha=2.0,
    eps=1e-8,
    weight_decay=0.0,
    alpha_warmup=None,
    beta3_warmup=None,
):
    fast = slow = v = np.zeros(SIZE)
    for t, row in enumerate(g, 1):
        a, b3 = alpha, betas[2]
        if alpha_warmup and t < alpha_warmup:
            a = alpha * t / alpha_warmup
        if beta3_warmup and t < beta3_warmup:
            begin, end = (math.log(0.5) / math.log(beta + 1e-8) - 1 for beta in (betas[0], betas[2]))
            b3 = 0.5 ** (1 / (begin + (end - begin) * t / beta3_warmup + 1))
        fast = betas[0] * fast + (1 - betas[0]) * row
        slow = b3 * slow + (1 - b3) * row
        v = betas[1] * v + (1 - betas[1]) * row**2
        root = np.sqrt(v) / math.sqrt(1 - betas[1] ** t) + eps
        p = p - lr * ((fast / (1 - betas[0] ** t) + a * slow) / root + weight_decay * p)
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.01, "alpha": 5.0, "weight_decay": 0.2},
        {"alpha_warmup": 10, "beta3_warmup": 15},
        {"betas": (0.0, 0.9, 0.99), "eps": 1e-2},
    ],
    ids=str,
)
def test_ademamix(options, fused):
    state = compare(optim.AdEMAMix, ademamix, fused, **options)
    assert ("exp_avg_fast" in state) == (options.get("betas", (0.9,))[0] > 0)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    ("t", "alpha", "beta3"),
    [(1, 0.002, 0.9499662489), (250, 0.5, 0.9996012351), (500, 1.0, 0.9998002196), (1000, 2.0, 0.9999)],
)
def test_schedulers_of_ademamix(t, alpha, beta3, fused):
    """Both read off one step from states at 0: slow = 1 - beta3 for a gradient of 1, and the move tells alpha."""
    p = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = optim.AdEMAMix([p], lr=1.0, alpha_warmup=1000, beta3_warmup=1000, fused=fused)
    optimizer.state[p] = {"step": torch.tensor(float(t - 1))}
    p.grad = torch.ones_like(p)
    optimizer.step()
    state = optimizer.state[p]
    slow, root = state["exp_avg_slow"], (state["exp_avg_sq"] / (1 - 0.999**t)).sqrt() + 1e-8
    assert float(1 - slow[0]) == pytest.approx(beta3, abs=6e-11)
    fast = state["exp_avg_fast"] / (1 - 0.9**t)
    assert float(((-p.detach() * root - fast) / slow)[0]) == pytest.approx(alpha, rel=1e-8)
    assert float(state["step"]) == t


def diffgrad(p, g, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    m = v = before = np.zeros(SIZE)
    for t, row in enumerate(g, 1):
        row = row + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * row
        v = betas[1] * v + (1 - betas[1]) * row**2
        friction = 1 / (1 + np.exp(-np.abs(before - row)))
        before = row
        p = p - lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * friction * m / (np.sqrt(v) + eps)
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", [{}, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.2}], ids=str)
def test_diffgrad(options, fused):
    compare(optim.DiffGrad, diffgrad, fused, **options)


def test_diffgrad_keeps_a_copy_of_the_gradient():
    """Also where gradients are zeroed in place and written anew into the same memory."""
    p = normal(6).requires_grad_()
    optimizer = optim.DiffGrad([p])
    p.grad = normal(6, seed=1)
    optimizer.step()
    kept = optimizer.state[p]["previous_grad"]
    assert torch.equal(kept, p.grad)
    p.grad.zero_()
    assert torch.equal(kept, normal(6, seed=1))


def grams(p, g, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True):
    m = v = np.zeros(SIZE)
    for t, row in enumerate(g, 1):
        p = p * (1 - lr * weight_decay)
        m = betas[0] * m + (1 - betas[0]) * row
        v = betas[1] * v + (1 - betas[1]) * row**2
        factor = math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) if correct_bias else 1
        p = p - lr * factor * np.sign(row) * np.abs(m) / (np.sqrt(v) + eps)
        yield p


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "options",
    [{}, {"lr": 0.02, "weight_decay": 0.2, "eps": 1e-3}, {"betas": (0.5, 0.9), "correct_bias": False}],
    ids=str,
)
def test_grams(options, fused):
    compare(optim.Grams, grams, fused, **options)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("kind", [optim.Lion, optim.Grams])
def test_nothing_moves_where_the_sign_is_0(kind, fused):
    p = normal(8).requires_grad_()
    before = p.detach().clone()
    optimizer = kind([p], lr=0.1, fused=fused)
    p.grad = normal(8, seed=1)
    p.grad[::2] = 0
    optimizer.step()
    assert torch.equal(p[::2], before[::2]) and (p[1::2] != before[1::2]).all()
