"""What users of torch.optim rely on: groups, learning rates, schedulers, closures, hooks, gradients and versions."""

import copy

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    normal,
    parameters,
    run,
    same_bits,
    worst,
)


def two_groups(kind, **extra):
    params = parameters()
    groups = [{"params": params[:6], "lr": 0.01}, {"params": params[6:], "betas": (0.5, 0.8), "weight_decay": 0.3}]
    return params, kind(groups, lr=0.002, **extra)


def test_groups_have_hyper_parameters_of_their_own():
    p, theirs = two_groups(torch.optim.AdamW)
    q, ours = two_groups(optim.AdamW)
    run(theirs, p, 5)
    run(ours, q, 5)
    for optimizer in (theirs, ours):
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.param_groups[0]["weight_decay"] = 0.0
        optimizer.param_groups[1]["eps"] = 0.1
    run(theirs, p, 5, first=5)
    run(ours, q, 5, first=5)
    assert worst(q, p) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_learning_rate_in_a_tensor(dtype, shape):
    p, q = parameters(), parameters()
    lr = torch.full(shape, 0.25, dtype=dtype)
    held, plain = optim.AdamW(p, lr=lr), optim.AdamW(q, lr=0.25)
    run(held, p, 2)
    run(plain, q, 2)
    held.param_groups[0]["lr"].fill_(0.5)
    plain.param_groups[0]["lr"] = 0.5
    run(held, p, 2, first=2)
    run(plain, q, 2, first=2)
    assert same_bits(p, q)


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=12),
    ],
    ids=["step", "cosine", "one_cycle"],
)
@pytest.mark.filterwarnings("error")
def test_schedulers(schedule, lr):
    p, q = parameters(), parameters()
    theirs = torch.optim.SGD(p, lr=copy.copy(lr), momentum=0.9)
    ours = optim.SGD(q, lr=copy.copy(lr), momentum=0.9)
    schedulers = schedule(theirs), schedule(ours)
    for step in range(10):
        run(theirs, p, 1, first=step)
        run(ours, q, 1, first=step)
        for scheduler in schedulers:
            scheduler.step()
    assert worst(q, p) < 1e-12


@pytest.mark.parametrize("before", [0.0, 0.9])
def test_momentum_switched_on_or_off_between_steps(before):
    p, q = parameters(), parameters()
    theirs, ours = torch.optim.SGD(p, lr=0.1, momentum=before), optim.SGD(q, lr=0.1, momentum=before)
    run(theirs, p, 3)
    run(ours, q, 3)
    for optimizer in (theirs, ours):
        optimizer.param_groups[0]["momentum"] = 0.9 - before
    run(theirs, p, 3, first=3)
    run(ours, q, 3, first=3)
    assert worst(q, p) < 1e-12


def test_closure_runs_once_with_gradients_and_its_loss_comes_back():
    p = normal(5).requires_grad_()
    optimizer, calls = optim.SGD([p], lr=0.1), []

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        calls.append(torch.is_grad_enabled())
        return loss

    before = p.detach().clone()
    loss = optimizer.step(closure)
    assert calls == [True] and float(loss.detach()) == float((before**2).sum())
    torch.testing.assert_close(p.detach(), before * 0.8)
    assert optimizer.step() is None


def test_step_hooks_in_order():
    p = normal(5).requires_grad_()
    optimizer, seen = optim.Lion([p]), []
    p.grad = normal(5, seed=1)
    optimizer.register_step_pre_hook(lambda *_: seen.append(("before", p.detach().clone())))
    optimizer.register_step_post_hook(lambda *_: seen.append(("after", p.detach().clone())))
    optimizer.step()
    assert [name for name, _ in seen] == ["before", "after"]
    assert not torch.equal(seen[0][1], seen[1][1]) and torch.equal(seen[1][1], p.detach())


def test_group_added_after_steps():
    p, q = parameters(), parameters()
    theirs, ours = torch.optim.AdamW(p[:4]), optim.AdamW(q[:4])
    for optimizer, params in ((theirs, p), (ours, q)):
        run(optimizer, params, 3)
        optimizer.add_param_group({"params": params[4:], "lr": 0.1})
        run(optimizer, params, 3, first=3)
    assert worst(q, p) < 1e-12
    assert float(ours.state[q[0]]["step"]) == 6 and float(ours.state[q[-1]]["step"]) == 3


def test_named_parameters_keep_their_names():
    model = torch.nn.Linear(3, 2)
    optimizer = optim.AdamW(model.named_parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
