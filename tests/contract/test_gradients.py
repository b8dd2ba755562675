"""Every differentiable call against finite differences, in float64."""

import pytest
import torch

from fastcore_ops.testing.cases import discover

FUNCTIONS = [(case, function) for case in discover() for function in case.differentiable()]


@pytest.mark.parametrize(("case", "function"), FUNCTIONS, ids=[f"{c.name}-{f.label}" for c, f in FUNCTIONS])
def test_gradient(case, function):
    assert torch.autograd.gradcheck(function.function, function.inputs, eps=1e-5, atol=1e-7, rtol=1e-5)
