"""Weights: what is not finite spoils everything and raises nothing, and how far totals may differ."""

import math

import pytest
import torch

import fastcore_ops as fo
from fastcore_ops import mmd

CALLS = {
    "ranks": {"num_slices": 4},
    "hadamard": {"num_slices": 4, "slices": "hadamard"},
    "sums of exponentials": {"num_slices": 4, "r": 1.5},
    "modes": {"num_slices": 4, "kernel": "gaussian", "bandwidth": 1.0},
    "laplace": {"num_slices": 4, "kernel": "laplace"},
    "exact": {"method": "exact"},
    "polynomial": {"kernel": "polynomial"},
}


def clouds(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(n, 3, generator=generator, dtype=torch.float64).to(dtype) for n in (7, 5))


@pytest.mark.native
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
def test_a_weight_that_is_not_finite_makes_everything_nan(options, signed, bad):
    for side in (0, 1):
        leaves = [*clouds(), torch.full((7,), 1 / 7), torch.full((5,), 1 / 5)]
        leaves[2 + side][2] = bad
        x, y, a, b = (leaf.requires_grad_() for leaf in leaves)
        value = fo.sliced_mmd(x, y, x_weights=a, y_weights=b, signed=signed, **options)
        for output in (value, *torch.autograd.grad(value, (x, y, a, b))):
            assert bool(output.isnan().all())
        grad = fo.sliced_mmd_grad(x, y, x_weights=a, y_weights=b, signed=signed, **options)
        assert bool(grad.isnan().all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_such_a_weight_in_the_other_calls_and_in_a_batch(bad):
    x, y = clouds()
    b = torch.full((5,), 1 / 5)
    b[3] = bad
    assert math.isnan(mmd.energy_distance(x, y, y_weights=b))
    assert math.isnan(fo.sliced_mmd(x, mmd.SlicedTarget(y, num_slices=4, y_weights=b)))
    rows = torch.stack([b, torch.full((5,), 1 / 5)])
    values = fo.sliced_mmd(x.expand(2, 7, 3), y, y_weights=rows)
    assert values.isnan().tolist() == [True, False]
    rows[1, 0] = -1 / 5  # a finite one is still refused
    with pytest.raises(ValueError, match="`y_weights` of at least 0, got -0.2"):
        fo.sliced_mmd(x.expand(2, 7, 3), y, y_weights=rows)
