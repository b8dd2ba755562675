"""What a step looks at: gradients of the groups that ask for it; and the tensors that it does not make anew."""

import pytest
import torch

from fastcore_ops import optim

from .problems import normal


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("bad", [0, 1])
def test_only_gradients_of_groups_that_skip_are_looked_at(bad, fused):
    params = [normal(4, seed=i).requires_grad_() for i in range(2)]
    before = [p.detach().clone() for p in params]
    groups = [{"params": params[:1], "skip_nonfinite": True}, {"params": params[1:]}]
    optimizer = optim.SGD(groups, lr=0.1, fused=fused)
    for p in params:
        p.grad = torch.ones_like(p)
    params[bad].grad[0] = float("inf")
    optimizer.step()
    assert [torch.equal(p, q) for p, q in zip(params, before, strict=True)] == [bad == 0, bad == 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: optim.AdamP(groups, perp_grad=True, max_norm=1.0),
        lambda groups: optim.AdamW(groups, perp_grad=True, max_norm=1.0),
    ],
)
def test_tensors_of_python_numbers_are_made_once(make, monkeypatch):
    params = [normal(*shape).requires_grad_() for shape in ((4, 3), (0,), (5,), (2, 2))]
    optimizer = make([{"params": params[:2]}, {"params": params[2:]}])

    def step():
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()

    step()
    made, tensor = [], torch.tensor

    def counted(values, *args, **more):
        if isinstance(values, list) and more.get("device") is not None:
            made.append(values)
        return tensor(values, *args, **more)

    monkeypatch.setattr(torch, "tensor", counted)
    step()
    assert not made
