"""AdaGrad-Norm beside a plain loop."""

import math

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .loops import TOLERANCE, arrays, assert_close, draw, hand_over, large, scattered, square
from .problems import KERNEL_AND_REFERENCE, normal, same_bits


def rows(x):
    """One row for each index of the first dimension: the elements of a 1-D array; a number is a row."""
    return x.reshape(x.shape[0] if x.ndim else 1, -1) if x.size else x.reshape(x.shape[0], 0)


def loop(xs, gs, b, mode, lr=1.0, weight_decay=0.0):
    """One step; ``b`` holds b^2 by parameter, or under "all"."""
    gs = [g + weight_decay * x for x, g in zip(xs, gs, strict=True)]
    if mode == "global":
        b["all"] = b["all"] + square(gs)
    for i, (x, g) in enumerate(zip(xs, gs, strict=True)):
        if mode == "global":
            xs[i] = x - lr * g / math.sqrt(b["all"])
        elif mode == "tensor":
            b[i] = b[i] + square([g])
            xs[i] = x - lr * g / math.sqrt(b[i])
        else:
            b[i] = b[i] + (rows(g) ** 2).sum(1)
            xs[i] = x - (lr * rows(g) / np.sqrt(b[i])[:, None]).reshape(x.shape)


def first_b(mode, params, b0):
    return {"all": b0**2} if mode == "global" else dict.fromkeys(range(len(params)), b0**2)


def kept(optimizer, params, mode):
    if mode == "global":
        return [optimizer.param_groups[0]["b_squared"]]
    return [optimizer.state[p]["b_squared"] for p in params]


MODES = pytest.mark.parametrize("mode", ["global", "tensor", "row"])


@KERNEL_AND_REFERENCE
@MODES
@pytest.mark.parametrize("options", [{}, {"lr": 0.3, "b0": 2.0, "weight_decay": 0.2}], ids=str)
def test_beside_a_loop(options, mode, fused):
    params = scattered()
    xs, optimizer = arrays(params), optim.AdaGradNorm(params, mode=mode, fused=fused, **options)
    options = dict(options)
    b = first_b(mode, params, options.pop("b0", 0.1))
    for t in range(10):
        gs = draw(xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop(xs, gs, b, mode, **options)
        assert_close(params, xs)
    for found, wanted in zip(kept(optimizer, params, mode), b.values(), strict=True):
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), wanted, rtol=TOLERANCE)


@KERNEL_AND_REFERENCE
@MODES
def test_of_several_pieces(mode, fused):
    params = large()
    xs, optimizer = arrays(params), optim.AdaGradNorm(params, mode=mode, fused=fused)
    b = first_b(mode, params, 0.1)
    for t in range(2):
        gs = draw(xs, t)
        hand_over(params, gs)
        optimizer.step()
        loop(xs, gs, b, mode)
        assert_close(params, xs)


def test_rows_of_numbers_and_of_one_dimension():
    params = [normal().requires_grad_(), normal(3).requires_grad_(), normal(2, 4).requires_grad_()]
    before = arrays(params)
    optimizer = optim.AdaGradNorm(params, mode="row", b0=1.0)
    gs = draw(before, 0)
    hand_over(params, gs)
    optimizer.step()
    assert [tuple(optimizer.state[p]["b_squared"].shape) for p in params] == [(), (3,), (2,)]
    np.testing.assert_allclose(params[0].detach().numpy(), before[0] - gs[0] / np.sqrt(1 + gs[0] ** 2), rtol=1e-14)
    np.testing.assert_allclose(params[1].detach().numpy(), before[1] - gs[1] / np.sqrt(1 + gs[1] ** 2), rtol=1e-14)


@KERNEL_AND_REFERENCE
def test_one_b_over_all_groups_and_an_added_one_joins(fused):
    params = scattered()
    split = [params[:5], params[5:8], params[8:]]
    optimizer = optim.AdaGradNorm([{"params": split[0]}, {"params": split[1], "lr": 0.2}], b0=0.5, fused=fused)
    xs, total = arrays(params), 0.25
    for t in range(8):
        if t == 4:
            optimizer.add_param_group({"params": split[2], "weight_decay": 0.1, "b0": 7.0})
            assert float(optimizer.param_groups[2]["b_squared"]) == pytest.approx(total, rel=1e-13)
        here = len(params) if t >= 4 else 8
        gs = draw(xs, t)[:here]
        hand_over(params[:here], gs)
        optimizer.step()
        decayed = [g + (0.1 * x if i >= 8 else 0) for i, (x, g) in enumerate(zip(xs, gs, strict=False))]
        total += square(decayed)
        for i, g in enumerate(decayed):
            xs[i] = xs[i] - (0.2 if 5 <= i < 8 else 1.0) * g / math.sqrt(total)
        assert_close(params, xs)
        values = [float(group["b_squared"]) for group in optimizer.param_groups]
        assert values == [values[0]] * len(values)
        np.testing.assert_allclose(values[0], total, rtol=TOLERANCE)


@KERNEL_AND_REFERENCE
@MODES
def test_parameters_without_gradient(mode, fused):
    params = [normal(4, 3, seed=i).requires_grad_() for i in range(4)]
    xs, optimizer = arrays(params), optim.AdaGradNorm(params, mode=mode, fused=fused)
    b = first_b(mode, params, 0.1)
    for t in range(8):
        gs = draw(xs, t)
        here = [i for i in range(4) if (t + i) % 3]
        hand_over(params, [g if i in here else None for i, g in enumerate(gs)])
        optimizer.step()
        part, own = [xs[i] for i in here], b if mode == "global" else {k: b[i] for k, i in enumerate(here)}
        loop(part, [gs[i] for i in here], own, mode)
        for k, i in enumerate(here):
            xs[i] = part[k]
            if mode != "global":
                b[i] = own[k]
        assert_close(params, xs)


def test_groups_have_one_mode():
    p, q = normal(3).requires_grad_(), normal(3).requires_grad_()
    optimizer = optim.AdaGradNorm([p], mode="tensor")
    with pytest.raises(ValueError, match="one `mode` for all groups"):
        optimizer.add_param_group({"params": [q], "mode": "row"})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="one `mode` for all groups"):
        optim.AdaGradNorm([{"params": [p]}, {"params": [q], "mode": "row"}])


@pytest.mark.parametrize("mode", ["tensor", "row"])
def test_nan_stays_in_its_segment(mode):
    params, spared = ([normal(5, 4, seed=i).requires_grad_() for i in range(3)] for _ in range(2))
    one, other = (optim.AdaGradNorm(x, mode=mode) for x in (params, spared))
    for t in range(3):
        gs = draw(arrays(spared), t)
        hand_over(spared, gs)
        gs = [g.copy() for g in gs]
        if t == 1:
            gs[1][2, 0] = np.nan
        hand_over(params, gs)
        one.step()
        other.step()
    assert same_bits([params[0], params[2]], [spared[0], spared[2]])
    struck = params[1].isnan().any(1)
    assert struck.tolist() == [mode == "tensor" or i == 2 for i in range(5)]
    assert torch.equal(params[1][~struck], spared[1][~struck])
