"""OPT-AMSGrad beside a plain loop that extrapolates from all past gradients together."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from fastcore_ops import optim
from fastcore_ops.optim._extrapolation import extrapolation, largest_eigenvalue

from .loops import arrays, assert_close, draw, hand_over, large, scattered
from .problems import KERNEL_AND_REFERENCE, give_gradients, normal, parameters, same_bits


def joined(gs):
    return np.concatenate([g.ravel() for g in gs])


def forecast_weights(past, ridge):
    """Of the last gradients g_1 .. g_r as vectors: U = [g_{i+1} - g_i], c = z / sum z weighs g_1 .. g_{r-1}."""
    if len(past) == 1:
        return [1.0]
    u = np.stack([b - a for a, b in pairwise(past)], 1)
    gram = u.T @ u
    z = np.linalg.solve(gram / np.linalg.norm(gram, 2) + ridge * np.eye(gram.shape[0]), np.ones(gram.shape[0]))
    return [*(z / z.sum()), 0.0]


class Loop:
    def __init__(self, xs, lr=1e-3, betas=(0.9, 0.99), eps=1e-8, history=5, ridge=1e-6, theta="current"):
        self.xs, self.w = xs, [x.copy() for x in xs]
        self.lr, self.betas, self.history, self.ridge, self.previous = lr, betas, history, ridge, theta == "previous"
        self.theta, self.v, self.m = ([np.zeros_like(x) for x in xs] for _ in range(3))
        self.largest = [np.full_like(x, eps) for x in xs]
        self.past = []

    def step(self, gs):
        (b1, b2), before = self.betas, self.theta
        self.past = [*self.past, gs][-self.history :]
        self.theta = [b1 * theta + (1 - b1) * g for theta, g in zip(self.theta, gs, strict=True)]
        self.v = [b2 * v + (1 - b2) * (g - m) ** 2 for v, g, m in zip(self.v, gs, self.m, strict=True)]
        self.largest = [np.maximum(x, v) for x, v in zip(self.largest, self.v, strict=True)]
        weights = forecast_weights([joined(old) for old in self.past], self.ridge)
        self.m = [sum(c * old[i] for c, old in zip(weights, self.past, strict=True)) for i in range(len(gs))]
        for i, root in enumerate(np.sqrt(x) for x in self.largest):
            self.w[i] = self.w[i] - self.lr * self.theta[i] / root
            ahead = b1 * (before if self.previous else self.theta)[i] + (1 - b1) * self.m[i]
            self.xs[i] = self.w[i] - self.lr * ahead / root


def drift(xs, t):
    """Gradients that change slowly, so that the matrix of the extrapolation has all sizes of eigenvalues."""
    return [
        0.7**t * a + 0.3 * b + (-0.4) ** t * c for a, b, c in zip(draw(xs, 0), draw(xs, 1), draw(xs, 2), strict=True)
    ]


OPTIONS = [
    {},
    {"history": 1, "lr": 0.01},
    {"history": 1, "theta": "previous"},
    {"history": 2, "lr": 0.01, "eps": 1e-3},
    {"history": 5, "theta": "previous", "ridge": 1e-2, "betas": (0.5, 0.8)},
    {"history": 3, "ridge": 1.0},
]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_beside_a_loop(options, fused):
    params = scattered()
    loop, optimizer = Loop(arrays(params), **options), optim.OPTAMSGrad(params, fused=fused, **options)
    for t in range(12):
        gs = draw(loop.xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)
    names = {"exp_avg": loop.theta, "exp_avg_sq": loop.v, "max_exp_avg_sq": loop.largest, "half_step": loop.w}
    for name, wanted in names.items():
        assert_close([optimizer.state[p][name] for p in params], wanted)


@KERNEL_AND_REFERENCE
def test_of_several_pieces(fused):
    params = large()
    loop, optimizer = Loop(arrays(params), history=2), optim.OPTAMSGrad(params, history=2, fused=fused)
    for t in range(3):
        gs = draw(loop.xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)


@KERNEL_AND_REFERENCE
def test_forecasts_of_drifting_gradients(fused):
    """A well-posed ridge keeps the comparison at rounding; the forecast is a combination, not the last gradient."""
    params = scattered()
    loop = Loop(arrays(params), history=4, ridge=1e-3, lr=0.01)
    optimizer = optim.OPTAMSGrad(params, history=4, ridge=1e-3, lr=0.01, fused=fused)
    for t in range(10):
        gs = drift(loop.xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)
        assert t < 2 or not np.allclose(loop.m[-1], gs[-1], rtol=1e-6)


def test_extrapolation_finds_a_fixed_point():
    """Gradients of a linear iteration in 3 dimensions: 5 of them tell where it goes."""
    limit, ways = normal(30), normal(3, 30, seed=1)
    rates = torch.tensor([0.9, -0.5, 0.2], dtype=torch.float64)
    past = torch.stack([limit + (rates**k) @ ways for k in range(5)])
    weights, found = extrapolation(past @ past.T, torch.tensor(5), 1e-13)
    assert found and float(weights.sum()) == pytest.approx(1, abs=1e-12) and weights[-1] == 0
    assert (weights @ past - limit).norm() < 1e-4 * (past[-1] - limit).norm()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_the_norm_of_the_system(size):
    """Beside a decomposition; the last two have no gap, or one that the power does not resolve."""
    for seed in range(20):
        root = normal(size, size, seed=seed)
        matrix = root @ root.T
        found = largest_eigenvalue(1e9 * matrix)
        torch.testing.assert_close(found, 1e9 * torch.linalg.matrix_norm(matrix, 2), rtol=1e-13, atol=0)
    rotation = torch.linalg.qr(normal(size, size))[0]
    for gap, error in ((0.0, 1e-14), (1e-6, 1e-6)):
        values = torch.ones(size, dtype=torch.float64)
        values[1:] -= gap
        assert abs(float(largest_eigenvalue(rotation * values @ rotation.T)) - 1) < error


@KERNEL_AND_REFERENCE
def test_one_extrapolation_over_all_groups(fused):
    params = scattered()
    groups = [{"params": params[:7], "lr": 0.01}, {"params": params[7:], "lr": 0.01}]
    optimizer = optim.OPTAMSGrad(groups, history=3, ridge=1e-3, fused=fused)
    loop = Loop(arrays(params), lr=0.01, history=3, ridge=1e-3)
    for t in range(8):
        gs = draw(loop.xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop.step(gs)
        assert_close(params, loop.xs)


def test_groups_have_one_history():
    p, q = normal(3).requires_grad_(), normal(3).requires_grad_()
    optimizer = optim.OPTAMSGrad([p], history=3)
    for name, value in (("history", 4), ("ridge", 1e-2)):
        with pytest.raises(ValueError, match=f"one `{name}` for all groups"):
            optimizer.add_param_group({"params": [q], name: value})
    with pytest.raises(TypeError, match="`history`"):
        optim.OPTAMSGrad([q], history=2.5)
    assert len(optimizer.param_groups) == 1


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_inner_products_that_were_kept(dtype, fused):
    """The bits of products that are all made anew at each step, through whatever changes the past gradients."""
    runs = []
    for keeps in (True, False):
        p = parameters(dtype)
        optimizer = optim.OPTAMSGrad(p[:6], history=3, fused=fused)
        for t in range(14):
            give_gradients(p, t)
            for x in p[t % 5 :: 5]:
                x.grad = None
            optimizer.found_inf = torch.tensor(float(t in (0, 6)))
            if t == 4:
                optimizer.add_param_group({"params": p[6:]})
            if t == 7:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if t == 9:
                optimizer.state[p[7]] = {name: 2 * value for name, value in optimizer.state[p[7]].items()}
            if t == 11:
                optimizer.state[p[4]]["past_gradient_1"] = torch.ones_like(p[4])
            if t == 12:
                del optimizer.state[p[5]]
            if not keeps:
                optimizer._known = None
            known = optimizer._known
            optimizer.step()
            assert t != 3 or keeps == (optimizer._known is known)
        runs.append(p)
    assert same_bits(*runs)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite_stay_in_their_element(bad, fused):
    """There is no extrapolation from them: the last gradient is the forecast while they are remembered."""
    params = [normal(6, seed=i).requires_grad_() for i in range(2)]
    xs = arrays(params)
    optimizer = optim.OPTAMSGrad(params, history=3, fused=fused)
    for t in range(8):
        gs = [g.copy() for g in draw(xs, t)]
        if t == 2:
            gs[1][3] = bad
        hand_over(params, gs)
        optimizer.step()
    assert params[0].isfinite().all()
    assert params[1].isfinite().tolist() == [i != 3 for i in range(6)]


@KERNEL_AND_REFERENCE
def test_equal_gradients_forecast_themselves(fused):
    p = normal(6).requires_grad_()
    optimizer, g = optim.OPTAMSGrad([p], history=3, fused=fused), draw(arrays([p]), 0)
    for _ in range(5):
        hand_over([p], g)
        optimizer.step()
    assert p.isfinite().all()
    np.testing.assert_array_equal(optimizer.state[p]["next_forecast"].numpy(), g[0])


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(
    "mode", [{"master_weights": True}, {"rounding": "split_master"}, {"rounding": "kahan"}], ids=str
)
def test_small_steps_in_16_bits(mode, fused):
    """w lives on from step to step: were it in the parameter's 16 bits, what a master keeps of small steps would be lost."""
    p, q = (torch.ones(50, dtype=dtype, requires_grad=True) for dtype in (torch.bfloat16, torch.float32))
    narrow = optim.OPTAMSGrad([p], lr=1e-4, fused=fused, **mode)
    wide = optim.OPTAMSGrad([q], lr=1e-4, fused=fused)
    for t in range(100):
        p.grad = (1 + 0.1 * normal(50, seed=t)).bfloat16()
        q.grad = p.grad.float()
        narrow.step()
        wide.step()
    assert narrow.state[p]["half_step"].dtype == torch.float32 and narrow.state[p]["exp_avg"].dtype == torch.float32
    assert (1 - q).abs().min() > 0.02
    assert (p.float() - q).abs().max() <= 1.01 * 2**-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_w_in_16_bits_is_warned_of(dtype, recwarn):
    p = torch.ones(5, dtype=dtype, requires_grad=True)
    p.grad = torch.ones_like(p)
    optim.OPTAMSGrad([p]).step()
    optim.OPTAMSGrad([p], state_dtype=torch.bfloat16, rounding="stochastic").step()
    assert not recwarn.list
    with pytest.warns(UserWarning, match="`half_step`, in torch.bfloat16 now, in which small steps are lost"):
        optim.OPTAMSGrad([p], state_dtype=torch.bfloat16).step()
