"""Kernels through their slices: the constants that make the mean over directions the kernel on R^d."""

import warnings
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import fastcore_ops as fo
from fastcore_ops.mmd import _profiles
from fastcore_ops.mmd._directions import slicing_constant

from . import smooth_problems as problems

pytestmark = pytest.mark.native
KERNELS = {
    "riesz_half": ("riesz", {"r": 0.5}),
    "riesz_three_halves": ("riesz", {"r": 1.5}),
    "gaussian": ("gaussian", {}),
    "laplace": ("laplace", {}),
    "matern": ("matern", {}),
    "rational_quadratic": ("rational_quadratic", {"alpha": 0.7}),
    "imq": ("imq", {"beta": 0.9}),
    "thin_plate": ("thin_plate", {}),
}
SMOOTH = ("gaussian", "laplace", "matern", "rational_quadratic", "imq")
every = pytest.mark.parametrize(("kernel", "parameters"), KERNELS.values(), ids=KERNELS)


def slices_of(kernel, d, parameters, bandwidth=1.3, dtype=torch.float64):
    return _profiles.profile(kernel, d, bandwidth=bandwidth, dtype=dtype, **parameters)


def sphere_nodes(d, count=400):
    """Nodes and weights for the mean over directions of what depends on one coordinate s alone."""
    special = pytest.importorskip("scipy.special")
    s, w = special.roots_jacobi(count, 0.5 * (d - 3), -0.5)  # in v = 2 s^2 - 1, s > 0
    return torch.from_numpy(np.sqrt(0.5 * (1 + s))), torch.from_numpy(w / w.sum())


@every
@pytest.mark.parametrize("d", [2, 3, 10, 64, 784])
def test_two_points_see_the_kernel_of_their_distance(kernel, parameters, d, require):
    """E f(|s| rho) = F(rho) by quadrature over the sphere: D^2 of two Diracs is F(0) - F(rho)."""
    require("cpp")
    s, w = sphere_nodes(d)
    slices = slices_of(kernel, d, parameters)
    shared = {**parameters, "bandwidth": 1.3}
    for rho in (0.2, 1.0, 2.5):
        x, y = torch.zeros(len(s), 1, dtype=torch.float64), rho * s[:, None]
        value = w @ slices(x, y, None, None, False, problems.VALUE, "cpp")[2]
        zero, at = (problems.kernel_of_distance(kernel, torch.tensor(t).double(), **shared) for t in (0.0, rho))
        scale = max(float(abs(zero - at)), 0.05)
        assert abs(float(value - (zero - at))) <= 4e-3 * scale, rho


@pytest.mark.parametrize("d", [2, 3, 10, 784])
def test_logarithm_up_to_its_constant(d, require):
    require("cpp")
    s, w = sphere_nodes(d)
    slices = slices_of("log", d, {})

    def mean_of(rho):
        x, y = torch.zeros(len(s), 1, dtype=torch.float64), rho * s[:, None]
        return float(w @ slices(x, y, None, None, False, problems.VALUE, "cpp")[2])

    assert mean_of(3.0) - mean_of(0.5) == pytest.approx(np.log(6.0), rel=1e-9)


def clouds(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (20, 15))
    return x, y + 0.4


