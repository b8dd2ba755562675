"""What is refused, and that the message names it."""

import pytest
import torch

from fastcore_ops import optim

from .problems import DESCENDS_ONLY, SUMS, VARIANTS, every_variant, make, normal, run, same_bits


def one():
    return [normal(4, 3).requires_grad_()]


@every_variant
def test_expanded_parameter(variant):
    with pytest.raises(RuntimeError, match="overlap"):
        make(variant, [torch.zeros(3, 1).expand(3, 4).requires_grad_()])
    optimizer = make(variant, one())
    with pytest.raises(RuntimeError, match="overlap"):
        optimizer.add_param_group({"params": [torch.zeros(1).expand(4).requires_grad_()]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("steps_before", [0, 2])
@every_variant
def test_sparse_gradient(variant, steps_before, fused):
    params = one()
    optimizer = make(variant, params, fused=fused)
    run(optimizer, params, steps_before)
    before = [params[0].detach().clone()]
    params[0].grad = torch.eye(4, 3, dtype=torch.float64).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert same_bits(params, before)
    run(optimizer, params, 1)
    assert float(optimizer.state[params[0]]["step"]) == steps_before + 1


NAN = float("nan")
TAKE_EPS = ("AdamP", "SGDP", "DoG", "LDoG", "SANIA", "OPTAMSGrad")
RANGES = {
    "lr": (VARIANTS, (-1.0, NAN, torch.tensor(-1.0))),
    "betas": (
        ("AdamW", "Lion", "AdEMAMix", "NAdam", "RAdam", "DiffGrad", "AdaBelief", "Grams", "AdamP", "OPTAMSGrad"),
        ((1.0, 0.9, 0.9), (0.9, -0.1, 0.9)),
    ),
    "eps": (
        ("AdamW", "AdEMAMix", "NAdam", "RAdam", "Adagrad", "DiffGrad", "AdaBelief", "Grams", "MADGRAD", *TAKE_EPS),
        (-1e-8,),
    ),
    "weight_decay": ([name for name in VARIANTS if not name.startswith(("SANIA", "OPTAMSGrad"))], (-0.1,)),
    "momentum": (("SGD", "MADGRAD", "MirrorMADGRAD", "SGDP", "FedSpeed"), (-0.1, 1.0)),
    "delta": (("AdamP", "SGDP"), (-0.1, NAN)),
    "wd_ratio": (("AdamP", "SGDP"), (-0.1, NAN)),
    "reps_rel": (("DoG", "LDoG"), (-1e-6, 0.0, NAN)),
    "init_eta": (("DoG", "LDoG"), (-1.0, 0.0, NAN)),
    "b0": (("AdaGradNorm", "AdaGradNorm_row"), (0.0, -0.1, NAN)),
    "mode": (("AdaGradNorm",), ("rows", None)),
    "preconditioner": (("SANIA",), ("adam", None)),
    "beta2": (("SANIA_adam",), (1.0, -0.1)),
    "prox": (("FedSpeed",), (-0.1,)),
    "ridge": (("OPTAMSGrad",), (0.0, -1.0, NAN)),
    "history": (("OPTAMSGrad",), (0, -1)),
    "theta": (("OPTAMSGrad",), ("next", None)),
    "lr_decay": (("Adagrad",), (-0.1,)),
    "initial_accumulator_value": (("Adagrad",), (-0.1,)),
    "momentum_decay": (("NAdam",), (-0.1,)),
    "alpha": (("AdEMAMix",), (-1.0,)),
    "alpha_warmup": (("AdEMAMix",), (-1,)),
    "beta3_warmup": (("AdEMAMix",), (-1,)),
    "max_norm": (("AdamW", "Lion", "FedSpeed", "AdamP"), (0.0, -1.0)),
    "clip_value": (("AdamW", "Lion"), (0.0, -1.0)),
    "rounding": (("AdamW",), ("up", "Nearest", None)),
    "state_dtype": (("AdamW",), (torch.int32, torch.complex64, "float32")),
}
CASES = [
    (name, variant, value) for name, (variants, values) in RANGES.items() for variant in variants for value in values
]


@pytest.mark.parametrize(("name", "variant", "value"), CASES, ids=[f"{n}-{v}-{i}" for i, (n, v, _) in enumerate(CASES)])
def test_out_of_range(name, variant, value):
    if name == "betas" and variant != "AdEMAMix":
        value = value[:2]
    with pytest.raises(ValueError, match=f"`{name}`"):
        make(variant, one(), **{name: value})
    optimizer = make(variant, one())
    with pytest.raises(ValueError, match=f"`{name}`"):
        optimizer.add_param_group({"params": one(), name: value})
    assert len(optimizer.param_groups) == 1


def test_learning_rate_of_several_elements():
    with pytest.raises(ValueError, match="`lr`"):
        optim.AdamW(one(), lr=torch.ones(2))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum_and_no_dampening(options):
    with pytest.raises(ValueError, match="`momentum`"):
        optim.SGD(one(), nesterov=True, **options)


@every_variant
def test_unknown_switch(variant):
    with pytest.raises(TypeError, match="momentun"):
        make(variant, one(), momentun=0.9)


@every_variant
def test_integer_parameters(variant):
    p = torch.ones(3, dtype=torch.int64)
    p.grad = torch.ones(3, dtype=torch.int64)
    with pytest.raises(TypeError, match="floating"):
        make(variant, [p]).step()
    assert p.tolist() == [1, 1, 1]


@every_variant
def test_contradicting_switches(variant):
    with pytest.raises(RuntimeError, match="`fused` and `foreach`"):
        make(variant, one(), fused=True, foreach=True)
    with pytest.raises(RuntimeError, match="`differentiable`"):
        make(variant, one(), fused=True, differentiable=True)
    with pytest.raises(ValueError, match="`master_weights`"):
        make(variant, one(), master_weights=True, rounding="kahan")


def test_split_master_of_float16():
    p = [normal(3, dtype=torch.float16).requires_grad_()]
    with pytest.raises(ValueError, match="split_master"):
        run(optim.AdamW(p, rounding="split_master"), p, 1)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("variant", ["Lion", "Grams", *SUMS])
def test_signs_and_sizes_of_complex_numbers(variant, fused):
    p = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="real parameters"):
        make(variant, [p], fused=fused).step()
    assert torch.equal(p, torch.ones(3, dtype=torch.complex64))


@pytest.mark.parametrize("variant", SUMS)
def test_sums_are_not_differentiated(variant):
    with pytest.raises(RuntimeError, match="`differentiable` is not supported"):
        make(variant, one(), differentiable=True)


@pytest.mark.parametrize("variant", DESCENDS_ONLY)
def test_maximize_of_a_loss_that_falls_to_0(variant):
    with pytest.raises(ValueError, match="`maximize=False`"):
        make(variant, one(), maximize=True)


@every_variant
def test_no_parameters(variant):
    with pytest.raises(ValueError, match="empty parameter list"):
        make(variant, [])
    with pytest.raises(TypeError):
        make(variant, normal(3))


def test_foreach_changes_nothing():
    """A torch checkpoint with foreach=True must not switch the kernel off, nor change a bit."""
    p, q = one(), one()
    run(optim.AdamW(p, foreach=True), p, 3)
    run(optim.AdamW(q, foreach=False), q, 3)
    assert same_bits(p, q)
