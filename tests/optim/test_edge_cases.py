"""Inputs at the edge: empty, lr 0, not finite, many, mixed; and what must be refused."""

import copy

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    KERNEL_AND_REFERENCE,
    LOOK_AT_ALL,
    RELAXES,
    SUMS,
    VARIANTS,
    every_variant,
    give_gradients,
    make,
    normal,
    parameters,
    run,
    same_bits,
    worst,
)


@KERNEL_AND_REFERENCE
@every_variant
def test_empty_parameters_have_states_and_disturb_nobody(variant, fused):
    full = [x for x in parameters() if x.numel()]
    with_empty = []
    for i, x in enumerate(full):
        with_empty += [torch.zeros(0, i).requires_grad_(), x.detach().clone().requires_grad_()]
    with_empty.append(torch.zeros(3, 0, 2).requires_grad_())
    first, second = make(variant, full, fused=fused), make(variant, with_empty, fused=fused)
    for step in range(3):
        give_gradients(full, step)
        for x in with_empty:
            x.grad = torch.zeros_like(x)
        for x, y in zip(with_empty[1::2], full, strict=True):
            x.grad = y.grad.clone()
        first.step()
        second.step()
    assert same_bits(full, with_empty[1::2])
    for x in with_empty[::2]:
        assert float(second.state[x]["step"]) == 3
        assert all(value.shape in (x.shape, x.shape[:1], ()) for value in second.state[x].values())


@every_variant
def test_0_dim_is_one_element(variant):
    p, q = torch.tensor(0.7, requires_grad=True), torch.tensor([0.7], requires_grad=True)
    first, second = make(variant, [p]), make(variant, [q])
    for step in range(3):
        p.grad, q.grad = torch.tensor(step - 0.5), torch.tensor([step - 0.5])
        first.step()
        second.step()
    assert p.shape == () and torch.equal(p.detach(), q.detach()[0])
    assert all(value.shape == () for value in first.state[p].values())


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in RELAXES])
def test_lr_0_leaves_every_bit(variant, fused):
    params = parameters(torch.float32)
    params[5].data[:5] = torch.tensor([0.0, 1e-42, -1e-42, 3e38, -3e38])
    before = [p.detach().clone() for p in params]
    options = {"fixed_decay": False} if variant == "AdaBelief" else {}
    run(make(variant, params, lr=0.0, fused=fused, **options), params, 4)
    assert same_bits(params, before)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in SUMS])
def test_nan_and_inf_stay_in_their_element(variant, fused):
    p, q = normal(5001).requires_grad_(), normal(5001).requires_grad_()
    struck, spared = make(variant, [p], fused=fused), make(variant, [q], fused=fused)
    places = torch.tensor([0, 7, 8, 2500, 5000])
    for step in range(3):
        p.grad, q.grad = normal(5001, seed=step), normal(5001, seed=step)
        if step == 1:
            p.grad[places] = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.nan, torch.inf], dtype=torch.float64)
        struck.step()
        spared.step()
    others = torch.ones(5001, dtype=torch.bool).index_fill_(0, places, False)
    assert torch.equal(p[others], q[others]) and q.isfinite().all()
    if variant != "Lion":  # a sign of infinity is 1
        assert not p.detach()[0].isfinite() and not p.detach()[2500].isfinite()
    for name, value in struck.state[p].items():
        if value.dim():
            assert torch.equal(value[others], spared.state[q][name][others])


@every_variant
def test_mixed_dtypes_in_any_order(variant):
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    first = [normal(20 + i, seed=i, dtype=kinds[i % 4]).requires_grad_() for i in range(12)]
    order = [7, 2, 11, 0, 4, 1, 9, 10, 3, 8, 5, 6]
    second = [first[i].detach().clone().requires_grad_() for i in order]
    options = {"state_dtype": torch.float32} if "AdEMAMix" in variant else {}
    one = make(variant, [p for p in first if p.dtype != torch.float64] if options else first, **options)
    two = make(variant, [p for p in second if p.dtype != torch.float64] if options else second, **options)
    for step in range(3):
        give_gradients(first, step)
        for x, i in zip(second, order, strict=True):
            x.grad = first[i].grad.clone()
        one.step()
        two.step()
    if variant in LOOK_AT_ALL:  # a sum in another order
        assert worst(second, [first[i] for i in order]) <= 1e-12
    else:
        assert same_bits([first[i] for i in order], second)


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_states_of_any_dtype(state_dtype, dtype, fused):
    """With or without a kernel for the pair: the states have the dtype asked for, and the step is right to its precision."""
    p, q = normal(300, dtype=dtype).requires_grad_(), normal(300, dtype=dtype).double().requires_grad_()
    narrow, exact = (
        optim.AdamW([x], lr=0.1, eps=1e-3, state_dtype=d, fused=fused) for x, d in ((p, state_dtype), (q, None))
    )
    p.grad = normal(300, seed=1, dtype=dtype)
    q.grad = p.grad.double()
    narrow.step()
    exact.step()
    assert narrow.state[p]["exp_avg"].dtype == narrow.state[p]["exp_avg_sq"].dtype == state_dtype
    eps = max(torch.finfo(dtype).eps, torch.finfo(state_dtype).eps)
    torch.testing.assert_close(p.detach().double(), q.detach(), rtol=0, atol=4 * eps)


@pytest.mark.parametrize("count", [1, 100_000])
def test_very_many_tensors(count):
    params = [torch.ones(1).requires_grad_() for _ in range(count)]
    gradient = torch.ones(1)
    for p in params:
        p.grad = gradient
    optim.SGD(params, lr=0.5).step()
    assert torch.equal(torch.cat(params).detach(), torch.full((count,), 0.5))


@every_variant
def test_a_slow_average_in_16_bits_warns(variant, recwarn):
    params = [normal(8, dtype=torch.bfloat16).requires_grad_()]
    run(make(variant, params), params, 1)
    told = [w for w in recwarn if issubclass(w.category, UserWarning) and "average" in str(w.message)]
    assert bool(told) == ("AdEMAMix" in variant)
    recwarn.clear()
    for switches in ({"state_dtype": torch.float32}, {"rounding": "stochastic"}):
        other = copy.deepcopy(params)
        run(make(variant, other, **switches), other, 1)
    assert not [w for w in recwarn if "average" in str(w.message)]
