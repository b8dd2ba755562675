"""PyTorch's own optimizer test inputs, through our classes of the same names: equal numbers, dicts both ways, equal errors."""

import copy
import warnings

import pytest
import torch

from fastcore_ops import optim

from .problems import copies, parameters, run, worst

pytest.importorskip("expecttest", reason="torch's test inputs import it")
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

NAMES = ("AdamW", "Adam", "SGD", "NAdam", "RAdam", "Adagrad")
INFOS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ in NAMES}
STEPS = 5


def widened(value):
    """Tensors in float64: with one of float32 torch would compute ``1 - beta`` and ``1 - lr * weight_decay`` in that."""
    if isinstance(value, tuple):
        return tuple(map(widened, value))
    return torch.full_like(value, round(float(value), 6), dtype=torch.float64) if torch.is_tensor(value) else value


def inputs_of(name):
    """Those for the CPU, and those for GPUs (learning rates and betas in tensors) without what only GPUs have."""
    found = {}
    for device in ("cpu", "cuda"):
        for given in INFOS[name].optim_inputs_func(device, torch.float64):
            given.kwargs.pop("capturable", None)
            wide = {key: widened(value) for key, value in given.kwargs.items()}
            found.setdefault(repr(wide), wide)
    return list(found.values())


def described(name, options):
    return f"{name}-" + "-".join(f"{k}={'tensor' if torch.is_tensor(v) else v}" for k, v in options.items())


INPUTS = [(name, options) for name in NAMES for options in inputs_of(name)]
every_input = pytest.mark.parametrize(("name", "options"), INPUTS, ids=[described(*given) for given in INPUTS])


def limit(name):
    return 1e-8 if name == "NAdam" else 1e-12  # torch keeps the product of momenta in float32


def both(name, options):
    """Torch's optimizer and ours, over equal parameters."""
    p, q = parameters(), parameters()
    return (
        p,
        getattr(torch.optim, name)(p, **copy.deepcopy(options)),
        q,
        getattr(optim, name)(q, **copy.deepcopy(options)),
    )


def test_all_of_torchs_inputs_are_here():
    assert set(INFOS) == set(NAMES)
    assert {name: len(inputs_of(name)) for name in NAMES if len(inputs_of(name)) < 6} == {}


@every_input
def test_equals_torch(name, options):
    p, theirs, q, ours = both(name, options)
    for first in range(STEPS):
        run(theirs, p, 1, first=first)
        run(ours, q, 1, first=first)
        assert worst(q, p) <= limit(name)


@every_input
def test_two_groups_of_named_parameters(name, options):
    """As torch's tests have them: the second group overrides what the first one takes from the constructor."""
    p, q = parameters(), parameters()
    pairs = []
    for kind, params in ((getattr(torch.optim, name), p), (getattr(optim, name), q)):
        named = [(f"p{i}", x) for i, x in enumerate(params)]
        groups = [{"params": named[:5]}, {"params": named[5:], "weight_decay": 0.3, "lr": 0.02}]
        pairs.append((kind(groups, **copy.deepcopy(options)), params))
    for optimizer, params in pairs:
        run(optimizer, params, STEPS)
    assert worst(q, p) <= limit(name)
    theirs, ours = (optimizer.state_dict()["param_groups"] for optimizer, _ in pairs)
    assert [group["param_names"] for group in theirs] == [group["param_names"] for group in ours]


@every_input
def test_state_dicts_go_both_ways(name, options):
    p, theirs, q, ours = both(name, options)
    run(theirs, p, STEPS)
    from_torch = copies(p)
    taken = getattr(optim, name)(from_torch, lr=7.0)
    taken.load_state_dict(theirs.state_dict())
    run(ours, q, STEPS)
    to_torch = copies(q)
    given = getattr(torch.optim, name)(to_torch, lr=7.0)
    given.load_state_dict(copy.deepcopy(ours.state_dict()))  # torch aliases what it is given
    for optimizer, params in ((theirs, p), (taken, from_torch), (ours, q), (given, to_torch)):
        run(optimizer, params, STEPS, first=STEPS)
    assert worst(from_torch, p) <= limit(name)
    assert worst(to_torch, q) <= limit(name)


@every_input
def test_closure_gives_the_same_losses(name, options):
    """The problem that torch's tests descend: a line through points, the optimizer asking for the loss."""
    losses = []
    for kind in (getattr(torch.optim, name), getattr(optim, name)):
        weight, bias = (x.requires_grad_() for x in (torch.full((10, 5), 0.1).double(), torch.ones(10).double()))
        optimizer = kind([weight, bias], **copy.deepcopy(options))
        data = torch.linspace(-1, 1, 5, dtype=torch.float64)

        def closure(optimizer=optimizer, weight=weight, bias=bias, data=data):
            optimizer.zero_grad()
            loss = (weight.mv(data) + bias).pow(2).sum()
            loss.backward()
            return loss

        losses.append([float(optimizer.step(closure).detach()) for _ in range(10)])
    assert losses[1] == pytest.approx(losses[0], rel=limit(name))
    climbs = options.get("maximize", False)
    assert (losses[1][-1] > losses[1][0]) == climbs


ERRORS = [(name, given) for name in NAMES for given in INFOS[name].optim_error_inputs_func("cpu", torch.float64)]
ERROR_IDS = [f"{name}-{given.optimizer_error_input.desc}" for name, given in ERRORS]


@pytest.mark.parametrize(("name", "given"), ERRORS, ids=ERROR_IDS)
def test_errors_are_torchs(name, given):
    config, expected = given.optimizer_error_input, given.error_type
    assert given.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    if config.kwargs.get("foreach") and "foreach=True" in given.error_regex:
        pytest.skip("`foreach` changes nothing here: a tensor is read with it as without it")
    params = config.params if config.params is not None else [torch.randn(2, 3, dtype=torch.float64)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(expected):
            getattr(torch.optim, name)(params, **config.kwargs)
        with pytest.raises(expected):
            getattr(optim, name)(params, **config.kwargs)
