"""A target seen along a fixed pool stands for its points; the standard normal law stands for a sample without end."""

import copy
import math
import pickle

import pytest
import torch

import fastcore_ops as fo
from fastcore_ops import mmd


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("slices", ["gaussian", "hadamard"])
@pytest.mark.parametrize("d", [1, 6, 70])
@pytest.mark.parametrize("options", [{}, {"unbiased": True}, {"half": True}, {"kernel": "gaussian"}, {"r": 1.5}])
def test_target_stands_for_its_points(slices, d, options):
    x, y = normal(20, d), normal(30, d, seed=1) + 0.4
    target = mmd.SlicedTarget(y, num_slices=12, slices=slices, generator=seeded())
    drawn = {"num_slices": 12, "slices": slices, "generator": seeded()}
    torch.testing.assert_close(fo.sliced_mmd(x, target, **options), fo.sliced_mmd(x, y, **drawn, **options))
    drawn["generator"] = seeded()
    torch.testing.assert_close(fo.sliced_mmd_grad(x, target, **options), fo.sliced_mmd_grad(x, y, **drawn, **options))


def test_target_with_weights_on_either_side():
    x, y = normal(20, 6), normal(30, 6, seed=1)
    a, b = (torch.rand(k, generator=seeded(k), dtype=torch.float64) for k in (20, 30))
    a, b = a / a.sum(), b / b.sum()
    rows = mmd.make_directions(6, 9, generator=seeded(), dtype=torch.float64)
    for x_weights, y_weights in ((a, b), (a, None), (None, b)):
        target = mmd.SlicedTarget(y, rows, y_weights=y_weights)
        for kernel in ("riesz", "gaussian"):
            got = fo.sliced_mmd(x, target, x_weights=x_weights, kernel=kernel)
            want = fo.sliced_mmd(x, y, directions=rows, x_weights=x_weights, y_weights=y_weights, kernel=kernel)
            torch.testing.assert_close(got, want)


def test_target_gradients_in_points_and_weights():
    x, y = normal(7, 3).requires_grad_(), normal(8, 3, seed=1)
    target = mmd.SlicedTarget(y, num_slices=5, generator=seeded())
    logits = normal(7, seed=2).requires_grad_()
    value = lambda x, logits: fo.sliced_mmd(x, target, x_weights=logits.softmax(0))  # noqa: E731
    assert torch.autograd.gradcheck(value, (x, logits), eps=1e-5, atol=1e-7, rtol=1e-5)


def test_target_takes_batches_and_half_inputs():
    y = normal(30, 4, dtype=torch.float16)
    target = mmd.SlicedTarget(y, num_slices=5, generator=seeded())
    x = normal(3, 9, 4, seed=1, dtype=torch.float16)
    value = fo.sliced_mmd(x, target)
    assert value.dtype == torch.float32
    apart = torch.stack([fo.sliced_mmd(part, target) for part in x])
    assert torch.equal(value, apart)
    assert fo.sliced_mmd_grad(x, target).dtype == torch.float16


def test_target_far_away_keeps_its_digits():
    x, y = normal(50, 5), normal(60, 5, seed=1)
    near = fo.sliced_mmd(x.float(), mmd.SlicedTarget(y.float(), num_slices=9, generator=seeded()))
    far = fo.sliced_mmd((x + 1e4).float(), mmd.SlicedTarget((y + 1e4).float(), num_slices=9, generator=seeded()))
    assert float(far) == pytest.approx(float(near), rel=1e-3)


def test_pool_is_its_own_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    first, second = (mmd.SlicedTarget(normal(9, 4), generator=seeded(5)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.slices.rows, second.slices.rows)
    assert first.num_slices == 128
    assert "9 points in R^4, 128 slices" in repr(first)


@pytest.mark.parametrize("slices", ["gaussian", "hadamard"])
def test_targets_pickle_and_copy(slices):
    x, target = normal(9, 4), mmd.SlicedTarget(normal(8, 4, seed=1), slices=slices)
    for other in (pickle.loads(pickle.dumps(target)), copy.deepcopy(target)):
        assert torch.equal(fo.sliced_mmd(x, other), fo.sliced_mmd(x, target))


def test_normal_target_on_the_line():
    """E|t - Z| = t (2 Phi(t) - 1) + 2 phi(t), E|Z - Z'| = 2 / sqrt pi."""
    x = torch.tensor([-1.5, 0.0, 0.3, 2.0], dtype=torch.float64)
    cdf, density = 0.5 * torch.erfc(-x / math.sqrt(2)), torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    cross = (x * (2 * cdf - 1) + 2 * density).mean()
    want = cross - 0.5 * (x[:, None] - x).abs().mean() - 1 / math.sqrt(math.pi)
    target = mmd.SlicedTarget.standard_normal(1, dtype=torch.float64)
    assert float(fo.sliced_mmd(x[:, None], target, half=True)) == pytest.approx(float(want), rel=1e-12)
    unbiased = cross - 0.5 * (x[:, None] - x).abs().sum() / 12 - 1 / math.sqrt(math.pi)
    got = fo.sliced_mmd(x[:, None], target, half=True, unbiased=True)
    assert float(got) == pytest.approx(float(unbiased), rel=1e-12)


@pytest.mark.parametrize(("d", "slices"), [(3, "spiral"), (5, "orthogonal"), (70, "hadamard")])
def test_normal_target_is_the_limit_of_samples(d, slices):
    x = 1.4 * normal(500, d) + 0.2
    target = mmd.SlicedTarget.standard_normal(d, slices=slices, generator=seeded(), dtype=torch.float64)
    exact = mmd.energy_distance(x, normal(4000, d, seed=1), unbiased=True)
    assert float(fo.sliced_mmd(x, target, unbiased=True)) == pytest.approx(float(exact), rel=0.05)
    same = normal(2000, d, seed=2)
    assert abs(float(fo.sliced_mmd(same, target, unbiased=True))) < 0.02 * float(exact)


@pytest.mark.parametrize("slices", ["gaussian", "hadamard"])
def test_normal_target_gradients(slices):
    target = mmd.SlicedTarget.standard_normal(4, num_slices=5, slices=slices, generator=seeded(), dtype=torch.float64)
    x, logits = normal(7, 4).requires_grad_(), normal(7, seed=2).requires_grad_()
    value = lambda x, logits: fo.sliced_mmd(x, target, x_weights=logits.softmax(0))  # noqa: E731
    assert torch.autograd.gradcheck(value, (x, logits), eps=1e-5, atol=1e-7, rtol=1e-5)


def test_a_target_in_half_precision_takes_points_of_its_dtype_only():
    half = mmd.SlicedTarget(normal(30, 4, dtype=torch.float16), num_slices=5)
    whole = mmd.SlicedTarget(normal(30, 4, dtype=torch.float32), num_slices=5)
    for target, dtype in ((half, torch.float32), (half, torch.bfloat16), (whole, torch.float16)):
        with pytest.raises(TypeError, match="`x` of the target's dtype"):
            fo.sliced_mmd(normal(9, 4, dtype=dtype), target)
    law = mmd.SlicedTarget.standard_normal(4, dtype=torch.float32)
    assert fo.sliced_mmd(normal(9, 4, dtype=torch.float16), law).isfinite()
