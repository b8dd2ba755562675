"""Sliced distances against the exact ones, their gradients, batches, weights, tracing."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import fastcore_ops as fo
from fastcore_ops import mmd

KERNELS = {
    "riesz": {},
    "riesz_0.7": {"kernel": "riesz", "r": 0.7},
    "riesz_1.5": {"kernel": "riesz", "r": 1.5},
    "gaussian": {"kernel": "gaussian"},
    "laplace": {"kernel": "laplace"},
    "matern": {"kernel": "matern", "nu": 2.5},
    "rational_quadratic": {"kernel": "rational_quadratic", "alpha": 0.8},
    "imq": {"kernel": "imq", "bandwidth": 2.0},
    "log": {"kernel": "log", "unbiased": True},
    "thin_plate": {"kernel": "thin_plate"},
}
SMOOTH = ("gaussian", "matern", "rational_quadratic", "imq")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds(n, m, d, dtype=torch.float64, shift=0.7):
    generator = seeded(100 * n + m + d)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.to(dtype), (1.2 * y + shift).to(dtype)


def gradient(x, y, **options):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(fo.sliced_mmd(leaf, y, **options).sum(), leaf)[0]


GOLDEN = [
    ((0, 1, 3), (2, 2, 5), {}, 7 / 9, (-1 / 9, -3 / 9, -1 / 9)),
    ((0, 1, 3), (2, 2, 5), {"unbiased": True}, 1 / 9, None),
    ((0, 1, 3), (2, 2, 5), {"r": 0.5}, 0.5409269644, None),
    ((0, 1, 3), (2, 2, 5), {"r": 1.5}, 1.3609707632, None),
    ((0, 1, 3), (2, 5), {"x_weights": (0.2, 0.3, 0.5), "y_weights": (0.6, 0.4)}, 0.62, (-0.04, -0.21, -0.15)),
    ((0, 0, 1), (0, 1, 1), {}, 1 / 9, (-1 / 9, -1 / 9, -1 / 9)),
]


@pytest.mark.native
@pytest.mark.parametrize(("x", "y", "options", "value", "slopes"), GOLDEN)
@pytest.mark.parametrize("method", ["sliced", "exact"])
def test_golden_values_on_the_line(x, y, options, value, slopes, method):
    x, y = (torch.tensor(points, dtype=torch.float64)[:, None] for points in (x, y))
    options = {k: torch.tensor(v, dtype=torch.float64) if "weights" in k else v for k, v in options.items()}
    loose = 3e-5 if "r" in options and method == "sliced" else 1e-9  # sums of exponentials
    assert float(fo.sliced_mmd(x, y, half=True, method=method, **options)) == pytest.approx(value, rel=loose)
    if slopes is not None:
        got = gradient(x, y, half=True, method=method, **options)
        torch.testing.assert_close(got[:, 0], torch.tensor(slopes, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_scipy_energy_distance(draw):
    stats = pytest.importorskip("scipy.stats")
    x, y = draw(40, 1), draw(30, 1) + 0.2
    assert stats.energy_distance(x[:, 0], y[:, 0]) == pytest.approx(math.sqrt(float(fo.sliced_mmd(x, y))))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("d", [2, 3, 10])
def test_slices_approach_the_exact_distance(name, d):
    """Many slices: what is left is their error and the kernel's approximation."""
    x, y = clouds(40, 30, d)
    options = KERNELS[name]
    directions = mmd.make_directions(d, 512 if d < 4 else 1000, generator=seeded(), dtype=torch.float64)
    exact = fo.sliced_mmd(x, y, method="exact", **options)
    sliced = fo.sliced_mmd(x, y, directions=directions, **options)
    assert float(sliced) == pytest.approx(float(exact), rel=(5e-3 if name == "log" else 2e-3) if d < 4 else 3e-2)
    if name == "log":
        return  # its slices have a gradient of infinite variance
    want, got = gradient(x, y, method="exact", **options), gradient(x, y, directions=directions, **options)
    limit = 0.03 if d < 4 else 0.15
    if name == "riesz_0.7":
        limit *= 4  # its slices have a singular gradient
    assert float((got - want).norm() / want.norm()) < limit


