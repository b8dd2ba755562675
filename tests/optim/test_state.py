"""The state dict: what is in it, what can be done with it, and that a run goes on from it with the same bits."""

import copy
import io
import pickle

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    KERNEL_AND_REFERENCE,
    SUMS,
    assert_same_state,
    copies,
    every_variant,
    make,
    normal,
    parameters,
    run,
    same_bits,
)

HALF = {
    "nearest": {"state_dtype": torch.float32},
    "stochastic": {"rounding": "stochastic", "seed": 7},
    "kahan": {"rounding": "kahan"},
    "split_master": {"rounding": "split_master", "state_dtype": torch.float32},
    "master_weights": {"master_weights": True},
}


def saved_and_loaded(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@every_variant
def test_resumed_equals_uninterrupted(variant):
    p = parameters(torch.float32)
    whole = make(variant, p)
    run(whole, p, 4)
    q = copies(p)
    resumed = make(variant, q, lr=7.0)  # overwritten by what was saved
    resumed.load_state_dict(saved_and_loaded(whole.state_dict()))
    assert_same_state(whole, resumed)
    for optimizer, params in ((whole, p), (resumed, q)):
        run(optimizer, params, 4, first=4)
    assert same_bits(p, q)
    assert_same_state(whole, resumed)


@KERNEL_AND_REFERENCE
@pytest.mark.filterwarnings("ignore:.*slow average:UserWarning")
@pytest.mark.parametrize(
    "variant", ["AdamW", "SGD_momentum", "AdEMAMix", "NAdam", "DiffGrad", "MADGRAD", "MirrorMADGRAD", *SUMS]
)
@pytest.mark.parametrize("mode", HALF)
def test_resumed_equals_uninterrupted_in_16_bits(mode, variant, fused):
    p = parameters(torch.bfloat16)
    whole = make(variant, p, **HALF[mode], fused=fused)
    run(whole, p, 3)
    q = copies(p)
    saved = saved_and_loaded(whole.state_dict())
    resumed = make(variant, q, fused=fused)
    resumed.load_state_dict(saved)
    assert_same_state(whole, resumed)
    for optimizer, params in ((whole, p), (resumed, q)):
        run(optimizer, params, 3, first=3)
    assert same_bits(p, q)
    assert_same_state(whole, resumed)


def test_saved_dtypes_survive_unless_state_dtype_says_otherwise():
    p = parameters(torch.bfloat16)
    optimizer = optim.AdamW(p, rounding="split_master", state_dtype=torch.float32)
    run(optimizer, p, 1)
    saved = optimizer.state_dict()
    wanted = {"exp_avg": torch.float32, "exp_avg_sq": torch.float32, "master_low": torch.int16, "step": torch.float32}
    again = optim.AdamW(copies(p))
    again.load_state_dict(saved)
    assert {name: value.dtype for name, value in again.state_dict()["state"][4].items()} == wanted
    run(again, again.param_groups[0]["params"], 1)
    assert {name: value.dtype for name, value in again.state_dict()["state"][4].items()} == wanted
    again.param_groups[0]["state_dtype"] = torch.bfloat16
    narrow = copy.deepcopy(saved)
    narrow["param_groups"][0]["state_dtype"] = torch.bfloat16
    again.load_state_dict(narrow)
    run(again, again.param_groups[0]["params"], 1)
    assert again.state_dict()["state"][4]["exp_avg"].dtype == torch.bfloat16


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("narrow", ["exp_avg", "exp_avg_sq"])
def test_states_of_several_dtypes_take_the_widest(narrow, fused):
    """What another optimizer saved; nothing is rounded, whichever state comes first."""
    p = parameters(torch.bfloat16)
    saved = optim.AdamW(p, state_dtype=torch.float32)
    run(saved, p, 2)
    saved = saved.state_dict()
    for entry in saved["state"].values():
        entry[narrow] = entry[narrow].bfloat16()
    q, r = copies(p), copies(p)
    mixed, wide = optim.AdamW(q, fused=fused), optim.AdamW(r, fused=fused)
    mixed.load_state_dict(saved)
    for entry in saved["state"].values():
        entry[narrow] = entry[narrow].float()
    wide.load_state_dict(saved)
    run(mixed, q, 2, first=2)
    run(wide, r, 2, first=2)
    assert same_bits(q, r)
    assert_same_state(mixed, wide)
    assert mixed.state[q[4]][narrow].dtype == torch.float32


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deep", "pickle"]
)
@every_variant
def test_copies_go_on_alike(variant, copied):
    p = parameters(torch.float32)
    optimizer = make(variant, p)
    run(optimizer, p, 3)
    q, other = copied((p, optimizer))
    assert all(x is y for x, y in zip(other.param_groups[0]["params"], q, strict=True))
    run(optimizer, p, 3, first=3)
    assert not same_bits(p[3:4], q[3:4])
    run(other, q, 3, first=3)
    assert same_bits(p, q)
    assert_same_state(optimizer, other)


def test_hooks_of_pickled_optimizers_work():
    p = [normal(3).requires_grad_()]
    optimizer = optim.AdamW(p)
    run(optimizer, p, 1)
    other, seen = pickle.loads(pickle.dumps(optimizer)), []
    other.register_step_post_hook(lambda *_: seen.append(1))
    run(other, other.param_groups[0]["params"], 1)
    assert seen == [1]


def test_hooks_of_the_state_dict_run():
    p = parameters(torch.float32)
    optimizer, seen = optim.SGD(p), []
    optimizer.register_state_dict_pre_hook(lambda *_: seen.append("save"))
    optimizer.register_state_dict_post_hook(lambda _, d: d | {"more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, d: seen.append(d["more"]))
    optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["save", 1, "loaded"]


def test_dicts_that_do_not_fit_are_refused():
    p = parameters()
    saved = optim.AdamW(p).state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.AdamW([{"params": p[:2]}, {"params": p[2:]}]).load_state_dict(saved)
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.AdamW(p[1:]).load_state_dict(saved)
