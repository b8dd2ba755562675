"""AdamP and SGDP beside plain loops; every gradient is made to pass or to fail a projection's test by a margin."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .loops import arrays, assert_close, hand_over, large, scattered
from .problems import KERNEL_AND_REFERENCE, normal

DELTA = 0.1


def rows_of(x, kind):
    return x.reshape(x.shape[0] if kind == "rows" else 1, -1)


def passing_view(x, g, delta, eps):
    """Which view of a parameter passes, and that none is near the threshold."""
    if x.ndim < 2 or not x.size:
        return None
    for kind in ("rows", "whole"):
        p, d = rows_of(x, kind), rows_of(g, kind)
        lengths = [np.maximum(np.sqrt((y * y).sum(1)), eps) for y in (p, d)]
        worst = (np.abs((p * d).sum(1)) / (lengths[0] * lengths[1])).max() * math.sqrt(p.shape[1])
        assert not abs(worst / delta - 1) <= 1e-3
        if worst < delta:
            return kind
    return None


def without_part_along(x, u, kind, eps):
    p, d = rows_of(x, kind), rows_of(u, kind)
    p = p / (np.sqrt((p * p).sum(1, keepdims=True)) + eps)
    return (d - p * (p * d).sum(1, keepdims=True)).reshape(x.shape)


def gradient(x, t, i, kind):
    """At right angles to each row, to the whole alone, or to nothing."""
    g = normal(*x.shape, seed=1000 * (t + 1) + i).numpy()
    if x.ndim < 2 or not x.size:
        return g
    if kind == "none":
        return g + 2 * x
    g = without_part_along(x, g, "rows", 0.0)
    if kind == "rows":
        return g
    signs = np.where(np.arange(x.shape[0]) % 2, -1.0, 1.0).reshape(-1, *[1] * (x.ndim - 1))
    return without_part_along(x, g + signs * x, "whole", 0.0)


def adamp(
    xs, t, gs, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, delta=0.1, wd_ratio=0.1, nesterov=False
):
    (b1, b2), seen = betas, []
    for i, (x, g) in enumerate(zip(xs, gs, strict=True)):
        m, v = memory.get(i, (0.0, 0.0))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        memory[i] = m, v
        u = (b1 * m + (1 - b1) * g if nesterov else m) / (np.sqrt(v) / math.sqrt(1 - b2**t) + eps)
        kind = passing_view(x, g, delta, eps)
        u = without_part_along(x, u, kind, eps) if kind else u
        x = x * (1 - lr * weight_decay * (wd_ratio if kind else 1.0))
        xs[i] = x - lr / (1 - b1**t) * u
        seen.append(kind)
    return seen


def sgdp(
    xs, t, gs, memory, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, eps=1e-8, delta=0.1,
    wd_ratio=0.1, legacy_inplace_projection=False,
):  # fmt: skip
    seen = []
    for i, (x, g) in enumerate(zip(xs, gs, strict=True)):
        b = momentum * memory.get(i, 0.0) + (1 - dampening) * g
        u = g + momentum * b if nesterov else b
        kind = passing_view(x, g, delta, eps)
        if kind:
            u = without_part_along(x, u, kind, eps)
            b = u if legacy_inplace_projection and not nesterov else b
        memory[i] = b
        xs[i] = x * (1 - lr * weight_decay * (wd_ratio if kind else 1.0) / (1 - momentum)) - lr * u
        seen.append(kind)
    return seen


def beside(optimizer, params, loop, kind, steps=8, **options):
    """The optimizer and the loop over the same gradients; ``kind`` of each step's by name or by function."""
    xs, memory, seen = arrays(params), {}, []
    for t in range(1, steps + 1):
        wanted = kind if isinstance(kind, str) else kind(t)
        gs = [gradient(x, t, i, wanted) for i, x in enumerate(xs)]
        hand_over(params, gs)
        optimizer.step()
        seen.append(loop(xs, t, gs, memory, **options))
        assert_close(params, xs)
    return seen, memory


ADAMP = [
    {"weight_decay": 0.1, "lr": 0.02},
    {"nesterov": True, "betas": (0.5, 0.9), "eps": 1e-3, "wd_ratio": 0.5, "weight_decay": 0.2, "lr": 0.02},
]
SGDP = [
    {"lr": 0.05},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "wd_ratio": 0.5},
    {"lr": 0.05, "momentum": 0.9, "legacy_inplace_projection": True, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.9, "legacy_inplace_projection": True, "nesterov": True},
]
RULES = [(optim.AdamP, adamp, o) for o in ADAMP] + [(optim.SGDP, sgdp, o) for o in SGDP]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("kind", ["none", "rows", "whole"])
@pytest.mark.parametrize(("rule", "loop", "options"), RULES, ids=str)
def test_beside_a_loop(rule, loop, options, kind, fused):
    params = scattered()
    optimizer = rule(params, fused=fused, **options)
    seen, memory = beside(optimizer, params, loop, kind, steps=6, **options)
    tested = [
        i for i, p in enumerate(params) if p.dim() > 1 and p.numel() and p.shape[0] > 1 and p.numel() > p.shape[0]
    ]
    wanted = None if kind == "none" else kind
    assert len(tested) == 4 and all(of_step[i] == wanted for of_step in seen for i in tested)
    assert all(of_step[i] is None for of_step in seen for i in range(5))  # 0-dim, empty, 1-D
    name = "exp_avg" if rule is optim.AdamP else "momentum"
    kept = [memory[i][0] if rule is optim.AdamP else memory[i] for i in range(len(params))]
    assert_close([optimizer.state[p][name] for p in params], kept)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("kind", ["rows", "whole"])
