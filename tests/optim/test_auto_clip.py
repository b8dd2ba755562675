"""AutoClip: the percentile of the norms so far, and a wrapper that is an optimizer."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

from fastcore_ops import optim

from .problems import assert_same_state, copies, give_gradients, normal, parameters, run, same_bits


def small():
    return [normal(6, 4).requires_grad_(), normal(9, seed=1).requires_grad_()]


def with_norm(params, step, norm):
    for i, p in enumerate(params):
        p.grad = normal(*p.shape, seed=100 * step + i, dtype=p.dtype)
    total = torch.stack([p.grad.norm() for p in params]).norm()
    for p in params:
        p.grad *= norm / total


def norms(count):
    return np.exp(normal(count, seed=5).numpy())


@pytest.mark.parametrize("capacity", [1, 7, 100])
@pytest.mark.parametrize("percentile", [0.0, 10.0, 33.3, 50.0, 100.0])
def test_beside_numpys_percentile(percentile, capacity):
    p = small()
    q = copies(p)
    clipped, plain = optim.AutoClip(optim.SGD(p, lr=0.1), percentile, capacity), torch.optim.SGD(q, lr=0.1)
    seen = []
    for step, norm in enumerate(norms(25)):
        with_norm(p, step, norm)
        with_norm(q, step, norm)
        seen.append(norm)
        clipped.step()
        torch.nn.utils.clip_grad_norm_(q, float(np.percentile(seen[-capacity:], percentile)))
        plain.step()
        for x, y in zip(p, q, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(clipped.history.numpy(), seen[-capacity:], rtol=1e-13)


@pytest.mark.parametrize("make", [
    lambda p: optim.AdamW(p, max_norm=3.0),
    lambda p: optim.AdamP(p),
    lambda p: optim.LDoG(p, reps_rel=0.1),
    lambda p: optim.AdaGradNorm(p),
    lambda p: optim.OPTAMSGrad(p),
])  # fmt: skip
def test_around_other_rules(make):
    """The percentile takes the place of the wrapped optimizer's own ``max_norm``."""
    p = small()
    q = copies(p)
    clipped, plain = optim.AutoClip(make(p), 40.0), make(q)
    seen = []
    for group in plain.param_groups:
        group["max_norm"] = None
    for step, norm in enumerate(norms(12)):
        with_norm(p, step, norm)
        with_norm(q, step, norm)
        seen.append(norm)
        clipped.step()
        torch.nn.utils.clip_grad_norm_(q, float(np.percentile(seen, 40.0)))
        plain.step()
    for x, y in zip(p, q, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-12)


def test_loss_and_closure_are_passed_on():
    p = small()
    clipped, seen = optim.AutoClip(optim.SANIA(p)), []
    with_norm(p, 0, 1.0)
    assert clipped.step(loss=0.5) == 0.5

    def closure():
        seen.append(torch.is_grad_enabled())
        return 0.25

    assert clipped.step(closure) == 0.25 and seen == [True] and clipped.history.numel() == 2


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_norms_that_are_not_finite_stay_out_of_the_history(bad, skip):
    p = small()
    clipped = optim.AutoClip(optim.SGD(p, lr=0.1, skip_nonfinite=skip), 50.0, 3)
    for step, norm in enumerate((1.0, 2.0, bad, 4.0, 8.0)):
        with_norm(p, step, 1.0 if norm == bad else norm)
        if step == 2:
            p[0].grad[1, 1] = bad
            before = [x.detach().clone() for x in p]
        clipped.step()
        if step == 2:
            assert same_bits(p, before) == skip
            if not skip:
                return  # torch's clipping leaves nothing finite
    np.testing.assert_allclose(clipped.history.numpy(), [2.0, 4.0, 8.0], rtol=1e-13)


