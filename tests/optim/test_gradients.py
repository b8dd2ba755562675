"""What a step does with gradients: nothing to themselves, whoever owns them, and their sign and size."""

import pytest
import torch

from .problems import (
    DESCENDS_ONLY,
    KERNEL_AND_REFERENCE,
    VARIANTS,
    bits,
    copies,
    every_variant,
    give_gradients,
    make,
    normal,
    parameters,
    same_bits,
)


@every_variant
def test_gradients_are_left_as_they_were(variant):
    params = parameters(torch.float32)
    optimizer = make(variant, params, maximize=variant not in DESCENDS_ONLY, clip_value=0.5)
    for step in range(2):
        give_gradients(params, step)
        grads = [p.grad for p in params]
        before = [bits(g).clone() for g in grads]
        optimizer.step()
        assert all(p.grad is g for p, g in zip(params, grads, strict=True))
        assert all(torch.equal(bits(g), b) for g, b in zip(grads, before, strict=True))


@KERNEL_AND_REFERENCE
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in DESCENDS_ONLY])
def test_maximize_is_the_negated_gradient(variant, fused):
    p, q = parameters(), parameters()
    up, down = make(variant, p, maximize=True, fused=fused), make(variant, q, fused=fused)
    for step in range(4):
        give_gradients(p, step)
        for x, y in zip(p, q, strict=True):
            y.grad = -x.grad
        up.step()
        down.step()
    assert same_bits(p, q)


@KERNEL_AND_REFERENCE
@every_variant
def test_a_step_between_forward_and_backward_is_noticed(variant, fused):
    p = normal(6).requires_grad_()
    optimizer = make(variant, [p], fused=fused)
    for _ in range(2):  # laying the states out is not what is noticed
        p.grad = normal(6, seed=1)
        optimizer.step()
    loss, version = (p**2).sum(), p._version
    optimizer.step()
    assert p._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every_variant
def test_gradients_may_be_new_tensors_at_every_step(variant):
    p, q = parameters(), parameters()
    fresh, kept = make(variant, p), make(variant, q)
    for step in range(5):
        give_gradients(p, step)
        for x, y in zip(p, q, strict=True):
            if y.grad is None:
                y.grad = torch.empty_like(y)
            y.grad.copy_(x.grad)
        fresh.step()
        fresh.zero_grad(set_to_none=True)
        kept.step()
    assert same_bits(p, q) and all(x.grad is None for x in p)


@every_variant
def test_coordinate_clip(variant):
    p, q = parameters(), parameters()
    inside, outside = make(variant, p, clip_value=0.3), make(variant, q)
    for step in range(3):
        give_gradients(p, step)
        for x, y in zip(p, q, strict=True):
            y.grad = x.grad.clamp(-0.3, 0.3)
        inside.step()
        outside.step()
    assert same_bits(p, copies(q))