@pytest.mark.parametrize(("rule", "loop", "options"), RULES[:1] + RULES[5:6], ids=["AdamP", "SGDP"])
def test_of_several_pieces(rule, loop, options, kind, fused):
    params = large()
    seen, _ = beside(rule(params, fused=fused, **options), params, loop, kind, steps=2, **options)
    assert seen == [[kind, kind, None, None]] * 2


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(("rule", "loop", "options"), RULES[:1] + RULES[3:4], ids=["AdamP", "SGDP"])
def test_projection_may_change_from_step_to_step(rule, loop, options, fused):
    params = scattered()[5:]
    kinds = ["rows", "none", "whole", "whole", "rows", "none"]
    optimizer = rule(params, fused=fused, **options)
    seen, _ = beside(optimizer, params, loop, lambda t: kinds[t - 1], steps=6, **options)
    assert [of_step[0] for of_step in seen] == [None if kind == "none" else kind for kind in kinds]


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize(("rule", "loop", "options"), RULES[:1] + RULES[3:4], ids=["AdamP", "SGDP"])
def test_rows_of_zeros(rule, loop, options, fused):
    """A row of zeros, of parameter or gradient, has a cosine of 0: it passes, and it does not decide for the others."""
    for others, wanted in (("rows", "rows"), ("none", None)):
        p = normal(5, 8)
        p[2] = 0
        params, xs, memory = [p.requires_grad_()], arrays([p]), {}
        optimizer = rule(params, fused=fused, **options)
        for t in range(1, 9):
            gs = [gradient(xs[0], t, 0, others)] if t > 1 else [normal(5, 8, seed=3).numpy() + 2 * xs[0]]
            if t == 1 and others == "rows":
                gs = [without_part_along(xs[0], gs[0], "rows", 1e-300)]
            gs[0][4] = 0
            hand_over(params, gs)
            optimizer.step()
            seen = loop(xs, t, gs, memory, **options)
            assert seen == [wanted]
            assert_close(params, xs)


@KERNEL_AND_REFERENCE
def test_one_row_that_fails_fails_all(fused):
    params = [normal(4, 30).requires_grad_()]
    xs, memory = arrays(params), {}
    optimizer = optim.AdamP(params, fused=fused, weight_decay=0.1)
    for t in range(1, 9):
        gs = [gradient(xs[0], t, 0, "rows")]
        gs[0][t % 4] += 3 * xs[0][t % 4]
        hand_over(params, gs)
        optimizer.step()
        assert adamp(xs, t, gs, memory, weight_decay=0.1) == [None]
        assert_close(params, xs)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_the_threshold_itself(share, fused):
    """A cosine of ``share * delta / sqrt(n)``, by row and as a whole."""
    x = normal(3, 16).numpy()
    g = gradient(x, 0, 0, "rows")
    unit = x / np.sqrt((x * x).sum(1, keepdims=True))
    cosine = share * DELTA / 4
    g = g / np.sqrt((g * g).sum(1, keepdims=True)) * math.sqrt(1 - cosine**2) + cosine * unit
    # the cosine of the whole is almost the rows', its threshold is lower by the root of 3: it fails
    p = torch.from_numpy(x.copy()).requires_grad_()
    xs = [x]
    hand_over([p], [g])
    optim.AdamP([p], lr=0.1, weight_decay=0.1, fused=fused).step()
    assert adamp(xs, 1, [g], {}, lr=0.1, weight_decay=0.1) == ["rows" if share < 1 else None]
    assert_close([p], xs)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("rule", [optim.AdamP, optim.SGDP])
def test_nan_stays_in_its_parameter_and_is_not_projected(rule, fused):
    """Any comparison with NaN fails; other elements of the parameter step as if unprojected, other parameters as ever."""
    params = [normal(4, 6, seed=i).requires_grad_() for i in range(3)]
    spared = [p.detach().clone().requires_grad_() for p in params]
    one, other = (rule(x, lr=0.1, weight_decay=0.1, fused=fused) for x in (params, spared))
    gs = [gradient(x, 1, i, "rows") for i, x in enumerate(arrays(params))]
    hand_over(spared, gs)
    gs[1][2, 3] = np.nan
    hand_over(params, gs)
    one.step()
    other.step()
    assert torch.equal(params[0], spared[0]) and torch.equal(params[2], spared[2])
    struck = params[1].detach().isnan()
    assert struck.sum() == 1 and struck[2, 3]
    loop, wanted = adamp if rule is optim.AdamP else sgdp, arrays([normal(4, 6, seed=1)])
    assert loop(wanted, 1, gs[1:2], {}, lr=0.1, weight_decay=0.1) == [None]
    np.testing.assert_allclose(params[1].detach().numpy(), wanted[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [optim.AdamP, optim.SGDP])
def test_groups_have_deltas_of_their_own(rule):
    p, q = normal(4, 6).requires_grad_(), normal(4, 6, seed=1).requires_grad_()
    groups = [{"params": [p], "delta": 0.0}, {"params": [q], "delta": 1e9, "wd_ratio": 0.0}]
    optimizer = rule(groups, lr=0.1, weight_decay=0.5)
    xs = arrays([p, q])
    gs = [normal(4, 6, seed=2 + i).numpy() for i in range(2)]
    hand_over([p, q], gs)
    optimizer.step()
    loop = adamp if rule is optim.AdamP else sgdp
    first, second = xs[:1], xs[1:]
    loop(first, 1, gs[:1], {}, lr=0.1, weight_decay=0.5, delta=-1.0)
    loop(second, 1, gs[1:], {}, lr=0.1, weight_decay=0.5, delta=1e9, wd_ratio=0.0)
    assert_close([p, q], first + second)
