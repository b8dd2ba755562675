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
    with pytest.raises(ValueError, match=r"`y_weights` of at least 0, got -0\.2"):
        fo.sliced_mmd(x.expand(2, 7, 3), y, y_weights=rows)


@pytest.mark.parametrize("method", ["exact", "sliced"])
@pytest.mark.parametrize(
    ("points", "weights", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-10),
        (torch.float32, torch.float64, 1e-5),
        (torch.float64, torch.float32, 1e-5),
        (torch.float64, torch.float16, 1e-3),
        (torch.float16, torch.float16, 1e-3),
        (torch.float64, torch.bfloat16, 8e-3),
    ],
)
def test_totals_agree_as_far_as_the_coarsest_dtype_holds_them(points, weights, tolerance, method):
    """The total of the side in float64 is moved; that of the other is a power of two, which every dtype holds."""
    x, y = (torch.zeros(n, 3, dtype=points) for n in (8, 4))
    given = {"x_weights": torch.full((8,), 1 / 8, dtype=weights), "method": method}
    for share in (0.9, -0.9):
        close = torch.full((4,), (1 + share * tolerance) / 4, dtype=torch.float64)
        assert math.isfinite(fo.sliced_mmd(x, y, y_weights=close, **given))
    with pytest.raises(ValueError, match="equal totals"):
        fo.sliced_mmd(x, y, y_weights=torch.full((4,), (1 + 1.1 * tolerance) / 4, dtype=torch.float64), **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalised_weights_of_a_coarse_dtype_meet_points_in_float64(dtype):
    x, y = clouds(torch.float64)
    weights = torch.tensor([1, 2, 3, 4, 5, 6, 7], dtype=torch.float64) / 28
    target = mmd.SlicedTarget(x, num_slices=4, y_weights=weights.to(dtype))
    for rounded in (weights.to(dtype), torch.full((7,), 1 / 7, dtype=dtype)):
        assert float(mmd.energy_distance(x, y, x_weights=rounded)) > 0
        assert math.isfinite(fo.sliced_mmd(x, target, x_weights=rounded))
    assert math.isfinite(fo.sliced_mmd(y, target))


def test_weights_of_eight_bits_are_refused():
    x, y = clouds()
    with pytest.raises(TypeError, match=r"`x_weights` of a floating dtype, got torch\.float8_e5m2"):
        mmd.energy_distance(x, y, x_weights=torch.ones(7).to(torch.float8_e5m2))
