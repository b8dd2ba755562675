"""Parameters and gradients that lie in memory in other ways, also from one step to the next."""

import pytest
import torch

from fastcore_ops import optim

from .problems import KERNEL_AND_REFERENCE, every_variant, make, normal, worst


@KERNEL_AND_REFERENCE
@every_variant
def test_parameters_with_gaps(variant, fused):
    """A strided view: what lies between its elements is not touched."""
    whole = normal(12, 10)
    kept = whole.clone()
    p = whole[::2, 1::3].requires_grad_()
    q = p.detach().clone().requires_grad_()
    gapped, dense = make(variant, [p], fused=fused), make(variant, [q], fused=fused)
    for step in range(3):
        p.grad, q.grad = normal(6, 3, seed=step), normal(6, 3, seed=step)
        gapped.step()
        dense.step()
    assert torch.equal(p, q)
    kept[::2, 1::3] = whole[::2, 1::3]
    assert torch.equal(whole, kept)


@KERNEL_AND_REFERENCE
def test_memory_format_changed_between_steps(fused):
    """model.to(memory_format=…) gives the parameter other strides; its states must not be read in the old order."""
    p, q = (normal(2, 3, 4, 5).requires_grad_() for _ in range(2))
    moved, still = optim.AdamW([p], fused=fused), optim.AdamW([q], fused=fused)
    for step in range(4):
        if step == 2:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
        q.grad = normal(2, 3, 4, 5, seed=step)
        p.grad = torch.empty_like(p).copy_(q.grad)
        moved.step()
        still.step()
    assert torch.equal(p, q)


@KERNEL_AND_REFERENCE
def test_gradient_layout_changed_in_a_group_of_two_dtypes(fused):
    """The group's first call has run when the second meets the new layout: nothing may step twice."""
    p, q = ([normal(3, 4), normal(4, 3, dtype=torch.float32)] for _ in range(2))
    theirs, ours = torch.optim.SGD(p, lr=0.1), optim.SGD(q, lr=0.1, fused=fused)
    for step in range(3):
        for params in (p, q):
            params[0].grad = normal(3, 4, seed=step)
            g = normal(3, 4, seed=step + 9, dtype=torch.float32).t()
            params[1].grad = g if step else g.contiguous()
        theirs.step()
        ours.step()
    assert worst(q, p) < 1e-6
    assert float(ours.state[q[0]]["step"]) == 3


@pytest.mark.parametrize("rows", [4, 1])
def test_a_parameter_of_another_size_is_not_stepped_into_its_neighbours_states(rows):
    a, b = normal(2, 64).requires_grad_(), normal(2, 64, seed=1).requires_grad_()
    optimizer = optim.AdamW([a, b])
    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
    optimizer.step()
    kept = optimizer.state[b]["exp_avg"].clone()
    a.data = torch.ones(rows, 64, dtype=torch.float64)
    a.grad = 100 * torch.ones_like(a)
    with pytest.raises((RuntimeError, ValueError)):
        optimizer.step()
    assert torch.equal(optimizer.state[b]["exp_avg"], kept)
