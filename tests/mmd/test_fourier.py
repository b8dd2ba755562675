"""Fourier modes of smooth kernels: on the line against the kernels themselves, in R^d against their slices."""

import math

import numpy as np
import pytest
import torch

import fastcore_ops as fo
from fastcore_ops.mmd import _differentiable_modes, _spectrum
from fastcore_ops.mmd._kernels import Kernel

from . import smooth_problems as problems

pytestmark = pytest.mark.native
# kernel: code, shape, and what the series leaves on the line (of the largest output): tails beyond the period
KERNELS = {
    "gaussian": (1, 0.0, 1e-9),
    "matern": (3, 1.5, 3e-4),
    "rational_quadratic": (4, 1.0, 2e-3),
    "imq": (5, 0.5, 5e-3),
}


def arguments(name, d=1, bandwidth=1.5, double=True):
    code, shape = (2, 0.0) if name == "laplace" else KERNELS[name][:2]
    low, high = _spectrum.band(code, d, shape, double)
    sigma = torch.tensor(bandwidth, dtype=torch.float64)
    return sigma, code, d, shape, _spectrum.kink(code, d), low, high, *_spectrum.period(code, d, double)


@pytest.fixture
def fourier(require):
    require("cpp")
    operator = problems.operator("mmd_fourier", "cpp")

    def call(name, x, y, a=None, b=None, unbiased=False, outputs=problems.ALL, **options):
        return operator(x, y, a, b, *arguments(name, double=x.dtype == torch.float64, **options), unbiased, outputs)

    return call


def exact_on_the_line(name, x, y, a, b, unbiased):
    def distance(x, y, a, b):
        scale = 1.5 if name == "imq" else 1.0  # F(0) = 1
        return scale * problems.half_mmd(x, y, name, a, b, unbiased, bandwidth=1.5)

    leaves = [t.clone().requires_grad_() for t in (x[0][:, None], y[0][:, None], a, b)]
    value = distance(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves, allow_unused=True)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("signed", [False, True])
def test_on_the_line_the_series_is_the_kernel(fourier, name, signed):
    x, y = problems.sample()
    a, b = problems.weights(9, 7, signed=signed)
    value, gradients = exact_on_the_line(name, x, y, a, b, False)
    found = fourier(name, x, y, a, b)
    bound = KERNELS[name][2] * float(max(abs(value), gradients[2].abs().max(), gradients[0].abs().max()))
    assert abs(float(found[2]) - float(value)) <= bound
    for got, want in zip((found[0], found[1], found[3], found[4]), gradients):
        assert float((got[0] - want.view(-1)).abs().max()) <= bound


@pytest.mark.parametrize("name", KERNELS)
def test_unbiased_on_the_line(fourier, name):
    x, y = problems.sample()
    scale = 1.5 if name == "imq" else 1.0
    want = scale * problems.half_mmd(x[0][:, None], y[0][:, None], name, unbiased=True, bandwidth=1.5)
    assert float(fourier(name, x, y, unbiased=True)[2]) == pytest.approx(float(want), abs=2 * KERNELS[name][2])


def test_laplace_without_its_kink_and_the_ranks_are_laplace(fourier):
    x, y = problems.sample(n=40, m=30)
    series, ranks = (
        fourier("laplace", x, y),
        problems.operator("mmd_rank", "cpp")(x, y, None, None, False, problems.ALL),
    )
    want = problems.half_mmd(x[0][:, None], y[0][:, None], "laplace", bandwidth=1.5)
    assert float(series[2] + ranks[2] / 1.5) == pytest.approx(float(want), rel=1e-3)


@pytest.mark.parametrize("d", [2, 3, 10, 64, 784])
def test_gaussian_slices_are_the_confluent_function(fourier, d):
    special = pytest.importorskip("scipy.special")
    x, y = problems.sample(n=12, m=10)
    x, y = x / math.sqrt(2 * d), y / math.sqrt(2 * d)  # as slices of clouds whose median distance is the bandwidth

    def f(t):
        z = 0.5 * t.numpy() ** 2
        return torch.from_numpy(np.exp(-z) * special.hyp1f1(0.5 - 0.5 * d, 0.5, z))  # Kummer: no cancellation

    def mean(u, v):
        return f(u[0][:, None] - v[0]).mean()

    want = 0.5 * (mean(x, x) + mean(y, y)) - mean(x, y)
    bound = {2: 1e-3, 3: 1e-9}.get(d, 1e-6)
    assert float(fourier("gaussian", x, y, d=d, bandwidth=1.0)[2]) == pytest.approx(float(want), rel=bound)


@pytest.mark.parametrize("d", [10, 100, 784])
def test_gaussian_needs_few_modes(fourier, d):
    x, y = problems.sample(4, 500, 500, dtype=torch.float32)
    modes = fourier("gaussian", x, y, d=d, bandwidth=math.sqrt(2 * d))[5]
    assert modes.dtype == torch.int64 and (modes >= 5).all() and (modes <= 14).all()


