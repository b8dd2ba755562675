"""``mmd`` and ``energy_distance``: known values, other libraries' formulas, offsets, weights, batches, odd inputs."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.spatial.distance import cdist

import fastcore_ops as fo

mmd, energy_distance = fo.mmd.mmd, fo.mmd.energy_distance


def column(*numbers, dtype=torch.float64):
    return torch.tensor(numbers, dtype=dtype)[:, None]


def clouds(n, m, d, seed=0, dtype=torch.float64, shift=0.3):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.to(dtype), (y + shift).to(dtype)


def with_gradients(call, *leaves):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    value = call(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


@pytest.mark.native
def test_mmd_golden_values():
    x, y = column(0, 1, 3), column(2, 2, 5)
    value, (grad_x, _) = with_gradients(lambda x, y: mmd(x, y, half=True), x, y)
    assert value == pytest.approx(7 / 9, rel=1e-15)
    torch.testing.assert_close(grad_x, column(-1, -3, -1) / 9, rtol=1e-14, atol=0)
    assert float(mmd(x, y)) == pytest.approx(14 / 9, rel=1e-15)
    assert float(mmd(x, y, half=True, unbiased=True)) == pytest.approx(1 / 9, rel=1e-14)
    assert float(mmd(x, y, r=0.5, half=True)) == pytest.approx(0.5409269644, abs=5e-11)
    assert float(mmd(x, y, r=1.5, half=True)) == pytest.approx(1.3609707632, abs=5e-11)


def test_mmd_golden_weights_and_ties():
    a, b = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), torch.tensor([0.6, 0.4], dtype=torch.float64)
    value, (grad,) = with_gradients(
        lambda x: energy_distance(x, column(2, 5), x_weights=a, y_weights=b, half=True), column(0, 1, 3)
    )
    assert value == pytest.approx(0.62, rel=1e-14)
    torch.testing.assert_close(grad, column(-0.04, -0.21, -0.15), rtol=1e-13, atol=0)
    value, (grad,) = with_gradients(lambda x: energy_distance(x, column(0, 1, 1), half=True), column(0, 0, 1))
    assert value == pytest.approx(1 / 9, rel=1e-14)
    torch.testing.assert_close(grad, column(-1, -1, -1) / 9, rtol=1e-14, atol=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_energy_distance_is_the_square_of_scipys(weighted):
    rng = np.random.default_rng(0)
    x, y = rng.standard_cauchy(150), rng.normal(size=90).round(1)
    a, b = (rng.random(150), rng.random(90)) if weighted else (None, None)
    if weighted:
        a, b = a / a.sum(), b / b.sum()
    got = energy_distance(x[:, None], y[:, None], x_weights=a, y_weights=b)
    assert isinstance(got, float)
    assert got == pytest.approx(scipy.stats.energy_distance(x, y, a, b) ** 2, rel=1e-12)


def matern(rho, nu, scale):
    z = np.sqrt(2 * nu) * rho / scale
    with np.errstate(invalid="ignore"):
        value = 2 ** (1 - nu) / scipy.special.gamma(nu) * z**nu * scipy.special.kv(nu, z)
    return np.where(z == 0, 1.0, value)


FORMULAS = {
    "riesz": ({"r": 1.3}, lambda rho: -(rho**1.3)),
    "gaussian": ({"bandwidth": 0.8}, lambda rho: np.exp(-(rho**2) / (2 * 0.8**2))),
    "laplace": ({"bandwidth": 0.8}, lambda rho: np.exp(-rho / 0.8)),
    "rational_quadratic": ({"bandwidth": 0.8, "alpha": 0.7}, lambda rho: (1 + rho**2 / (1.4 * 0.64)) ** -0.7),
    "imq": ({"bandwidth": 0.8, "beta": 0.7}, lambda rho: (0.64 + rho**2) ** -0.7),
    "log": ({"unbiased": True}, lambda rho: -np.log(np.where(rho > 0, rho, 1.0))),
    "thin_plate": ({}, lambda rho: rho**2 * np.log(np.where(rho > 0, rho, 1.0))),
    **{
        f"matern {nu}": ({"bandwidth": 0.8, "nu": nu}, lambda rho, nu=nu: matern(rho, nu, 0.8))
        for nu in (0.1, 0.5, 0.77, 1.0, 1.5, 2.5, 3.3, 12.5, 50.0)
    },
}


@pytest.mark.parametrize("name", FORMULAS)
def test_mmd_kernel_against_its_formula(name):
    options, formula = FORMULAS[name]
    x, y = clouds(60, 45, 3)
    unbiased = options.get("unbiased", False)

    def mean(a, b):
        matrix = formula(cdist(a, b))
        if a is b and unbiased:
            np.fill_diagonal(matrix, 0.0)
            return matrix.sum() / (len(a) * (len(a) - 1))
        return matrix.mean()

    a, b = x.numpy(), y.numpy()
    sums = mean(a, a), mean(b, b), mean(a, b)
    want = sums[0] + sums[1] - 2 * sums[2]
    scale = max(map(abs, sums))
    got = mmd(x, y, kernel=name.split()[0], **options)
    assert float(got) == pytest.approx(want, abs=1e-13 * scale)
    single = mmd(x.float(), y.float(), kernel=name.split()[0], **options)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(want, abs=3e-7 * scale)


def test_mmd_polynomial_against_its_formula():
    x, y = clouds(50, 40, 7)
    k = [(a @ b.t() / 7 + 1) ** 4 for a, b in ((x, x), (y, y), (x, y))]
    want = k[0].mean() + k[1].mean() - 2 * k[2].mean()
    torch.testing.assert_close(mmd(x, y, kernel="polynomial", degree=4), want, rtol=1e-12, atol=0)
    n, m = 50, 40
    within = (k[0].sum() - k[0].trace()) / (n * (n - 1)) + (k[1].sum() - k[1].trace()) / (m * (m - 1))
    got = mmd(x, y, kernel="polynomial", degree=4, unbiased=True)
    torch.testing.assert_close(got, within - 2 * k[2].mean(), rtol=1e-12, atol=0)


KERNELS = ["riesz", "gaussian", "laplace", "matern", "rational_quadratic", "imq", "thin_plate", "polynomial"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_second_derivatives(kernel):
    x, y = clouds(4, 3, 2)
    a, b = torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), torch.tensor([0.5, 0.3, 0.1]).double()
    leaves = [leaf.requires_grad_() for leaf in (x, y, a, b)]

    def value(x, y, a, b):
        return mmd(x, y, kernel=kernel, bandwidth=0.9, x_weights=a, y_weights=b, signed=True)

    assert torch.autograd.gradgradcheck(value, leaves)


@pytest.mark.parametrize(
    "options", [{"kernel": "log"}, {"kernel": "polynomial"}, {"kernel": "matern", "nu": 1.2, "bandwidth": 1.0}]
)
def test_mmd_second_derivatives_unbiased(options):
    leaves = [leaf.requires_grad_() for leaf in clouds(4, 3, 2)]
    assert torch.autograd.gradgradcheck(lambda x, y: mmd(x, y, unbiased=True, **options), leaves)


def test_mmd_gradient_is_one_whether_or_not_a_graph_of_it_is_made():
    x, y = (leaf.requires_grad_() for leaf in clouds(40, 30, 3))
    for kernel in KERNELS:
        value = mmd(x, y, kernel=kernel)
        plain = torch.autograd.grad(value, (x, y), retain_graph=True)
        graph = torch.autograd.grad(value, (x, y), create_graph=True)
        for left, right in zip(plain, graph, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-13)
            assert right.requires_grad


@pytest.mark.native
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_mmd_far_from_the_origin(offset):
    """Rounding of the input aside, float32 loses nothing: its differences are exact or nearly so."""
    x, y = (points + offset for points in clouds(300, 250, 5, dtype=torch.float32))
    value, (grad,) = with_gradients(lambda x: energy_distance(x, y), x)
    truth, (grad_truth,) = with_gradients(lambda x: energy_distance(x, y.double()), x.double())
    assert float(value) == pytest.approx(float(truth), rel=2e-6)
    assert float((grad - grad_truth).abs().max() / grad_truth.abs().max()) < 2e-6


@pytest.mark.native
@pytest.mark.parametrize("kernel", ["riesz", "gaussian", "imq"])
def test_mmd_of_clouds_that_nearly_agree(kernel):
    x = clouds(400, 1, 3, dtype=torch.float32)[0]
    y = x.flip(0) + 1e-2
    value, (grad,) = with_gradients(lambda x: mmd(x, y, kernel=kernel, bandwidth=1.0), x)
    truth, (grad_truth,) = with_gradients(lambda x: mmd(x, y.double(), kernel=kernel, bandwidth=1.0), x.double())
    assert float(value) == pytest.approx(float(truth), rel=1e-3)  # 1e-4 of what cancels is left
    assert float((grad - grad_truth).abs().max() / grad_truth.abs().max()) < 1e-4


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_of_a_cloud_with_itself(kernel, dtype):
    x = clouds(130, 1, 3, dtype=dtype)[0]
    value, (grad,) = with_gradients(lambda points: mmd(points, x.flip(0), kernel=kernel, bandwidth=1.0), x)
    far, (alone,) = with_gradients(lambda points: mmd(points, x.flip(0) + 1.0, kernel=kernel, bandwidth=1.0), x)
    assert abs(float(value)) < 1e-14 * max(1.0, float(far))
    assert float(grad.abs().max()) <= 8 * torch.finfo(dtype).eps * float(alone.abs().max())


def test_mmd_points_that_coincide_pull_nowhere():
    x = torch.zeros(3, 2, dtype=torch.float64)
    for options in ({}, {"r": 0.3}, {"kernel": "laplace"}, {"kernel": "matern", "nu": 0.3}, {"kernel": "thin_plate"}):
        value, gradients = with_gradients(lambda x, y, o=options: mmd(x, y, **o), x, x[:2])
        assert float(value) == 0
        assert all(float(gradient.abs().max()) == 0 for gradient in gradients)


@pytest.mark.native
def test_mmd_one_pair_of_points():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    value, (grad_x, grad_y) = with_gradients(lambda x, y: energy_distance(x, y, half=True), x, y)
    assert float(value) == pytest.approx(5.0, rel=1e-6)
    torch.testing.assert_close(grad_x, torch.tensor([[-0.6, -0.8]]))
    torch.testing.assert_close(grad_y, torch.tensor([[0.6, 0.8]]))


@pytest.mark.native
def test_mmd_zero_weights_have_no_influence():
    x, y = clouds(80, 70, 3)
    a = torch.rand(80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a[::3] = 0
    a /= a.sum()
    for options in ({}, {"kernel": "gaussian", "bandwidth": 1.0}, {"kernel": "polynomial"}):
        value, (grad,) = with_gradients(lambda x, o=options: mmd(x, y, x_weights=a, **o), x)
        kept, (grad_kept,) = with_gradients(lambda x, o=options: mmd(x, y, x_weights=a[a > 0], **o), x[a > 0])
        torch.testing.assert_close(value, kept, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(grad[a > 0], grad_kept, rtol=1e-11, atol=1e-14)
        assert float(grad[a == 0].abs().max()) == 0


def test_mmd_signed_measures():
    x, y = clouds(30, 20, 2)
    a, b = torch.linspace(-1, 2, 30).double(), torch.linspace(0.5, -1, 20).double()
    got = mmd(x, y, kernel="gaussian", bandwidth=1.0, x_weights=a, y_weights=b, signed=True)
    k = [torch.exp(-torch.cdist(p, q).square() / 2) for p, q in ((x, x), (y, y), (x, y))]
    torch.testing.assert_close(got, a @ k[0] @ a + b @ k[1] @ b - 2 * a @ k[2] @ b, rtol=1e-11, atol=0)


def test_mmd_one_side_weighted_leaves_the_other_uniform():
    x, y = clouds(30, 20, 2)
    a = torch.linspace(1, 2, 30).double()
    a /= a.sum()
    both = mmd(x, y, x_weights=a, y_weights=torch.full((20,), 1 / 20, dtype=torch.float64))
    torch.testing.assert_close(mmd(x, y, x_weights=a), both, rtol=1e-14, atol=0)


def test_mmd_batches_are_many_calls():
    x = torch.stack([clouds(20, 1, 3, seed)[0] for seed in range(6)]).reshape(2, 3, 20, 3)
    y = clouds(15, 1, 3, 9)[0].expand(3, 15, 3)
    a = torch.rand(2, 1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a /= a.sum(-1, keepdim=True)
    for options in ({}, {"kernel": "gaussian"}):  # each of the batch has its own median distance
        got, (grad, _) = with_gradients(lambda x, y, o=options: mmd(x, y, x_weights=a, **o).sum(), x, y)
        values = mmd(x, y, x_weights=a, **options)
        assert values.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                one, (g,) = with_gradients(lambda p, i=i, j=j, o=options: mmd(p, y[j], x_weights=a[i, 0], **o), x[i, j])
                assert float(values[i, j]) == float(one)
                assert torch.equal(grad[i, j], g)
        assert float(got) == pytest.approx(float(values.sum()), rel=1e-12)
    assert mmd(x[:0], y).shape == (0, 3)
    assert mmd(x.numpy(), y.numpy()).shape == (2, 3)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_mmd_half_precision_is_computed_in_float32(half):
    x, y = (points.to(half) for points in clouds(40, 30, 4))
    value, (grad,) = with_gradients(lambda x: energy_distance(x, y), x)
    wide, (grad_wide,) = with_gradients(lambda x: energy_distance(x, y.float()), x.float())
    assert value.dtype == torch.float32
    assert grad.dtype == half
    assert float(value) == float(wide)
    assert torch.equal(grad, grad_wide.to(half))


@pytest.mark.native
def test_mmd_strides_do_not_matter():
    x, y = clouds(50, 40, 6)
    plain = energy_distance(x[:, ::2].contiguous(), y[:, :3].contiguous())
    assert float(energy_distance(x[:, ::2], y[:, :3])) == float(plain)
    spread = x[:1].expand(50, 6)
    assert float(energy_distance(spread, y)) == float(energy_distance(spread.clone(), y))


@pytest.mark.native
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_one_number_that_is_not_finite_spoils_all(bad, kernel, dtype):
    x, y = clouds(70, 66, 3, dtype=dtype)
    for spoilt in (x, y):
        kept = spoilt[3, 1].item()
        spoilt[3, 1] = bad
        value, gradients = with_gradients(lambda x, y: mmd(x, y, kernel=kernel), x, y)
        assert math.isnan(float(value))
        assert all(bool(gradient.isnan().all()) for gradient in gradients)
        spoilt[3, 1] = kept


@pytest.mark.native
@pytest.mark.parametrize("size", [1e-30, 1e25, 1e30])
def test_mmd_sizes_whose_squares_leave_float32(size):
    x, y = (points * size for points in clouds(40, 30, 3, dtype=torch.float32))
    value, (grad,) = with_gradients(lambda x: energy_distance(x, y), x)
    truth, (grad_truth,) = with_gradients(lambda x: energy_distance(x, y.double()), x.double())
    assert float(value) == pytest.approx(float(truth), rel=1e-5)
    torch.testing.assert_close(grad.double(), grad_truth, rtol=1e-5, atol=1e-7)


@pytest.mark.native
def test_mmd_one_outlier_leaves_the_other_gradients_alone():
    x, y = clouds(40, 30, 3, dtype=torch.float32)
    x[0] = 1e30
    _, (grad,) = with_gradients(lambda x: energy_distance(x, y), x)
    _, (truth,) = with_gradients(lambda x: energy_distance(x, y.double()), x.double())
    torch.testing.assert_close(grad.double(), truth, rtol=1e-5, atol=1e-7)


def test_mmd_default_bandwidth_is_the_median_distance():
    x, y = clouds(40, 30, 3)
    pooled = torch.cat([x, y])
    median = float(torch.pdist(pooled).median())
    assert float(mmd(x, y, kernel="imq")) == pytest.approx(float(mmd(x, y, kernel="imq", bandwidth=median)), rel=1e-14)
    same = torch.zeros(5, 2)
    assert float(mmd(same, same, kernel="gaussian")) == 0  # no distance to take a median of


MEMORY = """
import resource, sys, torch, fastcore_ops as fo
x, y = torch.randn(20000, 1), torch.randn(20000, 1)
fo.mmd.energy_distance(x[:100].requires_grad_(), y[:100]).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fo.mmd.energy_distance(x.requires_grad_(), y).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.native
def test_mmd_never_holds_a_matrix_of_pairs(require):
    require("cpp")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60, "MiB more; the matrix in float32 has 1526"