@pytest.mark.parametrize("d", [5, 100])
@pytest.mark.parametrize("slices", ["gaussian", "orthogonal", "sobol", "hadamard"])
def test_every_law_is_unbiased(slices, d):
    x, y = clouds(30, 20, d)
    exact = fo.sliced_mmd(x, y, method="exact")
    values = [fo.sliced_mmd(x, y, slices=slices, num_slices=256, generator=seeded(k)) for k in range(20)]
    assert float(torch.stack(values).mean()) == pytest.approx(float(exact), rel=0.015)


def test_orthogonal_and_hadamard_slices_halve_the_error_of_the_gradient():
    x, y = clouds(150, 150, 64, shift=1.0)
    exact = gradient(x, y, method="exact")

    def error(slices):
        tries = [gradient(x, y, slices=slices, num_slices=128, generator=seeded(k)) for k in range(3)]
        return sum(float((g - exact).norm() / exact.norm()) for g in tries) / 3

    plain = error("gaussian")
    assert plain == pytest.approx(1.16 * math.sqrt(64 / 128), rel=0.25)
    assert error("orthogonal") < 0.65 * plain
    assert error("hadamard") < 0.65 * plain


@pytest.mark.parametrize("name", KERNELS)
def test_gradient_alone_is_that_of_the_value(name):
    x, y = clouds(30, 20, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "log" else "error")
        got = fo.sliced_mmd_grad(x, y, generator=seeded(), num_slices=20, half=True, **KERNELS[name])
        want = gradient(x, y, generator=seeded(), num_slices=20, half=True, **KERNELS[name])
    assert torch.equal(got, want)
    assert not got.requires_grad
    exact = fo.sliced_mmd_grad(x, y, method="exact", **KERNELS[name])
    assert torch.equal(exact, gradient(x, y, method="exact", **KERNELS[name]))


@pytest.mark.parametrize("name", ["riesz", "gaussian", "laplace", "riesz_1.5"])
def test_batches_are_what_each_element_gives(name):
    x, y = torch.stack([clouds(20, 15, 4, shift=s)[0] * s for s in (0.5, 1.0, 30.0)]), clouds(20, 15, 4)[1]
    options = {"num_slices": 10, **KERNELS[name]}
    together = fo.sliced_mmd(x, y, generator=seeded(), **options)
    apart = torch.stack([fo.sliced_mmd(part, y, generator=seeded(), **options) for part in x])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)
    grads = fo.sliced_mmd_grad(x, y, generator=seeded(), **options)
    one = torch.stack([fo.sliced_mmd_grad(part, y, generator=seeded(), **options) for part in x])
    torch.testing.assert_close(grads, one, rtol=1e-12, atol=1e-15)


def test_batches_broadcast_and_weights_too():
    x, y = torch.randn(2, 1, 8, 3, generator=seeded()), torch.randn(4, 6, 3, generator=seeded(1))
    a = torch.rand(4, 8, generator=seeded(2))
    a /= a.sum(-1, keepdim=True)
    value = fo.sliced_mmd(x, y, x_weights=a, num_slices=5, generator=seeded())
    assert value.shape == (2, 4)
    single = fo.sliced_mmd(x[1, 0], y[3], x_weights=a[3], num_slices=5, generator=seeded())
    torch.testing.assert_close(value[1, 3], single)
    assert fo.sliced_mmd_grad(x, y, x_weights=a, num_slices=5).shape == x.shape


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_of_smooth_kernels(name):
    x, y = (cloud.requires_grad_() for cloud in clouds(5, 4, 3))
    rows = mmd.make_directions(3, 4, generator=seeded(), dtype=torch.float64)
    options = {"bandwidth": 1.5, **KERNELS[name]}

    def value(x, y):
        return fo.sliced_mmd(x, y, directions=rows, **options)

    assert torch.autograd.gradgradcheck(value, (x, y), eps=1e-5, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["riesz", "riesz_1.5", "laplace"])
def test_second_derivatives_of_kinked_kernels_raise(name):
    x, y = clouds(5, 4, 3)
    leaf = x.requires_grad_()
    value = fo.sliced_mmd(leaf, y, num_slices=4, **KERNELS[name])
    (grad,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match=r'sliced_mmd: second derivatives.*Hessian.*method="exact"'):
        grad.sum().backward()
    exact = fo.sliced_mmd(leaf, y, method="exact", **KERNELS[name])
    (grad,) = torch.autograd.grad(exact, leaf, create_graph=True)
    grad.square().sum().backward()
    assert bool(leaf.grad.isfinite().all())


