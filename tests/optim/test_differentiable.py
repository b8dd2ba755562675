"""What a step that autograd looks on does not heed is refused by name."""

import pytest
import torch

from fastcore_ops import optim

from .problems import normal


def one():
    return [normal(4, 3).requires_grad_()]


REFUSED = {
    "max_norm": 1.0,
    "clip_value": 1.0,
    "clip_quantile": 0.9,
    "perp_grad": True,
    "skip_nonfinite": True,
    "state_dtype": torch.float32,
    "rounding": "kahan",
    "master_weights": True,
    "lr": torch.tensor(0.1, requires_grad=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_switches_of_the_kernels(name):
    options = {"differentiable": True, name: REFUSED[name]}
    with pytest.raises(RuntimeError, match=f"AdamW: `differentiable` is not supported with .*`{name}"):
        optim.AdamW(one(), **options)
    params = one()
    optimizer = optim.AdamW(params, differentiable=True)
    with pytest.raises(RuntimeError, match=f"`{name}"):
        optimizer.add_param_group({"params": one(), name: REFUSED[name]})
    optimizer.param_groups[0][name] = REFUSED[name]
    params[0].grad = torch.ones_like(params[0])
    with pytest.raises(RuntimeError, match=f"`{name}"):
        optimizer.step()
    assert not optimizer.state


@pytest.mark.parametrize("name", ["grad_scale", "found_inf"])
def test_a_scalers_numbers(name):
    params = one()
    optimizer = optim.AdamW(params, differentiable=True)
    params[0].grad = torch.ones_like(params[0])
    setattr(optimizer, name, torch.ones(()))
    with pytest.raises(RuntimeError, match=f"`{name}`"):
        optimizer.step()


def test_auto_clip():
    with pytest.raises(RuntimeError, match="AutoClip: `differentiable`"):
        optim.AutoClip(optim.AdamW(one(), differentiable=True))
    params = one()
    clipped = optim.AutoClip(optim.AdamW(params))
    clipped.param_groups[0]["differentiable"] = True
    params[0].grad = torch.ones_like(params[0])
    with pytest.raises(RuntimeError, match="`differentiable`"):
        clipped.step()


def test_sparse_gradients_and_complex_parameters_of_rules_that_take_signs():
    params = one()
    optimizer = optim.AdamW(params, differentiable=True)
    params[0].grad = torch.eye(4, 3, dtype=torch.float64).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    p = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="real parameters"):
        optim.Lion([p], differentiable=True).step()


def test_complex_parameters_beside_torch():
    made = []
    for kind in (optim.AdamW, torch.optim.AdamW):
        p = torch.complex(normal(5), normal(5, seed=1)).clone().requires_grad_()
        weight = torch.complex(normal(5, seed=2), normal(5, seed=3)).requires_grad_()
        x = p.clone()
        optimizer = kind([x], lr=0.1, differentiable=True)
        for _ in range(2):
            x.grad = weight * weight
            optimizer.step()
        gradients = torch.autograd.grad(x.abs().square().sum(), (p, weight))
        made.append((x.detach(), *gradients))
    torch.testing.assert_close(made[0], made[1], rtol=1e-5, atol=1e-5)  # torch corrects the bias in float32 here


def test_one_parameter_at_a_time():
    p = normal(4).requires_grad_()
    x = p.clone()
    optimizer = optim.SGD([x], lr=0.1, differentiable=True)
    x.grad = p * p
    optimizer.step_param(x)
    (gradient,) = torch.autograd.grad(x.sum(), p)
    torch.testing.assert_close(gradient, 1 - 0.2 * p.detach())
