"""Steps inside torch.compile: traced without graph break after a first eager one, and with its bits."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from fastcore_ops import optim

from .problems import SUMS, VARIANTS, assert_same_state, give_gradients, make, normal, run, same_bits


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small(dtype=torch.float32):
    """A few shapes, one of them not contiguous."""
    values = [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate([(7,), (6, 5), (), (0,)])]
    values.append(normal(4, 6, seed=9, dtype=dtype).t())
    return [value.requires_grad_() for value in values]


def pairs(*builds):
    """Optimizers that stay eager, and their twins, with their parameters; all after one eager step."""
    made = []
    for build in (*builds, *builds):
        params = small()
        made.append((build(params), params))
        run(*made[-1], 1)
    return made[: len(builds)], made[len(builds) :]


def go_on(eager, traced, step, change=lambda optimizer, step: None, steps=3):
    """Some further steps of both, with gradients in new memory, whose end must be the same; traces after the first."""
    counter = CompileCounterWithBackend("aot_eager")
    step, first = torch.compile(step, fullgraph=True, backend=counter), 0
    for number in range(1, 1 + steps):
        for optimizer, params in (*eager, *traced):
            for p in params:
                p.grad = None
            give_gradients(params, number)
            change(optimizer, number)
        for optimizer, _ in eager:
            optimizer.step()
        step()
        first = first or counter.frame_count
    for (left, p), (right, q) in zip(eager, traced, strict=True):
        assert same_bits(p, q)
        assert_same_state(left, right)
    assert first > 0
    return counter.frame_count - first


def test_every_rule_traces_without_graph_break():
    lr = torch.tensor(0.01)
    rules = [v for v in VARIANTS if v not in SUMS and ("_" not in v or v == "SGD_momentum")]
    eager, traced = pairs(*(lambda params, rule=rule: make(rule, params, lr=lr) for rule in rules))

    def step():
        for optimizer, _ in traced:
            optimizer.step()

    assert go_on(eager, traced, step) == 0


CHANGES = {
    "in_place": lambda optimizer, step: optimizer.param_groups[0]["lr"].fill_(0.1 / step),
    "replaced": lambda optimizer, step: optimizer.param_groups[0].update(lr=torch.tensor(0.1 / step)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_learning_rate_in_a_tensor_changes_without_another_trace(change):
    eager, traced = pairs(lambda params: optim.AdEMAMix(params, lr=torch.tensor(0.1)))
    assert go_on(eager, traced, traced[0][0].step, CHANGES[change], steps=4) == 0


def test_learning_rate_as_a_number_traces_anew():
    eager, traced = pairs(lambda params: optim.SGD(params, lr=0.1, momentum=0.9))

    def change(optimizer, number):
        optimizer.param_groups[0]["lr"] = 0.1 / number
        optimizer.param_groups[0]["momentum"] = 0.9 / number

    assert go_on(eager, traced, traced[0][0].step, change) > 0


def test_two_groups_in_a_wrapped_call():
    def build(params):
        return optim.AdamW([{"params": params[:2]}, {"params": params[2:], "lr": 0.1, "weight_decay": 0.0}])

    eager, traced = pairs(build)
    optimizer = traced[0][0]
    assert go_on(eager, traced, lambda: optimizer.step()) == 0


@pytest.mark.parametrize(
    "build",
    [
        lambda params: optim.AdamW(params, max_norm=0.1, skip_nonfinite=True),
        lambda params: optim.Lion(params, perp_grad=True, clip_value=0.1),
        lambda params: optim.AdamP(params, lr=0.1),
        lambda params: optim.AdaGradNorm([{"params": params[:2]}, {"params": params[2:]}]),
        lambda params: optim.DoG(params),
        lambda params: optim.OPTAMSGrad(params, history=2),
    ],
    ids=["max_norm", "perp_grad", "AdamP", "AdaGradNorm", "DoG", "OPTAMSGrad"],
)
def test_steps_with_sums(build):
    eager, traced = pairs(build)
    go_on(eager, traced, traced[0][0].step, steps=2)


def test_autograd_hears_of_a_traced_step():
    x, w = torch.ones(3), torch.ones(3).requires_grad_()
    optimizer = optim.SGD([w], lr=0.1)
    w.grad = torch.ones(3)
    optimizer.step()
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    loss = (x * w * w).sum()
    step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
