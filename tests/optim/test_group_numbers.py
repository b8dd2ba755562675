"""Numbers of a whole group are written in place, and what belongs to all groups is one tensor."""

from copy import deepcopy

import pytest
import torch

from fastcore_ops import optim

from .problems import normal


def two_groups(make):
    params = [normal(3, 2, seed=i).requires_grad_() for i in range(2)]
    return params, make([{"params": [p]} for p in params])


def step(optimizer, params):
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()


@pytest.mark.parametrize("make", [optim.DoG, optim.AdaGradNorm])
def test_numbers_are_written_in_place(make):
    params, optimizer = two_groups(make)
    step(optimizer, params)
    names = [name for name in ("rbar", "G", "eta", "b_squared") if name in optimizer.param_groups[0]]
    before = [group[name] for group in optimizer.param_groups for name in names]
    values = [x.clone() for x in before]
    step(optimizer, params)
    assert all(x is y for x, y in zip(before, [g[n] for g in optimizer.param_groups for n in names], strict=True))
    assert any(float(x) != float(y) for x, y in zip(before, values, strict=True))


def test_all_groups_of_adagrad_norm_hold_the_same_tensor():
    params, optimizer = two_groups(optim.AdaGradNorm)
    step(optimizer, params)
    saved = optimizer.state_dict()
    saved["param_groups"] = [deepcopy(group) for group in saved["param_groups"]]  # each with a tensor of its own
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["b_squared"] is optimizer.param_groups[1]["b_squared"]
    step(optimizer, params)
    assert optimizer.param_groups[0]["b_squared"] is optimizer.param_groups[1]["b_squared"]
