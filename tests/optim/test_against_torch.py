"""The rules that torch has, against torch.optim: many steps, every layout, and state dicts that go both ways."""

import copy

import pytest
import torch

from fastcore_ops import optim

from .problems import KERNEL_AND_REFERENCE, copies, give_gradients, normal, parameters, run, worst

RULES = [
    ("AdamW", {}),
    ("AdamW", {"lr": 0.03, "betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.3, "amsgrad": True}),
    ("Adam", {"betas": (0.0, 0.99), "weight_decay": 0.3, "decoupled_weight_decay": True}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.02}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
]
rules = pytest.mark.parametrize(("name", "options"), RULES, ids=[f"{n}-{'-'.join(o)}" for n, o in RULES])


def limit(name):
    """In float64; torch keeps NAdam's product of momenta in float32."""
    return 1e-8 if name == "NAdam" else 1e-12


def theirs_and_ours(name, options, dtype, **switches):
    theirs, ours = parameters(dtype), parameters(dtype)
    return (
        (getattr(torch.optim, name)(theirs, **options), theirs),
        (getattr(optim, name)(ours, **options, **switches), ours),
    )


def state_values(optimizer, name):
    """All entries of a name; torch does not keep some for a rule without momentum."""
    entries = optimizer.state_dict()["state"]
    return [entries[key][name] for key in sorted(entries) if name in entries[key]]


@KERNEL_AND_REFERENCE
@rules
def test_float64_equals_torch(name, options, fused):
    (theirs, p), (ours, q) = theirs_and_ours(name, options, torch.float64, fused=fused)
    for steps in (1, 3, 26):
        run(theirs, p, steps, first=steps)
        run(ours, q, steps, first=steps)
        assert worst(q, p) <= limit(name)
    kept = {key for state in theirs.state_dict()["state"].values() for key in state}
    for key in kept:
        assert worst(state_values(ours, key), state_values(theirs, key)) <= (
            1e-6 if key == "mu_product" else limit(name)
        )
    for mine, its in zip(q, p, strict=True):
        assert mine.stride() == its.stride()
        for key in kept - {"step", "mu_product"}:
            assert ours.state[mine][key].stride() == mine.stride() and ours.state[mine][key].dtype == torch.float64


@KERNEL_AND_REFERENCE
@rules
def test_float32_is_as_good_as_torch(name, options, fused):
    """Against float64 from the same numbers: 1.5 x the error of torch's loop and an ulp per step."""
    steps = 20
    (theirs, p), (ours, q) = theirs_and_ours(name, options | {"foreach": False}, torch.float32, fused=fused)
    truth = copies(p, torch.float64)
    exact = getattr(torch.optim, name)(truth, **options)
    run(theirs, p, steps)
    run(ours, q, steps)
    run(exact, truth, steps, like=torch.float32)
    assert worst(q, truth) <= 1.5 * worst(p, truth) + steps * torch.finfo(torch.float32).eps


@rules
def test_hyper_parameters_have_torchs_defaults(name, options):
    p = torch.zeros(3, requires_grad=True)
    theirs, ours = getattr(torch.optim, name)([p]), getattr(optim, name)([p])
    mine = ours.param_groups[0]
    for key, value in theirs.param_groups[0].items():
        if name == "AdamW" and key == "decoupled_weight_decay":
            continue  # AdamW by another name
        assert key in mine and (key == "params" or mine[key] == value), key


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@rules
def test_torchs_state_dict_loads_and_both_continue_alike(name, options, dtype):
    (theirs, p), (ours, q) = theirs_and_ours(name, options, dtype)
    run(theirs, p, 7)
    with torch.no_grad():
        for mine, its in zip(q, p, strict=True):
            mine.copy_(its)
    ours.load_state_dict(theirs.state_dict())
    for key, value in options.items():
        assert ours.param_groups[0][key] == value
    run(theirs, p, 8, first=7)
    run(ours, q, 8, first=7)
    assert worst(q, p) <= (limit(name) if dtype == torch.float64 else 2e-5)


@rules
def test_our_state_dict_loads_into_torchs(name, options):
    (theirs, p), (ours, q) = theirs_and_ours(name, options, torch.float64)
    run(ours, q, 7)
    with torch.no_grad():
        for mine, its in zip(q, p, strict=True):
            its.copy_(mine)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))  # torch aliases what it is given
    run(theirs, p, 8, first=7)
    run(ours, q, 8, first=7)
    assert worst(q, p) <= limit(name)


@rules
def test_a_dict_that_went_there_and_back_is_the_same_run(name, options):
    (theirs, _), (ours, q) = theirs_and_ours(name, options, torch.float32)
    run(ours, q, 5)
    theirs.load_state_dict(ours.state_dict())
    again = copies(q)
    back = getattr(optim, name)(again, **options)
    back.load_state_dict(theirs.state_dict())
    run(ours, q, 5, first=5)
    run(back, again, 5, first=5)
    assert worst(again, q) <= (1e-6 if name == "NAdam" else 0.0)


@rules
def test_gradients_in_another_layout(name, options):
    """Gradients that are contiguous where the parameter is not, or expanded: read by their strides."""
    (theirs, p), (ours, q) = theirs_and_ours(name, options, torch.float64)
    for step in range(5):
        give_gradients(p, step)
        give_gradients(q, step)
        for params in (p, q):
            for number, x in enumerate(params):
                if x.dim() > 1 and step % 2 == number % 2:
                    x.grad = x.grad.contiguous()
            params[6].grad = torch.full((5,), float(step), dtype=torch.float64).expand(64, 5)
        theirs.step()
        ours.step()
    assert worst(q, p) <= limit(name)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adagrad", "RAdam", "NAdam"])
def test_complex_parameters_are_pairs_of_reals(name):
    p, q = (torch.complex(normal(3, 4), normal(3, 4, seed=1)).requires_grad_() for _ in range(2))
    theirs, ours = getattr(torch.optim, name)([p]), getattr(optim, name)([q])
    for step in range(4):
        for x in (p, q):
            x.grad = torch.full((3, 4), complex(step + 1, -step), dtype=torch.complex128)
        theirs.step()
        ours.step()
    assert float((p - q).detach().abs().max()) <= limit(name)
    kept = theirs.state[p]
    for key in kept.keys() - {"step", "mu_product"}:
        assert ours.state[q][key].dtype == kept[key].dtype
