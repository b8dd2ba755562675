"""SANIA beside a plain loop, and what its step size promises."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .loops import arrays, assert_close, draw, hand_over, large, scattered
from .problems import KERNEL_AND_REFERENCE, normal, same_bits


class Loop:
    """All parameters; ``options`` of each group, ``owner`` says whose a parameter is."""

    def __init__(self, xs, options, owner=None):
        self.xs, self.options, self.owner = xs, options, owner or [0] * len(xs)
        self.v, self.t = [np.zeros_like(x) for x in xs], [0] * len(xs)

    def direction(self, i, g):
        o = {"preconditioner": "adagrad_sqr", "eps": 0.1, "beta2": 0.999, "is_sqrt": False} | self.options[
            self.owner[i]
        ]
        self.t[i] += 1
        if o["preconditioner"] == "adagrad_sqr":
            self.v[i] = self.v[i] + g * g
            b = np.maximum(self.v[i], o["eps"])
        else:
            self.v[i] = o["beta2"] * self.v[i] + (1 - o["beta2"]) * g * g
            b = np.maximum(self.v[i] / (1 - o["beta2"] ** self.t[i]), o["eps"])
        b = np.sqrt(b) if o["is_sqrt"] else b
        return np.divide(g, b, out=np.zeros_like(g), where=b != 0)

    def step(self, gs, loss):
        directions = [None if g is None else self.direction(i, g) for i, g in enumerate(gs)]
        n = sum(float((g * d).sum()) for g, d in zip(gs, directions, strict=True) if g is not None)
        loss = max(loss, 0.0)
        size = 0.0 if n == 0 else 1 - math.sqrt(1 - 2 * loss / n) if 2 * loss <= n else 1.0
        for i, d in enumerate(directions):
            if d is not None:
                self.xs[i] = self.xs[i] - self.options[self.owner[i]].get("lr", 1.0) * size * d


OPTIONS = [
    {},
    {"preconditioner": "adam_sqr", "beta2": 0.9},
    {"is_sqrt": True, "lr": 0.5},
    {"preconditioner": "adam_sqr", "is_sqrt": True, "eps": 0.0},
    {"eps": 0.0, "lr": 0.3},
]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_beside_a_loop(options, fused):
    """Losses on both sides of ``n / 2``, which is in the hundreds at first, and one below 0."""
    params = scattered()
    loop, optimizer = Loop(arrays(params), [options]), optim.SANIA(params, fused=fused, **options)
    for t, loss in enumerate((1.0, 30.0, 1e6, 5.0, -3.0, 0.0, 10.0, 0.5)):
        gs = draw(loop.xs, t)
        if t < 3:
            gs = [np.where(np.arange(g.size).reshape(g.shape) % 4 == 0, 0.0, g) for g in gs]
        hand_over(params, gs)
        before = [p.detach().clone() for p in params]
        given = torch.tensor(loss) if t % 2 else loss
        assert optimizer.step(loss=given) is given
        loop.step(gs, loss)
        assert_close(params, loop.xs)
        assert same_bits(params, before) == (loss <= 0)
    name = "exp_avg_sq" if "preconditioner" in options else "sum"
    assert_close([optimizer.state[p][name] for p in params], loop.v)


@KERNEL_AND_REFERENCE
def test_of_several_pieces(fused):
    params = large()
    loop, optimizer = Loop(arrays(params), [{}]), optim.SANIA(params, fused=fused)
    for t in range(2):
        gs = draw(loop.xs, t)
        hand_over(params, gs)
        optimizer.step(loss=1000.0)
        loop.step(gs, 1000.0)
        assert_close(params, loop.xs)


@KERNEL_AND_REFERENCE
def test_one_size_over_all_groups_and_a_step_count_each(fused):
    params = scattered()
    options = [{"eps": 0.01}, {"preconditioner": "adam_sqr", "beta2": 0.8, "lr": 0.5}]
    groups = [{"params": params[:6], **options[0]}, {"params": params[6:], **options[1]}]
    optimizer = optim.SANIA(groups, fused=fused)
    loop = Loop(arrays(params), options, [0] * 6 + [1] * (len(params) - 6))
    for t in range(9):
        gs = [None if (t + i) % 3 == 0 else g for i, g in enumerate(draw(loop.xs, t))]
        hand_over(params, gs)
        optimizer.step(loss=4.0 * t)
        loop.step(gs, 4.0 * t)
        assert_close(params, loop.xs)
    assert [float(optimizer.state[p]["step"]) for p in params] == loop.t


@pytest.mark.parametrize("preconditioner", ["adagrad_sqr", "adam_sqr"])
def test_scale_invariance(preconditioner):
    """x times c, g over c: the moves are c times as long, and the losses, which do not know c, are the same."""
    c = torch.exp(3 * normal(40, seed=9))
    p = normal(40).requires_grad_()
    q = (normal(40) * c).requires_grad_()
    first, second = (optim.SANIA([x], preconditioner=preconditioner, eps=0.0) for x in (p, q))
    for t in range(12):
        before = p.detach().clone(), q.detach().clone()
        p.grad = normal(40, seed=t + 1)
        q.grad = p.grad / c
        first.step(loss=2.0)
        second.step(loss=2.0)
        torch.testing.assert_close((q - before[1]) / c, p - before[0], rtol=1e-12, atol=1e-14)
        assert not torch.equal(p, before[0])


@KERNEL_AND_REFERENCE
def test_nothing_moves_where_no_gradient_has_been(fused):
    p = normal(6).requires_grad_()
    before = p.detach().clone()
    optimizer = optim.SANIA([p], eps=0.0, fused=fused)
    p.grad = torch.zeros_like(p)
    optimizer.step(loss=3.0)  # n = 0
    assert torch.equal(p, before)
    p.grad[2] = 0.5
    optimizer.step(loss=0.1)
    assert (p != before).tolist() == [i == 2 for i in range(6)]
    assert p.isfinite().all()


def test_the_model_reaches_0():
    """A quadratic whose curvature is B = g^2: with 2 f = n one step of size 1 solves it."""
    p = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    optimizer = optim.SANIA([p], eps=0.0)
    p.grad = torch.tensor([2.0, -4.0], dtype=torch.float64)
    optimizer.step(loss=torch.tensor(1.0, dtype=torch.float64))  # n = 2
    torch.testing.assert_close(p.detach(), torch.tensor([1 - 1 / 2, 3 + 1 / 4], dtype=torch.float64))


def test_small_losses_lose_no_digits():
    """``1 - sqrt(1 - 2 f / n)`` is ``f / n`` for small f; written out it would be 0."""
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = optim.SANIA([p])
    p.grad = torch.ones_like(p)
    optimizer.step(loss=1e-20)
    torch.testing.assert_close(p.detach(), torch.full((1,), -1e-20, dtype=torch.float64), rtol=1e-14, atol=0)


def test_closure_and_loss():
    p, q = normal(5).requires_grad_(), normal(5).requires_grad_()
    first, second = optim.SANIA([p]), optim.SANIA([q])

    def closure():
        first.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        found = first.step(closure)
        second.zero_grad()
        loss = q.square().sum()
        loss.backward()
        assert second.step(loss=loss) is loss and torch.equal(found, loss)
    assert same_bits([p], [q])


def test_the_loss_is_needed_once():
    p = normal(5).requires_grad_()
    p.grad = normal(5, seed=1)
    optimizer, before = optim.SANIA([p]), p.detach().clone()
    with pytest.raises(ValueError, match=r"SANIA.step: expected the loss: `step\(loss=loss\)` or a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="both"):
        optimizer.step(lambda: 1.0, loss=1.0)
    with pytest.raises(ValueError, match="one number"):
        optimizer.step(loss=torch.ones(2))
    with pytest.raises(TypeError, match="NoneType"):
        optimizer.step(lambda: None)
    with pytest.raises(TypeError, match="str"):
        optimizer.step(loss="1")
    assert torch.equal(p, before) and float(optimizer.state[p]["step"]) == 0
    optimizer.step(loss=1.0)
    with pytest.raises(ValueError, match="the loss"):  # that of the step before is not taken again
        optimizer.step()


def test_states_exist_from_construction_on():
    """Distributed checkpoints step once with zero gradients to make them."""
    p, q = normal(5, 2).t().requires_grad_(), normal(3).requires_grad_()
    optimizer = optim.SANIA([p])
    optimizer.add_param_group({"params": [q], "preconditioner": "adam_sqr"})
    assert optimizer.state[p].keys() == {"step", "sum"} and optimizer.state[q].keys() == {"step", "exp_avg_sq"}
    assert optimizer.state[p]["sum"].stride() == p.stride() and not optimizer.state[p]["sum"].any()
    with pytest.raises(ValueError, match="`preconditioner`"):
        optimizer.add_param_group({"params": [normal(2).requires_grad_()], "preconditioner": "adam"})
    assert len(optimizer.param_groups) == 2 and len(optimizer.state) == 2


def test_with_torchs_scaler():
    """The scaler passes the loss on; it is the loss itself, not the scaled one."""
    p, q = (normal(5, dtype=torch.float32).requires_grad_() for _ in range(2))
    scaled, plain = optim.SANIA([p]), optim.SANIA([q])
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for step in range(4):
        scaled.zero_grad()
        loss = p.square().sum()
        scaler.scale(loss).backward()
        if step == 1:
            p.grad[2] = torch.inf
        scaler.step(scaled, loss=loss)
        scaler.update()
        if step != 1:
            plain.zero_grad()
            loss = q.square().sum()
            loss.backward()
            plain.step(loss=loss)
    assert same_bits([p], [q]) and scaler.get_scale() == 32.0