def test_a_first_norm_that_is_not_finite():
    p = small()
    clipped = optim.AutoClip(optim.SGD(p, lr=0.1, skip_nonfinite=True))
    with_norm(p, 0, float("inf"))
    before = [x.detach().clone() for x in p]
    clipped.step()
    assert same_bits(p, before) and clipped.history.numel() == 0
    with_norm(p, 1, 2.0)
    clipped.step()
    np.testing.assert_allclose(clipped.history.numpy(), [2.0], rtol=1e-13)


def test_the_scalers_attributes_are_passed_through():
    p = small()
    q = copies(p)
    scaled, plain = (optim.AutoClip(optim.AdamW(x), 30.0) for x in (p, q))
    for step, norm in enumerate(norms(8)):
        with_norm(p, step, 64 * norm)
        scaled.grad_scale, scaled.found_inf = torch.tensor(64.0), torch.tensor(float(step == 3))
        scaled.step()
        del scaled.grad_scale, scaled.found_inf
        assert not hasattr(scaled.optimizer, "grad_scale") and not hasattr(scaled.optimizer, "found_inf")
        if step != 3:
            with_norm(q, step, norm)
            plain.step()
    for x, y in zip(p, q, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(scaled.history, plain.history, rtol=1e-12, atol=0)
    assert float(scaled.state[p[0]]["step"]) == 7


def test_with_torchs_scaler():
    p = [x.detach().float().requires_grad_() for x in small()]
    clipped, scaler = optim.AutoClip(optim.SGD(p, lr=0.1)), torch.amp.GradScaler("cpu", init_scale=256.0)
    for step in range(4):
        scaler.scale(torch.zeros(()))
        with_norm(p, step, 1.0)
        for x in p:
            x.grad *= scaler.get_scale()
        if step == 1:
            p[1].grad[0] = torch.inf
        scaler.step(clipped)
        scaler.update()
    assert scaler.get_scale() == 128.0 and all(x.isfinite().all() for x in p)
    torch.testing.assert_close(clipped.history, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


def saved_and_loaded(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("capacity", [4, 100])
def test_resumed_equals_uninterrupted(capacity):
    p = parameters(torch.float32)
    whole = optim.AutoClip(optim.AdamW(p), 25.0, capacity)
    run(whole, p, 7)
    q = copies(p)
    resumed = optim.AutoClip(optim.AdamW(q, lr=7.0), 60.0, 2)
    resumed.load_state_dict(saved_and_loaded(whole.state_dict()))
    assert (resumed.percentile, resumed.capacity) == (25.0, capacity)
    assert same_bits([resumed.history], [whole.history])
    for optimizer, params in ((whole, p), (resumed, q)):
        run(optimizer, params, 6, first=7)
    assert same_bits(p, q) and same_bits([resumed.history], [whole.history])
    assert_same_state(whole, resumed)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deep", "pickle"]
)
def test_copies_go_on_alike(copied):
    p = parameters(torch.float32)
    optimizer = optim.AutoClip(optim.AdamW(p), 25.0, 5)
    run(optimizer, p, 7)
    q, other = copied((p, optimizer))
    run(optimizer, p, 4, first=7)
    assert not same_bits(p[3:4], q[3:4]) and not same_bits([optimizer.history], [other.history])
    run(other, q, 4, first=7)
    assert same_bits(p, q) and same_bits([optimizer.history], [other.history])
    assert other.param_groups is other.optimizer.param_groups and other.param_groups[0]["params"][0] is q[0]


def test_a_dict_of_the_optimizer_alone():
    p = parameters(torch.float32)
    plain = optim.AdamW(p)
    run(plain, p, 2)
    clipped = optim.AutoClip(optim.AdamW(copies(p)))
    clipped.load_state_dict(plain.state_dict())
    assert_same_state(clipped, plain)
    assert clipped.history.numel() == 0 and clipped.param_groups is clipped.optimizer.param_groups


@pytest.mark.filterwarnings("error")
def test_schedulers_groups_and_hooks_on_the_wrapper():
    p = small()
    clipped, seen = optim.AutoClip(optim.SGD(p[:1], lr=1.0)), []
    schedule = torch.optim.lr_scheduler.StepLR(clipped, 1, 0.5)
    clipped.register_step_post_hook(lambda *_: seen.append(1))
    with_norm(p, 0, 1.0)
    clipped.step()
    schedule.step()
    assert clipped.optimizer.param_groups[0]["lr"] == 0.5 and seen == [1]
    clipped.add_param_group({"params": p[1:], "lr": 2.0})
    assert [group["lr"] for group in clipped.optimizer.param_groups] == [0.5, 2.0]
    with_norm(p, 1, 1.0)
    before = p[1].detach().clone()
    clipped.step()
    assert not torch.equal(p[1], before)
    clipped.zero_grad()
    assert all(x.grad is None for x in p)


def test_the_wrapped_optimizer_refuses_one_parameter_at_a_time():
    p = small()
    clipped = optim.AutoClip(optim.AdamW(p))
    give_gradients(p, 0)
    for optimizer in (clipped, clipped.optimizer):
        with pytest.raises(RuntimeError, match="a clipping wrapper looks at all gradients"):
            optimizer.step_param(p[0])


def test_hooks_of_the_state_dict_run():
    clipped, seen = optim.AutoClip(optim.SGD(small())), []
    clipped.register_state_dict_pre_hook(lambda *_: seen.append("save"))
    clipped.register_state_dict_post_hook(lambda _, d: d | {"more": 1})
    clipped.register_load_state_dict_pre_hook(lambda _, d: seen.append(d["more"]))
    clipped.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    clipped.load_state_dict(clipped.state_dict())
    assert seen == ["save", 1, "loaded"]


def test_bad_input():
    with pytest.raises(TypeError, match="`optimizer`"):
        optim.AutoClip(torch.optim.SGD(small()))
    for percentile in (-1.0, 101.0, float("nan")):
        with pytest.raises(ValueError, match="`percentile`"):
            optim.AutoClip(optim.SGD(small()), percentile)
    with pytest.raises(ValueError, match="`capacity`"):
        optim.AutoClip(optim.SGD(small()), capacity=0)
    with pytest.raises(TypeError, match="`capacity`"):
        optim.AutoClip(optim.SGD(small()), capacity=1.5)


def test_the_lower_of_two_norms():
    for most, percentile_counts in ((0.5, False), (10.0, True)):
        p = small()
        before = [x.detach().clone() for x in p]
        clipped = optim.AutoClip(optim.SGD(p, lr=1.0, max_norm=most), 0.0)
        for norm in (2.0, 4.0):
            with_norm(p, 0, norm)
            before = [x.detach().clone() for x in p]
            clipped.step()
        moved = sum(float((x.detach() - y).square().sum()) for x, y in zip(p, before, strict=True)) ** 0.5
        assert moved == pytest.approx(2.0 if percentile_counts else 0.5, rel=1e-5)


def test_a_captured_step_looks_at_all_norms():
    p, q = small(), small()
    clipped, plain = optim.AutoClip(optim.SGD(p, capturable=True), 50.0, 5), optim.AutoClip(optim.SGD(q), 50.0, 5)
    for step, norm in enumerate((1.0, 5.0, 3.0, 0.5, 2.0, 7.0)):
        with_norm(p, step, norm)
        with_norm(q, step, norm)
        clipped._tried = 0  # a graph that is replayed runs no Python
        clipped.step()
        plain.step()
    assert all(torch.equal(x, y) for x, y in zip(p, q, strict=True))


def test_groups_and_state_after_the_wrapped_optimizer_has_loaded():
    p = small()
    clipped = optim.AutoClip(optim.AdamW(p, lr=0.1))
    with_norm(p, 0, 1.0)
    clipped.step()
    inner = clipped.optimizer
    inner.load_state_dict(inner.state_dict())
    assert clipped.param_groups is inner.param_groups and clipped.state is inner.state
    assert clipped.defaults is inner.defaults
    with pytest.raises(RuntimeError, match=r"^AutoClip\.step_param: "):
        clipped.step_param(p[0])
