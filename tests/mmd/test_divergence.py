"""Cauchy-Schwarz divergence and mutual information: their properties."""

import math

import pytest
import torch

import fastcore_ops as fo

divergence = fo.mmd.cauchy_schwarz_divergence
information = fo.mmd.cauchy_schwarz_mutual_information


F64 = torch.float64


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gaussian(x, bandwidth):
    return torch.exp(-torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * bandwidth**2))


def test_divergence_is_zero_for_one_sample_and_grows_with_the_shift():
    x = normal(90, 3)
    assert abs(float(divergence(x, x.flip(0)))) < 1e-13
    values = [float(divergence(x, x + shift, bandwidth=1.0)) for shift in (0.1, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] > 0


def dense_divergence(x, y, bandwidth):
    """From logarithms, in float64."""

    def log_mean(u, v):
        distances = ((u[:, None] - v) / bandwidth).square().sum(-1)
        return torch.logsumexp(-0.5 * distances.flatten(), 0) - math.log(u.shape[0] * v.shape[0])

    return log_mean(x, x) + log_mean(y, y) - 2 * log_mean(x, y)


@pytest.mark.native
@pytest.mark.parametrize("shift", [0.0, 6.0, 7.0, 9.0, 20.0, 25.0, 1e3, 1e8])
def test_divergence_of_samples_without_overlap(shift, dtype):
    """Means of kernels leave the range of float32 between the shifts 9 and 20, that of float64 at 25. Worst errors seen:
    4.3e-7 and 1.4e-14, of gradients.
    """
    x, y = normal(40, 3, dtype=dtype), normal(30, 3, seed=1, dtype=dtype) + shift
    bound = (32 if dtype == torch.float32 else 512) * torch.finfo(dtype).eps
    leaves, truth = ([t.detach().clone().requires_grad_() for t in (x.to(kind), y.to(kind))] for kind in (dtype, F64))
    value, want = divergence(*leaves, bandwidth=1.0), dense_divergence(*truth, 1.0)
    assert float(value.detach()) == pytest.approx(float(want.detach()), rel=bound)
    for got, exact in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(want, truth), strict=True):
        error = (got.double() - exact).norm() / exact.norm()
        assert float(error) < bound


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_divergence_under_torch_func_of_points_that_are_not_finite(bad):
    x, y = normal(6, 2), normal(5, 2, seed=1)
    y[3, 1] = bad
    grad, value = torch.func.grad_and_value(lambda x: divergence(x, y, bandwidth=1.0))(x)
    assert bool(value.isnan())
    assert bool(grad.isnan().all())


@pytest.mark.parametrize("shift", [0.5, 50.0])
def test_divergence_far_away_under_torch_func_and_twice(shift):
    x, y = normal(4, 2).requires_grad_(), normal(3, 2, seed=1) + shift
    assert torch.autograd.gradgradcheck(lambda x: divergence(x, y, bandwidth=1.0), (x,))
    (want,) = torch.autograd.grad(divergence(x, y, bandwidth=1.0), x)
    got = torch.func.grad(lambda x: divergence(x, y, bandwidth=1.0))(x.detach())
    torch.testing.assert_close(got, want, rtol=1e-11, atol=0)


def test_divergence_is_symmetric():
    x, y = normal(70, 2), normal(50, 2, seed=1) + 0.4
    assert float(divergence(x, y)) == pytest.approx(float(divergence(y, x)), rel=1e-12)


def test_divergence_default_bandwidth_and_batches():
    x, y = normal(3, 40, 2), normal(30, 2, seed=1) + 0.4
    values = divergence(x, y)
    assert values.shape == (3,)
    for i in range(3):
        median = float(torch.pdist(torch.cat([x[i], y])).median())
        assert float(values[i]) == pytest.approx(float(divergence(x[i], y, bandwidth=median)), rel=1e-13)
    assert isinstance(divergence(x[0].numpy(), y.numpy()), float)
    assert divergence(x.numpy(), y.numpy()).shape == (3,)


def test_information_sees_dependence():
    x = normal(120, 2)
    independent = information(x, normal(120, 3, seed=1))
    dependent = information(x, x[:, :1] ** 2)
    assert 0 <= float(independent) < 0.3 * float(dependent)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_information_against_its_formula(offset):
    x = normal(60, 2) + offset
    y = x[:, :1] + 0.3 * normal(60, 1, seed=1)
    k, q = gaussian(x, 1.2), gaussian(y, 0.7)
    want = (k * q).mean().log() + (k.mean() * q.mean()).log() - 2 * (k.mean(1) * q.mean(1)).mean().log()
    got = information(x, y, x_bandwidth=1.2, y_bandwidth=0.7)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    single = information((x - offset).float(), (y - offset).float(), x_bandwidth=1.2, y_bandwidth=0.7)
    assert float(single) == pytest.approx(float(want), rel=1e-4)


def test_information_default_bandwidths_are_each_sides_own():
    x, y = normal(50, 2), 10 * normal(50, 2, seed=1)
    bandwidths = [float(torch.pdist(points).median()) for points in (x, y)]
    want = information(x, y, x_bandwidth=bandwidths[0], y_bandwidth=bandwidths[1])
    torch.testing.assert_close(information(x, y), want, rtol=1e-12, atol=0)


def test_second_derivatives():
    x, y = normal(4, 2).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, y: divergence(x, y, bandwidth=1.0), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: information(x, y, x_bandwidth=1.0, y_bandwidth=0.8), (x, y))


@pytest.mark.parametrize("call", [divergence, information])
def test_numbers_that_are_not_finite(call):
    x, y = normal(30, 2).requires_grad_(), normal(30, 2, seed=1)
    y[3, 1] = math.nan
    value = call(x, y)
    assert math.isnan(float(value.detach()))
    (grad,) = torch.autograd.grad(value, x)
    assert bool(grad.isnan().all())


@pytest.mark.parametrize("call", [divergence, information])
def test_half_precision(call):
    x, y = normal(30, 2).half().requires_grad_(), normal(30, 2, seed=1).half()
    value = call(x, y)
    assert value.dtype == torch.float32
    (grad,) = torch.autograd.grad(value, x)
    assert grad.dtype == torch.float16