def test_rough_gradient_warns_and_rough_value_does_not():
    x, y = clouds(9, 8, 3)
    with pytest.warns(UserWarning, match=r'r = 0\.5 <= 1/2 has infinite variance.*method="exact"'):
        fo.sliced_mmd(x.clone().requires_grad_(), y, r=0.5, num_slices=4)
    with pytest.warns(UserWarning, match="sliced_mmd_grad: .*infinite variance"):
        fo.sliced_mmd_grad(x, y, r=0.4, num_slices=4)
    with pytest.warns(UserWarning, match="the kernel 'log' has infinite variance"):
        fo.sliced_mmd_grad(x, y, kernel="log", unbiased=True, num_slices=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fo.sliced_mmd(x, y, r=0.5, num_slices=4)
        fo.sliced_mmd_grad(x, y, r=0.5, method="exact")
        fo.sliced_mmd_grad(x, y, r=0.51, num_slices=4)


def test_auto_is_exact_only_where_nothing_was_asked_of_slices():
    x, y = clouds(100, 156, 5)  # N + M = 2 * 128
    exact = fo.sliced_mmd(x, y, method="exact")
    assert torch.equal(fo.sliced_mmd(x, y), exact)
    more = torch.cat([y, y[:1]])
    assert not torch.equal(fo.sliced_mmd(x, more), fo.sliced_mmd(x, more, method="exact"))
    rows = mmd.make_directions(5, 8, dtype=torch.float64)
    for asked in ({"num_slices": 128}, {"slices": "orthogonal"}, {"directions": rows}, {"method": "sliced"}):
        assert not torch.equal(fo.sliced_mmd(x, y, **asked), exact), asked
    assert torch.equal(fo.sliced_mmd(x, y, method="exact", num_slices=7), exact)
    cubic = fo.sliced_mmd(x, more, kernel="polynomial")
    assert torch.equal(cubic, mmd.mmd(x, more, kernel="polynomial"))


def test_generator_is_honoured_and_the_global_one_left_alone():
    x, y = clouds(30, 20, 5)
    before = torch.get_rng_state()
    first, second, other = (fo.sliced_mmd(x, y, num_slices=9, generator=seeded(k)) for k in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kernel", ["riesz", "gaussian"])
def test_numpy_in_numpy_out(kernel):
    x, y = clouds(30, 20, 5)
    options = {"kernel": kernel, "num_slices": 9}
    value = fo.sliced_mmd(x.numpy(), y.numpy(), generator=seeded(), **options)
    assert isinstance(value, float)
    assert value == float(fo.sliced_mmd(x, y, generator=seeded(), **options))
    grad = fo.sliced_mmd_grad(x.numpy(), y.numpy(), generator=seeded(), **options)
    assert isinstance(grad, np.ndarray)
    np.testing.assert_array_equal(grad, fo.sliced_mmd_grad(x, y, generator=seeded(), **options).numpy())
    batch = fo.sliced_mmd(x.numpy()[None], y.numpy(), generator=seeded(), **options)
    assert isinstance(batch, np.ndarray)
    assert batch.shape == (1,)


def test_runs_without_reading_numbers():
    """FakeTensorMode holds shapes alone: any read of a number on the host would raise."""
    with FakeTensorMode():
        for d in (1, 2, 3, 5, 100):
            x, y = torch.randn(3000, d, requires_grad=True), torch.randn(2000, d)
            value = fo.sliced_mmd(x, y)
            value.backward()
            assert value.shape == ()
            assert x.grad.shape == fo.sliced_mmd_grad(x, y).shape == x.shape


@pytest.mark.parametrize("d", [1, 5, 100])
def test_traces_without_a_graph_break(d):
    torch._dynamo.reset()
    x, y = clouds(30, 20, d, torch.float32)

    def loss(x, y):
        return 2 * fo.sliced_mmd(x, y, num_slices=16)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = []
    for function in (loss, compiled):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        value = function(leaf, y)
        value.backward()
        found.append((value.detach(), leaf.grad))
    for eager, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-6, atol=1e-8)


def test_wasserstein_between_translates():
    x = clouds(50, 1, 4)[0]
    move = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    for slices in ("orthogonal", "hadamard"):  # E <xi, move>^2 = |move|^2 / d, for padded rows too
        got = mmd.sliced_wasserstein(x, x + move, slices=slices, num_slices=512, generator=seeded())
        assert float(got) == pytest.approx(float(move.norm()) / 2, rel=0.05)
    assert float(mmd.sliced_wasserstein(x[:, :1], x[:, :1] + 3, p=1)) == pytest.approx(3.0)


@pytest.mark.parametrize("p", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1e-30, 1e30, 1e37])
def test_wasserstein_of_points_whose_powers_are_no_floats(p, size):
    x, y = (torch.randn(n, 5, generator=seeded(n)) for n in (30, 40))
    rows = mmd.make_directions(5, 16, generator=seeded())
    found = []
    for scale in (1.0, size):
        leaf = (x * scale).requires_grad_()
        value = mmd.sliced_wasserstein(leaf, y * scale, p=p, directions=rows)
        found += [float(value.detach()) / scale, *torch.autograd.grad(value, leaf)]
    assert found[2] == pytest.approx(found[0], rel=1e-5)
    torch.testing.assert_close(found[3], found[1], rtol=1e-4, atol=1e-7)


