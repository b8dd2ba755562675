"""torch.amp.GradScaler's protocol: the scale is divided out in the step, and an overflow skips it without a trace."""

import pytest
import torch

from fastcore_ops import optim

from .problems import (
    KERNEL_AND_REFERENCE,
    assert_same_state,
    copies,
    every_variant,
    give_gradients,
    make,
    parameters,
    same_bits,
)


@KERNEL_AND_REFERENCE
@every_variant
def test_overflow_leaves_everything(variant, fused):
    p = parameters(torch.float32)
    optimizer, q = make(variant, p, fused=fused), copies(p)
    never = make(variant, q, fused=fused)
    for step in range(5):
        give_gradients(p, step)
        give_gradients(q, step)
        optimizer.found_inf = torch.tensor(float(step in (0, 3)))
        optimizer.step()
        del optimizer.found_inf
        if step not in (0, 3):
            never.step()
    assert same_bits(p, q)
    assert_same_state(optimizer, never)


@KERNEL_AND_REFERENCE
@every_variant
def test_scale_is_divided_out(variant, fused):
    p, q = parameters(), parameters()
    scaled, plain = make(variant, p, fused=fused), make(variant, q, fused=fused)
    for step in range(3):
        give_gradients(p, step)
        give_gradients(q, step)
        for x in p:
            x.grad.mul_(1024)
        scaled.grad_scale, scaled.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
        scaled.step()
        plain.step()
    assert same_bits(p, q)  # a power of two costs nothing


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_with_torchs_scaler(name, unscale):
    """Inf in one gradient of the second step: skipped, the scale halved, as with torch's own optimizer."""
    p, q = parameters(torch.float32), parameters(torch.float32)
    options = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {}
    runs = [(getattr(torch.optim, name)(p, **options), p), (getattr(optim, name)(q, **options), q)]
    scales = []
    for optimizer, params in runs:
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for step in range(4):
            scaler.scale(torch.zeros(()))  # what makes the scaler's tensors
            give_gradients(params, step)
            for x in params:
                x.grad.mul_(scaler.get_scale())
            if step == 1:
                params[5].grad[3] = torch.inf
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        scales.append(scaler.get_scale())
        assert not hasattr(optimizer, "grad_scale") and not hasattr(optimizer, "found_inf")
    assert scales == [128.0, 128.0]
    for x, y in zip(p, q, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-5, atol=1e-6)
    assert float(runs[1][0].state[q[0]]["step"]) == 3


def test_first_step_skipped_is_still_the_first_step_of_momentum():
    """torch's fused SGD goes on from an uninitialised buffer here."""
    p = torch.ones(4, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5, dampening=0.5)
    p.grad = torch.full((4,), 2.0)
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(p, torch.ones(4))
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert torch.equal(p, -torch.ones(4))  # b = g, undamped
