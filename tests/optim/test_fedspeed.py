"""FedSpeed's local step beside a plain loop over two rounds."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .loops import arrays, assert_close, draw, hand_over, large, scattered, square
from .problems import KERNEL_AND_REFERENCE, assert_same_state, copies, normal, run, same_bits


class Client:
    """A client's weights ``w``, what it ``received``, and its correction ``h``."""

    def __init__(self, xs, lr, prox=0.1, weight_decay=0.0, max_norm=10.0, momentum=0.0):
        self.w, self.received = xs, [x.copy() for x in xs]
        self.h, self.buffer = [np.zeros_like(x) for x in xs], [None] * len(xs)
        self.lr, self.prox, self.weight_decay, self.max_norm, self.momentum = lr, prox, weight_decay, max_norm, momentum
        self.clipped = []

    def step(self, gs):
        pulled = [
            None if g is None else g + (self.weight_decay + self.prox) * w + self.prox * (h - received)
            for g, w, h, received in zip(gs, self.w, self.h, self.received, strict=True)
        ]
        norm = math.sqrt(square(d for d in pulled if d is not None))
        factor = 1.0 if self.max_norm is None else min(1.0, self.max_norm / (norm + 1e-6))
        self.clipped.append(factor < 1)
        for i, d in enumerate(pulled):
            if d is not None:
                before = self.buffer[i]
                self.buffer[i] = factor * d if before is None else self.momentum * before + factor * d
                self.w[i] = self.w[i] - self.lr * self.buffer[i]

    def end_round(self):
        self.h = [h + w - received for h, w, received in zip(self.h, self.w, self.received, strict=True)]


OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.1, "prox": 0.5, "weight_decay": 0.3, "max_norm": 12.0},
    {"lr": 0.1, "prox": 0.2, "momentum": 0.9, "max_norm": 12.0},
    {"lr": 0.1, "momentum": 0.5, "max_norm": None, "prox": 0.0},
]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_two_rounds(options, fused):
    params = scattered()
    client, optimizer = Client(arrays(params), **options), optim.FedSpeed(params, fused=fused, **options)
    for round_ in range(3):
        optimizer.start_round()
        client.received = [w.copy() for w in client.w]
        for t in range(4):
            gs = [0.1 ** (t % 2) * g for g in draw(client.w, 10 * round_ + t)]
            hand_over(params, gs)
            optimizer.step()
            client.step(gs)
            assert_close(params, client.w)
        optimizer.end_round()
        client.end_round()
        assert_close([optimizer.state[p]["correction"] for p in params], client.h)
        assert_close([optimizer.state[p]["anchor"] for p in params], client.received)
        for i, p in enumerate(params):  # what the server sends next
            client.w[i] = client.w[i] + 0.1 * normal(*p.shape, seed=70 + i).numpy()
            with torch.no_grad():
                p.copy_(torch.from_numpy(np.asarray(client.w[i])))
    assert any(client.clipped) == (options.get("max_norm", 10) is not None) and not all(client.clipped)
    assert ("momentum_buffer" in optimizer.state[params[0]]) == ("momentum" in options)


@KERNEL_AND_REFERENCE
def test_of_several_pieces(fused):
    params = large()
    client, optimizer = Client(arrays(params), lr=0.1), optim.FedSpeed(params, lr=0.1, fused=fused)
    for t in range(2):
        gs = draw(client.w, t)
        hand_over(params, gs)
        optimizer.step()
        client.step(gs)
        assert_close(params, client.w)


@KERNEL_AND_REFERENCE
def test_the_norm_is_that_of_all_groups(fused):
    params = scattered()
    optimizer = optim.FedSpeed([{"params": params[:7]}, {"params": params[7:]}], lr=0.1, max_norm=3.0, fused=fused)
    client = Client(arrays(params), lr=0.1, max_norm=3.0)
    for t in range(6):
        gs = [None if (t + i) % 4 == 0 else g for i, g in enumerate(draw(client.w, t))]
        hand_over(params, gs)
        optimizer.step()
        client.step(gs)
        assert_close(params, client.w)


def test_anchors_are_the_weights_at_construction_and_at_the_start_of_a_round():
    p = normal(4).requires_grad_()
    first = p.detach().clone()
    optimizer = optim.FedSpeed([p], lr=0.5, prox=0.5)
    p.grad = normal(4, seed=1)
    optimizer.step()
    assert torch.equal(optimizer.state[p]["anchor"], first)
    torch.testing.assert_close(p.detach(), first - 0.5 * p.grad, rtol=1e-14, atol=1e-14)  # no pull at the anchor itself
    optimizer.start_round()
    assert torch.equal(optimizer.state[p]["anchor"], p.detach())


def test_clipping_is_of_the_pulled_gradient():
    """A gradient of 0 far from the anchor: the pull alone is shortened, and its sign is what `maximize` leaves."""
    for maximize in (False, True):
        p = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        optimizer = optim.FedSpeed([p], lr=1.0, prox=2.0, max_norm=1.0, maximize=maximize)
        with torch.no_grad():
            p.fill_(3.0)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        torch.testing.assert_close(p.detach(), torch.full((4,), 2.5, dtype=torch.float64), rtol=1e-6, atol=0)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_resumed_between_and_within_rounds(dtype, fused):
    """The corrections and anchors of a client that is saved after every step go on as those of one that is not."""
    p = [normal(5, 3, dtype=dtype).requires_grad_(), normal(4, seed=1, dtype=dtype).requires_grad_()]
    q = copies(p)
    options = {"lr": 0.1, "prox": 0.5, "momentum": 0.9, "rounding": "stochastic", "fused": fused}
    whole = optim.FedSpeed(p, **options)
    resumed = optim.FedSpeed(q, **options)
    for t in range(9):
        again = optim.FedSpeed(q, **options)
        again.load_state_dict(resumed.state_dict())
        resumed = again
        for optimizer, params in ((whole, p), (resumed, q)):
            if t % 3 == 0:
                optimizer.start_round()
            run(optimizer, params, 1, first=t)
            if t % 3 == 2:
                optimizer.end_round()
    assert same_bits(p, q) and float(whole.state[p[0]]["correction"].abs().sum()) > 0
    assert_same_state(whole, resumed)
