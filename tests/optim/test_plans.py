"""States that do not fit, groups that are replaced, errors that are not about the plan, and the ends of formulas."""

import math

import pytest
import torch

from fastcore_ops import optim

from .problems import KERNEL_AND_REFERENCE, normal


def give_ones(params):
    for p in params:
        p.grad = torch.ones_like(p)


def test_a_state_of_another_shape():
    p = [normal(4, 3).requires_grad_()]
    optimizer = optim.AdamW(p)
    give_ones(p)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = torch.ones(3)
    optimizer.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"AdamW: expected the state `exp_avg` .* \(4, 3\), got \(3,\)"):
        optimizer.step()


def test_a_number_of_another_shape_is_taken():
    p = [normal(1).requires_grad_()]
    optimizer = optim.AdamW(p)
    give_ones(p)
    optimizer.step()
    optimizer.state[p[0]]["step"] = torch.tensor([5.0])
    optimizer.step()
    assert float(optimizer.state[p[0]]["step"]) == 6


def test_a_momentum_buffer_of_none_is_of_no_step():
    p, q = [normal(4).requires_grad_()], [normal(4).requires_grad_()]
    ours = optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5)
    plain = torch.optim.SGD(q, lr=0.1, momentum=0.9, dampening=0.5)
    saved = plain.state_dict() | {"state": {0: {"momentum_buffer": None}}}
    for params, optimizer in ((p, ours), (q, plain)):
        optimizer.load_state_dict(saved)
        give_ones(params)
        optimizer.step()
    assert torch.equal(p[0], q[0])


def test_replaced_and_removed_groups():
    params = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    optimizer = optim.SGD([{"params": [p]} for p in params], lr=1.0)
    give_ones(params)
    optimizer.step()
    optimizer.param_groups[0] = dict(optimizer.param_groups[0], lr=0.5)
    optimizer.step()
    assert [float(p.detach()[0]) for p in params] == [-1.5, -2.0]
    del optimizer.param_groups[0]
    optimizer.step()
    assert [float(p.detach()[0]) for p in params] == [-1.5, -3.0]


def test_only_a_plan_that_no_longer_fits_is_made_anew(monkeypatch):
    p = [normal(4).requires_grad_()]
    optimizer, tries = optim.SGD(p), []
    give_ones(p)
    optimizer.step()

    def fail(*_):
        tries.append(1)
        raise RuntimeError("not about the plan")

    monkeypatch.setattr(type(optimizer._kernels[0]), "run", fail)
    with pytest.raises(RuntimeError, match="not about the plan"):
        optimizer.step()
    assert len(tries) == 1


def test_a_parameter_that_changes_dtype_with_its_gradient():
    p = [normal(4).requires_grad_()]
    optimizer = optim.AdamW(p)
    for dtype in (torch.float64, torch.float32):
        p[0].grad = None
        p[0].data = p[0].data.to(dtype)
        give_ones(p)
        optimizer.step()
    assert float(optimizer.state[p[0]]["step"]) == 2


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("make", [optim.RAdam, optim.AdaBelief])
@pytest.mark.parametrize("beta2", [0.6, 0.5])
def test_short_averages(make, beta2, fused):
    p = [normal(4).requires_grad_()]
    optimizer = make(p, betas=(0.9, beta2), fused=fused)
    for _ in range(3):
        give_ones(p)
        optimizer.step()
    assert p[0].isfinite().all()


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("make", [optim.MADGRAD, optim.MirrorMADGRAD])
def test_a_learning_rate_of_0_and_a_gradient_that_is_not_finite(make, momentum, bad, fused):
    p = [normal(4).requires_grad_()]
    optimizer = make(p, lr=0.0, momentum=momentum, fused=fused)
    p[0].grad = torch.full_like(p[0], bad)
    optimizer.step()
    assert p[0].isfinite().all()


def test_adagrad_has_its_states_from_the_beginning():
    params = [normal(2).requires_grad_() for _ in range(2)]
    optimizer = optim.Adagrad(params, initial_accumulator_value=0.5)
    assert all(optimizer.state[p]["sum"].tolist() == [0.5, 0.5] for p in params)
    assert set(optimizer.state_dict()["state"]) == {0, 1}
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert optimizer.state[params[0]]["sum"].tolist() == [1.5, 1.5] and optimizer.state[params[1]]["step"] == 0
