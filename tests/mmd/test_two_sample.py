"""The permutation test: right when there is nothing to see, powerful when there is, never p = 0."""

import pickle

import numpy as np
import pytest
import torch

import fastcore_ops as fo
from fastcore_ops import mmd
from fastcore_ops.mmd import _permuted_modes

KERNELS = ("riesz", "gaussian", "laplace", "matern", "rational_quadratic", "imq")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kernel", KERNELS)
def test_statistic_is_the_sliced_distance(kernel):
    x, y = normal(40, 4), normal(30, 4, seed=1) + 0.3
    for slices in ("gaussian", "hadamard"):
        options = {"num_slices": 9, "slices": slices, "kernel": kernel}
        result = mmd.mmd_test(x, y, num_permutations=5, generator=seeded(), **options)
        want = float(fo.sliced_mmd(x, y, generator=seeded(), **options))
        assert result.statistic == pytest.approx(want, rel=1e-9 if kernel != "imq" else 1e-6)


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_slices_may_share_a_product(kernel, monkeypatch):
    """Features of all slices at once, of two or three, of one."""
    x, y = normal(40, 4), normal(30, 4, seed=1) + 0.3
    found = []
    for room in (1 << 20, 70 * 400, 1):
        monkeypatch.setattr(_permuted_modes, "_FEATURES", room)
        found.append(mmd.mmd_test(x, y, num_permutations=9, kernel=kernel, num_slices=9, generator=seeded()).null)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
def test_different_laws_are_told_apart(kernel):
    result = mmd.mmd_test(
        normal(60, 5),
        normal(50, 5, seed=1) + 0.8,
        num_permutations=99,
        kernel=kernel,
        num_slices=16,
        generator=seeded(),
    )
    assert result.p_value == 0.01  # the least there is: never 0
    assert result.null.shape == (99,)
    assert result.null.dtype == np.float64
    assert result.statistic > result.null.max()


@pytest.mark.parametrize("kernel", ["riesz", "gaussian"])
def test_p_values_are_uniform_where_the_laws_agree(kernel):
    """Of 60 tests of equal laws about 0.2 * 60 have p <= 0.2; more than 22 has probability 0.1 %."""
    found = [
        mmd.mmd_test(
            normal(25, 3, seed=2 * k), normal(20, 3, seed=2 * k + 1), num_permutations=39, kernel=kernel, num_slices=8,
            generator=seeded(k),
        ).p_value
        for k in range(60)
    ]  # fmt: skip
    assert 3 <= sum(p <= 0.2 for p in found) <= 22
    assert np.mean(found) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("kernel", ["riesz", "gaussian", "laplace"])
def test_all_relabellings_of_few_points(kernel):
    """x = {0}, y = {1}: both labellings have the same distance, bit for bit or within rounding, so p = 1."""
    result = mmd.mmd_test(
        torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]]), num_permutations=20, kernel=kernel, num_slices=3
    )
    assert result.p_value == 1.0


def test_generator_decides_everything():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    before = torch.get_rng_state()
    first, second, other = (mmd.mmd_test(x, y, num_permutations=19, generator=seeded(k)) for k in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.null, second.null)
    assert first.statistic == second.statistic
    assert not np.array_equal(first.null, other.null)


def test_groups_of_labellings_do_not_matter(monkeypatch):
    from fastcore_ops.mmd import _two_sample

    x, y = normal(20, 3), normal(15, 3, seed=1)
    whole = mmd.mmd_test(x, y, num_permutations=150, generator=seeded())
    monkeypatch.setattr(_two_sample, "_GROUP_BYTES", 1)
    cut = mmd.mmd_test(x, y, num_permutations=150, generator=seeded())
    np.testing.assert_array_equal(whole.null, cut.null)


def test_result_is_plain():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    result = mmd.mmd_test(x.requires_grad_(), y, num_permutations=9)
    assert type(result.statistic) is type(result.p_value) is float
    assert isinstance(result.null, np.ndarray)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.null, result.null)
    array = mmd.mmd_test(x.detach().numpy(), y.numpy(), num_permutations=9)
    assert isinstance(array.statistic, float)
