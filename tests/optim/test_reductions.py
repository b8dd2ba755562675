"""Clipping to a global norm, skipping steps that are not finite, projection off the parameter."""

import pytest
import torch

from fastcore_ops import optim


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def lists(dtype=torch.float64):
    return [normal(30, 20, seed=1, dtype=dtype).requires_grad_(), normal(7, seed=2, dtype=dtype).requires_grad_()]


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_max_norm_is_torchs_clipping(max_norm, fused):
    ours, theirs = lists(), lists()
    groups = [{"params": ours[:1]}, {"params": ours[1:], "lr": 0.02}]
    a = optim.AdamW(groups, lr=0.1, max_norm=max_norm, fused=fused)
    b = torch.optim.AdamW([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.02}], lr=0.1)
    for step in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad, q.grad = normal(*p.shape, seed=step), normal(*p.shape, seed=step)
        a.step()
        torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        b.step()
    for step, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
        assert torch.equal(p.grad, normal(*p.shape, seed=3)), step  # the gradient itself stays unclipped


def test_norm_of_large_float32_gradients_does_not_overflow():
    p = torch.zeros(128, requires_grad=True)
    p.grad = torch.full((128,), 1e19)
    optim.SGD([p], lr=1.0, max_norm=1.0).step()
    torch.testing.assert_close(p.detach(), torch.full((128,), -(128**-0.5)))


def test_norm_is_that_of_unscaled_gradients():
    p, q = (normal(9).requires_grad_() for _ in range(2))
    p.grad, q.grad = 8 * normal(9, seed=1), normal(9, seed=1)
    scaled, plain = optim.SGD([p], lr=1.0, max_norm=0.3), optim.SGD([q], lr=1.0, max_norm=0.3)
    scaled.grad_scale, scaled.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    scaled.step()
    plain.step()
    torch.testing.assert_close(p, q, rtol=1e-14, atol=0)


def test_gradient_layout_may_change_under_a_norm():
    p, q = (normal(5, 4).requires_grad_() for _ in range(2))
    ours, theirs = optim.SGD([p], lr=0.1, max_norm=0.5), torch.optim.SGD([q], lr=0.1)
    for step in range(3):
        g = normal(5, 4, seed=step)
        p.grad = g.t().contiguous().t() if step == 1 else g
        q.grad = g.clone()
        ours.step()
        torch.nn.utils.clip_grad_norm_([q], 0.5)
        theirs.step()
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_skip_nonfinite_leaves_everything(bad):
    params = lists()
    optimizer = optim.AdamW(params, skip_nonfinite=True)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    before = [p.detach().clone() for p in params]
    params[1].grad[2] = bad
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert all(float(optimizer.state[p]["step"]) == 1 for p in params)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_perp_grad_is_the_projection(rescale, fused):
    p = normal(50).requires_grad_()
    w, g = p.detach().clone(), normal(50, seed=1)
    p.grad = g.clone()
    optim.SGD([p], lr=1.0, perp_grad=True, perp_rescale=rescale, fused=fused).step()
    left = g - (w @ g) / (w @ w) * w
    expected = left * (g.norm() / left.norm()) if rescale else left
    torch.testing.assert_close(w - p.detach(), expected, rtol=1e-12, atol=1e-13)


def test_perp_grad_of_a_parallel_gradient_is_zero_not_noise():
    p = torch.tensor([1.7, 0.3], dtype=torch.float64, requires_grad=True)
    p.grad = 3 * p.detach()
    before = p.detach().clone()
    optim.SGD([p], lr=1.0, perp_grad=True).step()
    assert torch.equal(p.detach(), before)


def test_perp_grad_leaves_single_numbers():
    p = torch.tensor([2.0], requires_grad=True)
    p.grad = torch.tensor([1.0])
    optim.SGD([p], lr=0.5, perp_grad=True).step()
    assert float(p.detach()) == 1.5


def test_clip_value_cuts_elements():
    p = torch.zeros(3, requires_grad=True)
    p.grad = torch.tensor([-4.0, 0.25, 9.0])
    optim.SGD([p], lr=1.0, clip_value=0.5).step()
    assert p.tolist() == [0.5, -0.25, -0.5]


def test_step_param_refuses_what_looks_at_all_gradients():
    p = torch.zeros(3, requires_grad=True)
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="max_norm"):
        optim.SGD([p], max_norm=1.0).step_param(p)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 1.0])
def test_clip_quantile_cuts_to_torchs_quantile(q, fused):
    params = lists()
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = normal(*p.shape, seed=p.numel())
    optim.SGD(params, lr=1.0, clip_quantile=q, fused=fused).step()
    for p, b in zip(params, before, strict=True):
        limit = p.grad.abs().flatten().quantile(q)
        torch.testing.assert_close(b - p.detach(), p.grad.clamp(-limit, limit), rtol=1e-12, atol=1e-15)


def test_clip_quantile_is_of_what_the_other_switches_leave():
    p = normal(40).requires_grad_()
    w, g = p.detach().clone(), normal(40, seed=1)
    p.grad = 2 * g
    optimizer = optim.SGD([p], lr=1.0, clip_quantile=0.7, clip_value=1.5, perp_grad=True, max_norm=3.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)
    optimizer.step()
    g = g * (3.0 / (g.norm() + 1e-6)).clamp(max=1)
    left = g - (w @ g) / (w @ w) * w
    u = (left * g.norm() / left.norm()).clamp(-1.5, 1.5)
    limit = u.abs().quantile(0.7)
    torch.testing.assert_close(w - p.detach(), u.clamp(-limit, limit), rtol=1e-10, atol=1e-12)


def test_clip_quantile_of_a_gradient_with_nan_is_not_of_the_rest():
    p = torch.zeros(5, requires_grad=True)
    p.grad = torch.tensor([1.0, -3.0, float("nan"), 2.0, 0.5])
    optim.SGD([p], lr=1.0, clip_quantile=0.5).step()
    assert p.detach()[[0, 1, 3, 4]].tolist() == [-1.0, 2.0, -2.0, -0.5]
    assert p.detach()[2].isnan()
