"""What is checked of every group, at construction and when one is added."""

import pytest
import torch

from fastcore_ops import optim

from .problems import every_variant, make, normal


def one(dtype=torch.float64):
    return [normal(4, 3, dtype=dtype).requires_grad_()]


def refused(kind, error, match, **options):
    """Refused as a key of the first group, and of one that is added."""
    with pytest.raises(error, match=match):
        kind([{"params": one(), **options}])
    optimizer = kind(one())
    with pytest.raises(error, match=match):
        optimizer.add_param_group({"params": one(), **options})
    assert len(optimizer.param_groups) == 1


def test_modes_and_forms():
    refused(optim.AdaGradNorm, ValueError, "`mode`", mode="rows")
    refused(optim.ExponentiatedGradient, ValueError, "`form`", form="adam")
    refused(optim.ExponentiatedGradient, ValueError, "`form`", form="adamw")


def test_a_dict_of_the_other_form():
    saved = optim.ExponentiatedGradient(one(), form="adamw").state_dict()
    with pytest.raises(ValueError, match=r"ExponentiatedGradient\.load_state_dict: .*`form` 'sgd', got 'adamw'"):
        optim.ExponentiatedGradient(one()).load_state_dict(saved)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.9, 0.9), 0.9])
@pytest.mark.parametrize("kind", [optim.AdamW, optim.Lion, optim.RAdam, optim.OPTAMSGrad])
def test_two_betas(kind, betas):
    refused(kind, ValueError, "Invalid `betas`: expected a tuple of 2", betas=betas)


def test_three_betas():
    refused(optim.AdEMAMix, ValueError, "Invalid `betas`: expected a tuple of 3", betas=(0.9, 0.99))


def test_nesterov_of_one_group():
    refused(optim.SGD, ValueError, "`momentum`", nesterov=True)
    refused(optim.SGD, ValueError, "`momentum`", nesterov=True, momentum=0.9, dampening=0.1)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range(seed):
    refused(optim.AdamW, ValueError, "`seed`", seed=seed)


@pytest.mark.parametrize("seed", [0.5, "1", None, True])
def test_seeds_that_are_no_integers(seed):
    refused(optim.AdamW, TypeError, "`seed`", seed=seed)


@every_variant
def test_rates_that_are_no_numbers(variant):
    for lr in ("0.1", None, [0.1]):
        with pytest.raises(TypeError, match="expected `lr` to be a number"):
            make(variant, one(), lr=lr)


@pytest.mark.parametrize("name", ["eps", "weight_decay", "max_norm", "clip_value", "clip_quantile", "perp_min_numel"])
def test_hyper_parameters_that_are_no_numbers(name):
    refused(optim.AdamW, TypeError, f"`{name}` to be a number", **{name: "1"})
    refused(optim.SGD, TypeError, "`dampening` to be a number", dampening=None)
    refused(optim.AdamW, TypeError, r"`betas\[1\]` to be a number", betas=(0.9, "0.9"))


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1])
def test_quantiles(q):
    refused(optim.AdamW, ValueError, r"Invalid `clip_quantile`: expected in \(0, 1\]", clip_quantile=q)


def test_the_sentence():
    with pytest.raises(ValueError, match=r"^AdamW: Invalid `lr`: expected at least 0, got -1$"):
        optim.AdamW(one(), lr=-1)


def test_dtypes_at_construction():
    with pytest.raises(ValueError, match="split_master"):
        optim.AdamW(one(torch.float16), rounding="split_master")
    with pytest.raises(TypeError, match="floating"):
        optim.AdamW([torch.ones(3, dtype=torch.int64)])
