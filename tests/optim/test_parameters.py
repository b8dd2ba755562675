"""Which parameters a step serves: frozen, shared, without gradient, of any layout, one at a time, differentiably."""

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    LOOK_AT_ALL,
    SUMS,
    VARIANTS,
    copies,
    every_variant,
    give_gradients,
    make,
    normal,
    parameters,
    run,
    same_bits,
    worst,
)

BEGIN_EARLY = ("Adagrad", "SANIA", "SANIA_adam", "FedSpeed", "FedSpeed_momentum")  # have states from construction on


@every_variant
def test_without_gradient_nothing_happens(variant):
    params = parameters()
    optimizer = make(variant, params)
    give_gradients(params, 0)
    held, params[4].grad = params[4].grad, None
    before = params[4].detach().clone()
    optimizer.step()
    assert torch.equal(params[4], before)
    if variant in BEGIN_EARLY:
        assert float(optimizer.state[params[4]]["step"]) == 0
    else:
        assert not optimizer.state.get(params[4])
    params[4].grad = held
    optimizer.step()
    assert float(optimizer.state[params[4]]["step"]) == 1 and float(optimizer.state[params[5]]["step"]) == 2


def test_each_parameter_counts_its_own_steps():
    p, q = parameters(), parameters()
    theirs, ours = torch.optim.AdamW(p), optim.AdamW(q)
    for step in range(9):
        for optimizer, params in ((theirs, p), (ours, q)):
            give_gradients(params, step)
            for i, x in enumerate(params):
                if (step + i) % 3 == 0:
                    x.grad = None
            optimizer.step()
    assert worst(q, p) < 1e-12


def test_frozen_parameter_unfrozen_later():
    p, q = parameters(), parameters()
    theirs, ours = torch.optim.AdamW(p), optim.AdamW(q)
    for optimizer, params in ((theirs, p), (ours, q)):
        params[5].requires_grad_(False)
        for step in range(6):
            give_gradients(params, step)
            if step < 3:
                params[5].grad = None
            else:
                params[5].requires_grad_()
            optimizer.step()
    assert worst(q, p) < 1e-12


def test_plain_tensors_with_a_gradient():
    """requires_grad=False but .grad set: torch steps."""
    p, q = normal(4), normal(4)
    p.grad, q.grad = normal(4, seed=1), normal(4, seed=1)
    torch.optim.AdamW([p]).step()
    optim.AdamW([q]).step()
    torch.testing.assert_close(p, q, rtol=1e-14, atol=1e-14)


def test_inference_tensors():
    with torch.inference_mode():
        p, q = normal(4), normal(4)
        p.grad, q.grad = normal(4, seed=1), normal(4, seed=1)
        torch.optim.AdamW([p]).step()
        optim.AdamW([q]).step()
        torch.testing.assert_close(p, q, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in SUMS])
def test_parameter_that_is_listed_twice_steps_twice(variant):
    p, q = normal(40_000).requires_grad_(), normal(40_000).requires_grad_()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        twice = make(variant, [p, p])
    once = make(variant, [q])
    for step in range(3):
        p.grad, q.grad = normal(40_000, seed=step), normal(40_000, seed=step)
        twice.step()
        once.step()
        once.step()
    assert same_bits([p], [q])
    with pytest.raises(ValueError, match="more than one parameter group"):
        make(variant, [{"params": [p]}, {"params": [p]}])


@pytest.mark.parametrize("variant", SUMS)
def test_parameter_that_is_listed_twice_counts_twice(variant):
    """Sums come before steps: not what two steps one after the other would do."""
    p = normal(40, 3).requires_grad_()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        twice = make(variant, [p, p])
    run(twice, [p], 2)
    assert float(twice.state[p]["step"]) == 4 and p.isfinite().all()


@pytest.mark.parametrize("variant", LOOK_AT_ALL)
def test_one_parameter_at_a_time_is_refused(variant):
    params = parameters()
    optimizer = make(variant, params)
    give_gradients(params, 0)
    before = copies(params)
    reason = {"AdaGradNorm": '`mode="global"`', "FedSpeed": "`max_norm`"}.get(variant, "the rule")
    with pytest.raises(RuntimeError, match=f"step_param: {reason} looks at all gradients"):
        optimizer.step_param(params[6])
    assert same_bits(params, before)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in LOOK_AT_ALL])
def test_one_parameter_at_a_time(variant):
    p, q = parameters(), parameters()
    whole, single = make(variant, p), make(variant, q)
    for step in range(3):
        run(whole, p, 1, first=step)
        give_gradients(q, step)
        for x in reversed(q):
            single.step_param(x)
    assert same_bits(p, q)
    with pytest.raises(ValueError, match="parameter of this optimizer"):
        single.step_param(normal(3))


@pytest.mark.filterwarnings("error")
def test_gradients_released_by_hooks():
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    released = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    released.load_state_dict(plain.state_dict())
    first, second = optim.AdamW(plain.parameters()), optim.AdamW(released.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(second, 100)

    def hook(p):
        second.step_param(p)
        p.grad = None

    for p in released.parameters():
        p.register_post_accumulate_grad_hook(hook)
    for step in range(3):
        x = normal(5, 4, seed=step)
        plain(x).square().sum().backward()
        first.step()
        first.zero_grad()
        released(x).square().sum().backward()
        schedule.step()
    assert same_bits(plain.parameters(), released.parameters())
    assert all(p.grad is None for p in released.parameters())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("Lion", "Grams", *SUMS)])
def test_gradient_flows_through_steps(variant):
    """differentiable=True, as torch's own tests do it: two steps as a function of parameter and gradients."""

    def two_steps(p, first, second):
        p = p.clone()
        optimizer = make(variant, [p], differentiable=True)
        for g in (first, second):
            p.grad = g
            optimizer.step()
        return p

    inputs = [normal(5, seed=seed).requires_grad_() for seed in (1, 2, 3)]
    assert torch.autograd.gradcheck(two_steps, inputs, eps=1e-7, atol=1e-4)
    plain = copies(inputs[:1])
    optimizer = make(variant, plain)
    for g in inputs[1:]:
        plain[0].grad = g.detach()
        optimizer.step()
    torch.testing.assert_close(two_steps(*inputs).detach(), plain[0].detach(), rtol=1e-12, atol=1e-12)


def test_available_lists_every_class_with_its_paper():
    found = {info.name: info for info in optim.available()}
    classes = {
        name
        for name in optim.__all__
        if isinstance(getattr(optim, name), type) and issubclass(getattr(optim, name), torch.optim.Optimizer)
    }
    assert set(found) == classes - {"AutoClip"}  # a wrapper
    assert all(info.paper and info.summary.endswith((".", ":")) for info in found.values())
    assert (found["AdamW"].state_bytes, found["AdamW"].traffic_bytes) == (8, 28)
    assert found["AdEMAMix"].traffic_bytes == 36
    assert found["MADGRAD"].traffic_bytes == 32