def test_wasserstein_of_a_high_order_between_near_clouds():
    """Its 32nd power is 0 in float32."""
    x = torch.randn(30, 3, generator=seeded()).requires_grad_()
    value = mmd.sliced_wasserstein(x, x.detach() + 0.01, p=32, slices="spiral", num_slices=512)
    assert float(value.detach()) == pytest.approx(0.01 * 3**0.5, rel=0.15)  # the longest projection of the move
    value.backward()
    assert bool(x.grad.isfinite().all())


def test_wasserstein_of_equal_clouds_has_no_gradient():
    x = clouds(20, 1, 3, torch.float32)[0].requires_grad_()
    value = mmd.sliced_wasserstein(x, x.detach().flip(0))
    (grad,) = torch.autograd.grad(value, x)
    assert float(value.detach()) == 0.0
    assert torch.equal(grad, torch.zeros_like(grad))


def test_scipy_wasserstein_of_unequal_counts(draw):
    stats = pytest.importorskip("scipy.stats")
    x, y = draw(13, 1), draw(9, 1) + 0.2
    assert stats.wasserstein_distance(x[:, 0], y[:, 0]) == pytest.approx(float(mmd.sliced_wasserstein(x, y, p=1)))


def test_switches_of_numpy_are_switches():
    x, y = clouds(30, 20, 5)
    on, off = np.bool_(True), np.bool_(False)
    plain = fo.sliced_mmd(x, y, unbiased=True, half=False, num_slices=4, generator=seeded())
    assert torch.equal(fo.sliced_mmd(x, y, unbiased=on, half=off, num_slices=4, generator=seeded()), plain)
    assert torch.equal(mmd.mmd(x, y, half=on), mmd.energy_distance(x, y, half=True))


def test_results_pickle():
    x, y = clouds(30, 20, 5)
    value = fo.sliced_mmd(x, y, num_slices=4)
    assert torch.equal(pickle.loads(pickle.dumps(value)), value)


@given(st.data())
def test_distance_of_any_small_clouds(data):
    """Symmetric, not negative, half of itself, and right for repeated points: those are weights."""
    n, m, d = (data.draw(st.integers(1, k)) for k in (7, 7, 3))
    integers = st.integers(-3, 3)
    x, y = (
        torch.tensor(data.draw(st.lists(st.lists(integers, min_size=d, max_size=d), min_size=k, max_size=k))).float()
        for k in (n, m)
    )
    rows = mmd.make_directions(d, 3, generator=seeded())
    value = fo.sliced_mmd(x, y, directions=rows)
    torch.testing.assert_close(value, fo.sliced_mmd(y, x, directions=rows), rtol=1e-5, atol=1e-7)
    assert float(value) >= 0
    assert torch.equal(fo.sliced_mmd(x, y, directions=rows, half=True), value / 2)
    counts = torch.tensor(data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)))
    repeated = fo.sliced_mmd(x.repeat_interleave(counts, 0), y, directions=rows)
    weighted = fo.sliced_mmd(x, y, directions=rows, x_weights=counts / counts.sum())
    torch.testing.assert_close(repeated, weighted, rtol=1e-5, atol=1e-6)
