"""Parameters stepped one at a time as their gradients come: where their states lie, when entries appear, what it costs."""

import sys

import pytest
import torch

from fastcore_ops import optim

from .problems import LOOK_AT_ALL, every_variant, give_gradients, make, normal, parameters, run, same_bits


def storage(optimizer, p, name):
    return optimizer.state[p][name].data_ptr()


def deep_model(layers):
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(layers)))


def stepped_by_hooks(model, make_optimizer):
    optimizer = make_optimizer(model.parameters())

    def hook(p):
        optimizer.step_param(p)
        p.grad = None

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)
    return optimizer


def test_states_of_a_group_are_laid_out_together_at_the_first_gradient():
    params = [normal(10, seed=i, dtype=torch.float32).requires_grad_() for i in range(5)]
    params.append(normal(10, dtype=torch.float32))  # no gradient to come
    optimizer = optim.AdamW(params)
    for p in (params[3], params[0], params[4]):
        assert p not in optimizer.state
        p.grad = torch.ones(10)
        optimizer.step_param(p)
        assert set(optimizer.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
    assert params[1] not in optimizer.state and params[2] not in optimizer.state
    first = storage(optimizer, params[0], "exp_avg")
    assert [storage(optimizer, params[i], "exp_avg") - first for i in (3, 4)] == [3 * 256, 4 * 256]  # 64 elements each
    params[5].requires_grad_().grad = torch.ones(10)
    params[1].grad = torch.ones(10)
    optimizer.step()
    assert storage(optimizer, params[1], "exp_avg") - first == 256
    assert not 0 <= storage(optimizer, params[5], "exp_avg") - first < 5 * 256  # unfrozen later: a block of its own
    assert [float(optimizer.state[params[i]]["step"]) for i in (0, 1, 5)] == [2, 1, 1]


@every_variant
def test_a_parameter_begins_as_it_is_at_its_first_gradient(variant):
    """The states were laid out before; what starts as the parameter must not be what that was then."""
    if variant in LOOK_AT_ALL or variant == "FedSpeed_momentum":
        pytest.skip("states begin with the optimizer, or one step is of all parameters together")
    p, q = parameters(), parameters()
    early, late = make(variant, p), make(variant, q[:5])
    give_gradients(p[:5], 0)
    run(late, q[:5], 1)
    early.step()
    for params in (p, q):
        with torch.no_grad():
            for x in params[5:]:
                x.mul_(2)
    late.add_param_group({"params": q[5:]})
    run(early, p, 2, first=1)
    run(late, q, 2, first=1)
    assert same_bits(p, q)


def test_hooks_and_whole_steps_alternate():
    plain, released = deep_model(4), deep_model(4)
    one = optim.AdEMAMix(plain.parameters())
    other = optim.AdEMAMix(released.parameters())
    for number in range(6):
        for model, optimizer in ((plain, one), (released, other)):
            optimizer.zero_grad()
            model(torch.full((2, 3), 1.0 + number)).square().sum().backward()
        one.step()
        if number % 2:
            other.step()
        else:
            for p in reversed(list(released.parameters())):
                other.step_param(p)
    assert same_bits(plain.parameters(), released.parameters())


def test_replaced_entries_count_for_a_parameter_alone():
    p, q = ([normal(4).requires_grad_(), normal(5).requires_grad_()] for _ in range(2))
    first, second = optim.AdamW(p), optim.AdamW(q)
    run(first, p, 2)
    run(second, q, 2)
    first.state[p[0]]["exp_avg"] = torch.ones(4, dtype=torch.float64)
    second.state[q[0]]["exp_avg"].fill_(1)
    del first.state[p[1]], second.state[q[1]]
    for optimizer, params in ((first, p), (second, q)):
        for x in params:
            optimizer.step_param(x)
    assert same_bits(p, q) and float(first.state[p[1]]["step"]) == 1
    run(first, p, 1)
    run(second, q, 1)
    assert same_bits(p, q)


def test_a_group_added_between_is_found():
    p, q = normal(4).requires_grad_(), normal(5).requires_grad_()
    optimizer = optim.SGD([p], lr=0.1)
    with pytest.raises(ValueError, match="parameter of this optimizer"):
        optimizer.step_param(q)
    optimizer.add_param_group({"params": [q], "lr": 1.0})
    before, q.grad = q.detach().clone(), torch.ones_like(q)
    optimizer.step_param(q)
    torch.testing.assert_close(q.detach(), before - 1)


def instructions(call):
    """Interpreter instructions of a call, at any depth: a measure of its Python that knows nothing of the machine."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def work_for(layers):
    """Instructions of the first round of steps and of a later one."""
    model = deep_model(layers)
    optimizer = optim.AdamW(model.parameters())
    params = list(model.parameters())
    for p in params:
        p.grad = torch.ones_like(p)

    def every_parameter():
        for p in params:
            optimizer.step_param(p)

    return instructions(every_parameter), instructions(every_parameter)


def test_work_does_not_grow_with_the_number_of_parameters():
    """Eight times the layers take eight times the work, not sixty-four times; the first step too."""
    few, many = work_for(20), work_for(160)
    assert 7 * few[0] < many[0] < 9 * few[0]
    assert 7 * few[1] < many[1] < 9 * few[1]


def test_three_hundred_layers_with_released_gradients():
    plain, released = deep_model(300), deep_model(300)
    first = optim.AdamW(plain.parameters())
    stepped_by_hooks(released, optim.AdamW)
    for _ in range(3):
        plain(torch.ones(2, 3)).sum().backward()
        first.step()
        first.zero_grad()
        released(torch.ones(2, 3)).sum().backward()
    assert same_bits(plain.parameters(), released.parameters())