@pytest.mark.parametrize("name", [*KERNELS, "laplace"])
@pytest.mark.parametrize("d", [1, 30])
@pytest.mark.parametrize("unbiased", [False, True])
def test_gradients_against_finite_differences(fourier, name, d, unbiased):
    """The period does not follow a point that moves a little, so that they agree as far as differences go."""
    x, y = problems.sample(n=6, m=5)

    def value(x, y):
        return fourier(name, x, y, unbiased=unbiased, outputs=problems.VALUE, d=d)[2]

    found = fourier(name, x, y, unbiased=unbiased, d=d)
    torch.testing.assert_close(found[0], problems.numeric_gradient(lambda t: value(t, y), x), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[1], problems.numeric_gradient(lambda t: value(x, t), y), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [*KERNELS, "laplace"])
@pytest.mark.parametrize("signed", [False, True])
def test_potentials_are_the_weights_gradients(fourier, name, signed):
    x, y = problems.sample(n=6, m=5)
    a, b = problems.weights(6, 5, signed=signed)

    def value(a, b):
        return fourier(name, x, y, a, b, outputs=problems.VALUE, d=3)[2]

    *_, in_a, in_b, _ = fourier(name, x, y, a, b, d=3)
    torch.testing.assert_close(in_a[0], problems.numeric_gradient(lambda t: value(t, b), a), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(in_b[0], problems.numeric_gradient(lambda t: value(a, t), b), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("room", [1 << 22, 3000, 1])
def test_values_for_autograd(fourier, name, room, monkeypatch):
    """What autograd goes through twice has the operator's value and gradients, however many slices are taken at once."""
    monkeypatch.setattr(_differentiable_modes, "_ANGLES", room)
    code, shape, _ = KERNELS[name]
    kernel, factor = Kernel(name, 1.5, shape), 1.5**-1.0 if name == "imq" else 1.0
    assert kernel.code == code
    x, y = problems.sample(6)
    x, y = x * torch.arange(1, 7)[:, None], y * torch.arange(1, 7)[:, None]
    for masses, unbiased in (((None, None), False), ((None, None), True), (problems.weights(9, 7, signed=True), False)):
        wanted = fourier(name, x, y, *masses, unbiased=unbiased, d=3)
        leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        found = _differentiable_modes.slice_values(kernel, 3, True, *leaves, *masses, unbiased)
        slopes = torch.autograd.grad(found.sum(), leaves)
        for got, want in zip((found, *slopes), (wanted[2], wanted[0], wanted[1]), strict=True):
            torch.testing.assert_close(got, factor * want, rtol=1e-10, atol=1e-13)
    x[2, 3] = torch.nan
    leaf = x.requires_grad_()
    found = _differentiable_modes.slice_values(kernel, 3, True, leaf, y, None, None, False)
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    assert found[2].isnan() and slope[2].isnan().all() and slope[[0, 1, 3, 4, 5]].isfinite().all()


@pytest.mark.parametrize("name", [*KERNELS, "laplace"])
@pytest.mark.parametrize("size", [1, 7, 32, 999])
def test_identical_samples_give_zero(fourier, name, size, dtype):
    x, _ = problems.sample(2, size, dtype=dtype)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    grad_x, grad_y, value, *_ = fourier(name, x, x[:, order], d=7)
    assert (grad_x == 0).all() and (grad_y == 0).all() and (value == 0).all()


def test_all_points_in_one_place(fourier, dtype):
    x = torch.full((2, 5), 3.7, dtype=dtype)
    grad_x, grad_y, value, *_ = fourier("gaussian", x, x[:, :3].contiguous(), d=5)
    assert (grad_x == 0).all() and (grad_y == 0).all() and (value == 0).all()


@pytest.mark.parametrize("name", [*KERNELS, "laplace"])
def test_a_slice_that_is_not_finite_spoils_itself_only(fourier, name, dtype):
    x, y = problems.sample(4, dtype=dtype)
    clean = fourier(name, x, y, d=5)
    x[0, 2], y[2, 0], y[3, 1] = torch.nan, torch.inf, -torch.inf
    for got, want in zip(fourier(name, x, y, d=5), clean):
        assert got[[0, 2, 3]].isnan().all() or (got.dtype == torch.int64 and (got[[0, 2, 3]] == 0).all())
        assert torch.equal(got[1], want[1])


def test_only_what_is_wanted_comes_back(fourier):
    x, y = problems.sample(2)
    whole = fourier("matern", x, y)
    for bit in range(5):
        for k, part in enumerate(fourier("matern", x, y, outputs=1 << bit)[:5]):
            assert torch.equal(part, whole[k]) if k == bit else part.shape == (0,)


def test_modes_beyond_the_cap_are_counted_and_the_largest_taken(fourier):
    x, y = problems.sample()
    narrow = fourier("gaussian", x, y, bandwidth=1e-4)
    assert int(narrow[5]) > _spectrum.MAX_MODES
    assert narrow[2].isfinite().all()
    wide = fourier("gaussian", x, y, bandwidth=1.0)
    assert int(wide[5]) < 60
    first, count, wanted = _spectrum.window(1, 400, 0.0, *_spectrum.band(1, 400, 0.0, False), 1e5)
    modes = torch.arange(first - 100, first + count + 100, dtype=torch.float64).numpy()
    c = _spectrum.coefficients(1, 400, 0.0, 0.0, 1e5, modes)
    assert wanted > count == _spectrum.MAX_MODES
    assert c[100:-100].min() >= c[[99, -100]].max()


@pytest.mark.parametrize("name", [*KERNELS, "laplace"])
def test_bandwidths_far_below_the_range(fourier, name):
    """Where a spectrum lies beyond the modes whose phases are known it is cut, and says so; where the ratio overflows: NaN."""
    x, y = problems.sample(2)
    found = fourier(name, x, y, d=40, bandwidth=1e-30)
    assert all(part.isfinite().all() for part in found) and (found[5] > _spectrum.MAX_MODES).all()
    *parts, modes = fourier(name, x, y, d=40, bandwidth=1e-310)
    assert all(part.isnan().all() for part in parts) and (modes == 0).all()


@pytest.mark.parametrize("order", [-40.0, -3.5, -0.5, 0.0, 0.5, 4.0])
def test_bessel_integral_without_bessel(order):
    special = pytest.importorskip("scipy.special")
    a = np.logspace(-6, 4, 41)
    root = 2 * np.sqrt(a)
    want = math.log(2) + 0.5 * order * np.log(a) + np.log(special.kve(abs(order), root)) - root
    known = np.isfinite(want)
    found = _spectrum.log_bessel_integral(order, a)
    assert known.any()
    np.testing.assert_allclose(found[known], want[known], rtol=1e-12, atol=2e-12)


@pytest.mark.parametrize(("kernel", "shape"), [(1, 0.0), (2, 0.0), (3, 1.5), (4, 1.0), (5, 0.5)])
@pytest.mark.parametrize("d", [1, 2, 10, 784, 10**6])
def test_spectra_sum_to_the_kernel_at_zero(kernel, shape, d):
    u, density = _spectrum.share_grid(kernel, d, shape)
    assert 2 * np.trapezoid(density, u) == pytest.approx(1, abs=1e-8)


def test_periods_are_rounded_up_by_an_eighth_of_an_octave():
    sizes = np.exp(np.linspace(-30, 30, 1001))
    rounded = np.array([_spectrum.rounded_up(size) for size in sizes])
    assert (rounded >= sizes).all() and (rounded <= sizes * 2 ** (1 / 8) * (1 + 1e-15)).all()
    assert len(set(rounded)) <= 60 / math.log(2) * 8 + 2
    assert _spectrum.rounded_up(0.0) == 0


@pytest.mark.parametrize("order", [-400.0, -2.5, 0.0, 0.5, 7.5, 1e4])
def test_bessel_integral_at_any_argument(order):
    """Against the identity between three orders, which the integral obeys; at the ends of the grid it is finite."""
    a = np.array([1e-4, 1.0, 50.0, 1e5, 1e12])
    below, here, above = (_spectrum.log_bessel_integral(order + k, a) for k in (-1, 0, 1))
    # integral of the derivative of e^(order u - e^u - a e^-u) is 0: I(order + 1) = order I(order) + a I(order - 1)
    terms = np.abs(order) * np.exp(here - above), a * np.exp(below - above)
    error = 1 - np.sign(order) * terms[0] - terms[1]
    assert np.all(np.abs(error) < 1e-8 * (1 + terms[0] + terms[1]))
    assert np.isfinite(_spectrum.log_bessel_integral(order, np.exp(np.array([-80.0, 80.0, 110.0])))).all()


@pytest.mark.parametrize("name", ["laplace", "gaussian"])
def test_window_where_the_band_holds_too_many_modes(fourier, name):
    """Laplace's begins at the first mode, where its kink has most of its share; the others lie around their peak."""
    x, y = problems.sample()
    *found, modes = fourier(name, x, y, d=5, bandwidth=2e-3)
    *truth, wanted = problems.operator("mmd_fourier", "reference")(
        x, y, None, None, *arguments(name, d=5, bandwidth=2e-3), False, problems.ALL
    )
    assert torch.equal(modes, wanted)
    assert int(modes.min()) > _spectrum.MAX_MODES
    for got, want in zip(found, truth, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10 * float(want.abs().max()))


@pytest.mark.parametrize("options", [{"kernel": "imq"}, {"kernel": "rational_quadratic"}], ids=["imq", "rational"])
@pytest.mark.parametrize("bandwidth", [0.5, 1.0, 3.0, None])
def test_long_tails_on_the_line(options, bandwidth, dtype):
    """6e-4 is what the period may leave; worst seen 2.7e-4, at a bandwidth of half the range."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(n, 1, generator=generator, dtype=torch.float64).to(dtype) for n in (200, 150))
        exact, sliced = (
            float(fo.sliced_mmd(x, 1.2 * y + 0.5 * seed, method=method, bandwidth=bandwidth, **options))
            for method in ("exact", "sliced")
        )
        assert sliced == pytest.approx(exact, rel=6e-4)
