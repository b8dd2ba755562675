"""Entries of ``optimizer.state`` are the truth: written to, replaced, cleared, or saved by one who goes on using them."""

import copy
import io
import pickle

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    VARIANTS,
    assert_same_state,
    copies,
    make,
    normal,
    parameters,
    run,
    same_bits,
)

IN_THE_GROUPS = (
    "DoG",
    "AdaGradNorm",
    "OPTAMSGrad",
    "OPTAMSGrad_previous",
)  # keep numbers that `state.clear()` does not reach


def test_pickles_are_as_large_as_the_states():
    """Entries that were slices of one storage would each be written with all of it."""
    params = [normal(500, dtype=torch.float32).requires_grad_() for _ in range(100)]
    optimizer = optim.AdamW(params)
    run(optimizer, params, 1)
    size = 100 * 500 * 4
    assert len(pickle.dumps(optimizer)) < 5 * size
    assert len(pickle.dumps(optimizer.state_dict())) < 4 * size
    buffer = io.BytesIO()
    torch.save(optimizer.state[params[0]]["exp_avg"], buffer)
    assert buffer.tell() < 6000
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    assert buffer.tell() < 4 * size


def test_loading_copies():
    p = parameters(torch.float32)
    optimizer = optim.AdamW(p)
    run(optimizer, p, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    optimizer.load_state_dict(saved)
    run(optimizer, p, 2)
    for key, entry in kept["state"].items():
        assert same_bits(entry.values(), saved["state"][key].values())
    assert saved["param_groups"] == kept["param_groups"]


def test_unknown_entries_of_a_dict_are_kept():
    p = [normal(3).requires_grad_()]
    optimizer = optim.AdamW(p)
    run(optimizer, p, 1)
    saved = optimizer.state_dict()
    saved["state"][0]["mine"], saved["param_groups"][0]["other"] = torch.ones(2, dtype=torch.int64), "kept"
    optimizer.load_state_dict(saved)
    run(optimizer, p, 1)
    again = optimizer.state_dict()
    assert again["state"][0]["mine"].tolist() == [1, 1] and again["param_groups"][0]["other"] == "kept"


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "SGD"])
def test_entries_are_the_truth(variant):
    """Written to or replaced, for all or for one parameter: the next step uses what stands there."""
    p, q = parameters(), parameters()
    first, second = make(variant, p), make(variant, q)
    run(first, p, 2)
    run(second, q, 2)
    for x, y in zip(p, q, strict=True):
        for name, value in list(first.state[x].items()):
            new = value.clone() + 1 if name in ("step", "exp_avg", "momentum_buffer", "s", "z") else value.clone()
            first.state[x][name] = new
            second.state[y][name].copy_(new)
    run(first, p, 2)
    run(second, q, 2)
    assert same_bits(p, q)
    assert_same_state(first, second)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in IN_THE_GROUPS])
def test_cleared_state_starts_anew(variant):
    """``optimizer.state.clear()``: the step after it is a first step."""
    p = parameters()
    used = make(variant, p)
    run(used, p, 3)
    used.state.clear()
    q = copies(p)
    fresh = make(variant, q)
    run(used, p, 2, first=3)
    run(fresh, q, 2, first=3)
    assert same_bits(p, q)
    assert_same_state(used, fresh)
