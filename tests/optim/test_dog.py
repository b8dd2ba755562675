"""DoG and L-DoG beside a plain loop."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .loops import TOLERANCE, arrays, assert_close, draw, hand_over, large, scattered, square
from .problems import KERNEL_AND_REFERENCE, normal, same_bits


class Loop:
    """One set of parameters that share a distance and a sum: a group of DoG's, a single parameter of L-DoG's."""

    def __init__(self, xs, lr=1.0, reps_rel=1e-6, weight_decay=0.0, eps=1e-8, init_eta=None):
        self.xs, self.start = xs, [x.copy() for x in xs]
        self.lr, self.reps_rel, self.weight_decay, self.eps, self.init_eta = lr, reps_rel, weight_decay, eps, init_eta
        self.rbar = self.total = self.eta = None

    def step(self, gs):
        decayed = [None if g is None else g + self.weight_decay * x for x, g in zip(self.xs, gs, strict=True)]
        squares = square(g for g in decayed if g is not None)
        if self.rbar is None:
            self.rbar = 0.0 if self.init_eta else self.reps_rel * (1 + math.sqrt(square(self.xs)))
            self.total = squares + self.eps
            self.eta = self.init_eta or self.lr * self.rbar / math.sqrt(self.total)
        else:
            moved = math.sqrt(square(x - y for x, y in zip(self.xs, self.start, strict=True)))
            self.rbar, self.total = max(self.rbar, moved), self.total + squares
            self.eta = self.lr * self.rbar / math.sqrt(self.total)
        self.xs = [x if g is None else x - self.eta * g for x, g in zip(self.xs, decayed, strict=True)]


OPTIONS = [
    {"reps_rel": 0.01},
    {"reps_rel": 0.05, "weight_decay": 0.3, "lr": 0.5, "eps": 0.1},
    {"init_eta": 0.01, "lr": 0.5, "reps_rel": 0.3, "weight_decay": 0.1},
]


def numbers(holder):
    return [float(holder[name]) for name in ("rbar", "G", "eta")]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_dog(options, fused):
    params = scattered()
    loop, optimizer = Loop(arrays(params), **options), optim.DoG(params, fused=fused, **options)
    for t in range(10):
        gs = draw(loop.xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)
        found = numbers(optimizer.param_groups[0])
        np.testing.assert_allclose(found, [loop.rbar, loop.total, loop.eta], rtol=TOLERANCE)
    assert_close([optimizer.state[p]["x0"] for p in params], loop.start)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_ldog(options, fused):
    params = scattered()
    loops = [Loop([x], **options) for x in arrays(params)]
    optimizer = optim.LDoG(params, fused=fused, **options)
    for t in range(10):
        gs = draw([loop.xs[0] for loop in loops], t)
        hand_over(params, gs)
        optimizer.step()
        for p, g, loop in zip(params, gs, loops, strict=True):
            loop.step([g])
            assert_close([p], loop.xs)
            np.testing.assert_allclose(numbers(optimizer.state[p]), [loop.rbar, loop.total, loop.eta], rtol=TOLERANCE)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("rule", [optim.DoG, optim.LDoG])
def test_of_several_pieces(rule, fused):
    params = large()
    xs, optimizer = arrays(params), rule(params, reps_rel=0.05, fused=fused)
    loops = [Loop(xs, reps_rel=0.05)] if rule is optim.DoG else [Loop([x], reps_rel=0.05) for x in xs]
    for t in range(3):
        gs = draw(xs, t)
        hand_over(params, gs)
        optimizer.step()
        for i, loop in enumerate(loops):
            loop.step(gs if rule is optim.DoG else [gs[i]])
        assert_close(params, [x for loop in loops for x in loop.xs])


@KERNEL_AND_REFERENCE
def test_groups_have_steps_of_their_own(fused):
    params = scattered()
    split = [params[:6], params[6:]]
    options = [{"reps_rel": 0.01}, {"reps_rel": 0.1, "lr": 0.5, "weight_decay": 0.2}]
    groups = [{"params": part, **o} for part, o in zip(split, options, strict=True)]
    optimizer = optim.DoG(groups, fused=fused)
    loops = [Loop(arrays(part), **o) for part, o in zip(split, options, strict=True)]
    for t in range(8):
        for part, loop in zip(split, loops, strict=True):
            gs = draw(loop.xs, t)
            hand_over(part, gs)
            loop.step(gs)
        optimizer.step()
        assert_close(params, loops[0].xs + loops[1].xs)
    for group, loop in zip(optimizer.param_groups, loops, strict=True):
        np.testing.assert_allclose(numbers(group), [loop.rbar, loop.total, loop.eta], rtol=TOLERANCE)


def missing(t, i):
    return (t + i) % 3 == 0


@KERNEL_AND_REFERENCE
def test_parameters_without_gradient_still_have_a_size_and_a_distance(fused):
    params = scattered()
    loop, optimizer = Loop(arrays(params), reps_rel=0.01, weight_decay=0.1), None
    optimizer = optim.DoG(params, reps_rel=0.01, weight_decay=0.1, fused=fused)
    for t in range(9):
        gs = [None if missing(t, i) else g for i, g in enumerate(draw(loop.xs, t))]
        hand_over(params, gs)
        before = [p.detach().clone() for p in params]
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)
        assert all(same_bits([p], [b]) for i, (p, b) in enumerate(zip(params, before, strict=True)) if missing(t, i))
    np.testing.assert_allclose(numbers(optimizer.param_groups[0]), [loop.rbar, loop.total, loop.eta], rtol=TOLERANCE)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "mode", [{"master_weights": True}, {"rounding": "split_master"}, {"rounding": "kahan"}, {}], ids=str
)
def test_distances_of_16_bit_parameters_without_gradient(mode, fused):
    """As with gradients of 0: what is kept beside a parameter counts. Steps are below half a unit of its 16 bits."""
    numbers_of = []
    for absent in (None, torch.zeros(40, dtype=torch.bfloat16)):
        p, q = (torch.ones(40, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
        optimizer = optim.DoG([p, q], reps_rel=1e-5, fused=fused, **mode)
        for t in range(6):
            p.grad, q.grad = (normal(40, seed=i + t, dtype=torch.bfloat16) for i in (0, 50))
            if t >= 4:
                p.grad = absent
            optimizer.step()
        assert p.eq(1).all() and q.eq(1).all()
        numbers_of.append([float(optimizer.param_groups[0][name]) for name in ("rbar", "G", "eta")])
    np.testing.assert_allclose(*numbers_of, rtol=1e-12)
    assert (numbers_of[0][0] > 1.001e-5 * (1 + 80**0.5)) == bool(mode)


@KERNEL_AND_REFERENCE
def test_parameters_of_ldog_without_gradient_wait(fused):
    params = scattered()
    loops = [Loop([x], reps_rel=0.01) for x in arrays(params)]
    optimizer = optim.LDoG(params, reps_rel=0.01, fused=fused)
    for t in range(9):
        gs = [None if missing(t, i) else g for i, g in enumerate(draw([loop.xs[0] for loop in loops], t))]
        hand_over(params, gs)
        optimizer.step()
        for loop, g in zip(loops, gs, strict=True):
            if g is not None:
                loop.step([g])
    assert_close(params, [loop.xs[0] for loop in loops])


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("rule", [optim.DoG, optim.LDoG])
def test_the_first_step(rule, fused):
    """``eta = reps_rel (1 + |x|) / sqrt(|g|^2 + eps)``, or exactly ``init_eta``, which no factor multiplies."""
    x, g = normal(20), normal(20, seed=1)
    for options, eta in (
        ({}, 1e-6 * (1 + x.norm()) / (g @ g + 1e-8).sqrt()),
        ({"lr": 0.5, "reps_rel": 0.1, "eps": 3.0}, 0.05 * (1 + x.norm()) / (g @ g + 3).sqrt()),
        ({"lr": 0.5, "init_eta": 0.25}, torch.tensor(0.25, dtype=torch.float64)),
    ):
        p = x.clone().requires_grad_()
        optimizer = rule([p], fused=fused, **options)
        p.grad = g.clone()
        optimizer.step()
        holder = optimizer.param_groups[0] if rule is optim.DoG else optimizer.state[p]
        torch.testing.assert_close(holder["eta"].double(), eta, rtol=1e-13, atol=0)
        torch.testing.assert_close(p.detach(), x - eta * g, rtol=1e-15, atol=1e-15)
        assert float(holder["rbar"]) == 0.0 or "init_eta" not in options


def test_zero_gradients_before_the_first_real_one():
    """G is eps alone until a gradient comes; nothing moves and nothing turns into NaN."""
    p = normal(6).requires_grad_()
    before = p.detach().clone()
    optimizer = optim.DoG([p], reps_rel=0.01)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.step()
    assert torch.equal(p, before)
    assert float(optimizer.param_groups[0]["G"]) == pytest.approx(1e-8, rel=1e-15)


@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_no_gradient_has_come_and_eps_is_0(eps):
    p = normal(6).requires_grad_()
    loop = Loop([p.detach().numpy().copy()], reps_rel=0.01, eps=eps)
    optimizer = optim.LDoG([p], reps_rel=0.01, eps=eps)
    p.grad = torch.zeros_like(p)
    before = p.detach().clone()
    optimizer.step()
    assert torch.equal(p, before)
    if eps:
        loop.step([np.zeros(6)])
    for t in range(3):
        gs = draw(loop.xs, t)
        hand_over([p], gs)
        optimizer.step()
        loop.step(gs)
        assert_close([p], loop.xs)


def test_nan_in_one_parameter_of_ldog_leaves_the_others():
    params, spared = ([normal(5, seed=i).requires_grad_() for i in range(3)] for _ in range(2))
    one, other = optim.LDoG(params, reps_rel=0.1), optim.LDoG(spared, reps_rel=0.1)
    for t in range(3):
        gs = draw(arrays(spared), t)
        hand_over(spared, gs)
        hand_over(params, [gs[0], gs[1] * (np.nan if t == 1 else 1), gs[2]])
        one.step()
        other.step()
    assert same_bits([params[0], params[2]], [spared[0], spared[2]]) and params[1].isnan().all()