@lru_cache
def directions(d, count, seed=1):
    """Orthogonal blocks, equally spread angles where d = 2."""
    if d == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if d == 2:
        angle = torch.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return torch.stack([angle.cos(), angle.sin()], 1)
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randn(-(-count // d), d, d, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(blocks)
    return (q * r.diagonal(dim1=1, dim2=2).sign()[:, None]).reshape(-1, d)[:count]


@pytest.mark.parametrize(
    ("kernel", "parameters", "unbiased"),
    [(*k, u) for k in KERNELS.values() for u in (False, True)] + [("log", {}, True)],
    ids=[f"{k}-{u}" for k in KERNELS for u in ("biased", "unbiased")] + ["log-unbiased"],
)
@pytest.mark.parametrize("d", [1, 2, 3, 10, 64, 784])
def test_mean_over_slices_is_the_exact_distance(kernel, parameters, unbiased, d, require):
    """Within four standard errors of the slices, and what the series leaves."""
    require("cpp")
    x, y = clouds(d)
    width = float((x[:, None] - y).square().sum(-1).sqrt().median())
    xi = directions(d, 1568 if d == 784 else 1600)
    tx, ty = (xi @ x.T).contiguous(), (xi @ y.T).contiguous()
    value = slices_of(kernel, d, parameters, width)(tx, ty, None, None, unbiased, problems.VALUE, "cpp")[2]
    want = float(problems.half_mmd(x, y, kernel, unbiased=unbiased, bandwidth=width, **parameters))
    biased = abs(float(problems.half_mmd(x, y, kernel, bandwidth=width, **parameters))) if kernel != "log" else 1.0
    standard_error = float(value.std() / len(value) ** 0.5) if d > 2 else 0.0
    log_peaks = 0.02 if kernel == "log" and d == 2 else 0.0  # equal angles meet log's singularities badly
    assert abs(float(value.mean()) - want) <= 4 * standard_error + (5e-3 + log_peaks) * biased


@every
@pytest.mark.parametrize("outputs", [1, 7, 31])
def test_gradients_are_of_the_value(kernel, parameters, outputs, require):
    require("cpp")
    slices = slices_of(kernel, 4, parameters)
    x, y = problems.sample(n=6, m=5)

    def value(x, y):
        return slices(x, y, None, None, False, problems.VALUE, "cpp")[2]

    found = slices(x, y, None, None, False, outputs, "cpp")
    torch.testing.assert_close(found[0], problems.numeric_gradient(lambda t: value(t, y), x), rtol=1e-6, atol=1e-7)
    if outputs & 2:
        torch.testing.assert_close(found[1], problems.numeric_gradient(lambda t: value(x, t), y), rtol=1e-6, atol=1e-7)


@every
def test_backends_agree(kernel, parameters, dtype, require):
    require("cpp")
    x, y = problems.sample(2, 30, 20, dtype=dtype)
    a, b = problems.weights(30, 20)
    slices = slices_of(kernel, 12, parameters, dtype=dtype)
    found, truth = (slices(x, y, a, b, False, problems.ALL, backend) for backend in ("cpp", "reference"))
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    for got, want in zip(found, truth):
        torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=bound * float(want.abs().max()))


@pytest.mark.parametrize("kernel", SMOOTH)
def test_a_bandwidth_may_be_a_tensor(kernel):
    x, y = problems.sample(2)
    tensor, number = (
        slices_of(kernel, 3, {}, width)(x, y, None, None, False, problems.ALL, None)
        for width in (torch.tensor(1.7, dtype=torch.float64), 1.7)
    )
    for got, want in zip(tensor, number):
        assert torch.equal(got, want)
    with pytest.raises(TypeError, match="bandwidth"):
        slices_of(kernel, 3, {}, None)


def test_matern_of_a_half_is_laplace():
    x, y = problems.sample(2)
    laplace, matern = (
        slices_of(kernel, 6, parameters)(x, y, None, None, False, problems.ALL, None)
        for kernel, parameters in (("laplace", {}), ("matern", {"nu": 0.5}))
    )
    for got, want in zip(matern, laplace):
        assert torch.equal(got, want)


def test_a_window_that_is_cut_warns_and_names_the_remedy():
    x, y = problems.sample()
    with pytest.warns(UserWarning, match=r'4096.*off by up to 1\..*range / bandwidth = .*method="exact"'):
        slices_of("gaussian", 3, {}, 1e-5)(x, y, None, None, False, problems.VALUE, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slices_of("gaussian", 3, {}, 1.0)(x, y, None, None, False, problems.VALUE, None)


CALLS_WITH_A_CUT = {
    "value": lambda x, y: fo.sliced_mmd(x, y, kernel="gaussian", bandwidth=1e-5, num_slices=4),
    "gradient": lambda x, y: fo.sliced_mmd_grad(x, y, kernel="laplace", bandwidth=1e-5, num_slices=4),
    "backward": lambda x, y: fo.sliced_mmd(x.requires_grad_(), y, kernel="imq", bandwidth=1e-5, num_slices=4),
    "target": lambda x, y: fo.sliced_mmd(x, fo.mmd.SlicedTarget(y), kernel="matern", bandwidth=1e-5),
    "torch.func": lambda x, y: torch.func.grad(
        lambda x: fo.sliced_mmd(x, y, kernel="gaussian", bandwidth=1e-5, num_slices=4)
    )(x),
    "test": lambda x, y: fo.mmd.mmd_test(x, y, kernel="gaussian", bandwidth=1e-5, num_permutations=9),
    "rough": lambda x, y: fo.sliced_mmd_grad(x, y, r=0.5, num_slices=4),
}


@pytest.mark.parametrize("name", CALLS_WITH_A_CUT)
def test_warnings_stand_at_the_users_line(name):
    x, y = clouds(3)
    with pytest.warns(UserWarning, match="off by|variance") as seen:
        CALLS_WITH_A_CUT[name](x, y)
    assert {warning.filename for warning in seen} == {__file__}
    assert 'method="exact"' in str(seen[0].message) or name == "test"


@pytest.mark.parametrize("d", [1, 3, 20])
@pytest.mark.parametrize("kernel", SMOOTH)
@pytest.mark.parametrize("bandwidth", [1e-3, 1e-4])
def test_a_cut_kernel_is_off_by_no_more_than_the_warning_says(kernel, d, bandwidth, require):
    """Two Diracs far apart, D^2 = K(0) - K(rho), and two points near them that make the range."""
    require("cpp")
    s, w = sphere_nodes(d) if d > 1 else (torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    x, y = 3.0 * s[:, None] * torch.tensor([1.0, -1.0]), 1e-4 * s[:, None]
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        value = float(w @ slices_of(kernel, d, {}, bandwidth)(x, y, a, b, False, problems.VALUE, "cpp")[2])
    at_zero = bandwidth**-1.0 if kernel == "imq" else 1.0
    zero, far = (
        problems.kernel_of_distance(kernel, torch.tensor(t).double(), bandwidth=bandwidth) for t in (0.0, 2.9999)
    )
    said = [float(str(warning.message).split("off by up to ")[1].split(". ")[0]) for warning in seen]
    # One digit is said; the rule over the sphere is off by 5e-3 itself.
    assert abs(value - float(zero - far)) <= (2 * 1.5 * max(said, default=0.0) + 5e-3) * at_zero


@pytest.mark.parametrize("d", [2, 3, 10, 64])
def test_laplace_keeps_the_modes_that_its_kink_has_most_of(d):
    """Just beyond the cap: with the window around the spectrum's peak values were off by 1e3."""
    x, y = clouds(d)
    bandwidth = {2: 0.006, 3: 0.004, 10: 0.004, 64: 0.02}[d]
    options = {"kernel": "laplace", "bandwidth": bandwidth}
    with pytest.warns(UserWarning, match="off by up to 0.0"):
        value = float(fo.sliced_mmd(x, y, num_slices=64, **options))
    assert value == pytest.approx(float(fo.sliced_mmd(x, y, method="exact", **options)), rel=0.05)


@every
def test_traces_without_a_break_and_without_reading(kernel, parameters, require):
    require("cpp")

    def mean(x, y):
        return slices_of(kernel, 9, parameters)(x, y, None, None, False, 7, None)[0].sum(0)

    x, y = problems.sample(3)
    compiled = torch.compile(mean, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, y), mean(x, y), rtol=0, atol=0)
    with FakeTensorMode() as mode:
        assert mean(mode.from_tensor(x), mode.from_tensor(y)).shape == (9,)
    torch._dynamo.reset()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 66, 786, 10**6])
def test_half_digamma(n):
    special = pytest.importorskip("scipy.special")
    assert _profiles._half_digamma(n) == pytest.approx(float(special.digamma(n / 2)), rel=1e-13, abs=1e-14)


@pytest.mark.parametrize(("d", "constant"), [(1, 1.0), (2, np.pi / 2), (3, 2.0), (64, 9.987425), (784, 35.0816073)])
def test_slicing_constant(d, constant):
    assert slicing_constant(d, 1.0) == pytest.approx(constant, rel=1e-7)


@pytest.mark.parametrize("alpha", [10.0, 1e3, 1e6])
@pytest.mark.parametrize("d", [1, 5, 70])
def test_rational_quadratic_of_a_large_alpha_nears_the_gaussian(alpha, d):
    x, y = (torch.randn(20, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2))
    options = {"bandwidth": float(d) ** 0.5, "num_slices": 16, "slices": "gaussian"}
    got, want = (
        float(
            fo.sliced_mmd(x, y + 0.5, kernel=kernel, alpha=alpha, generator=torch.Generator().manual_seed(3), **options)
        )
        for kernel in ("rational_quadratic", "gaussian")
    )
    assert got == pytest.approx(want, rel=2 / alpha + 1e-3)
