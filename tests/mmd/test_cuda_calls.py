"""The public calls on a GPU: the answers of the CPU, on the device of the points, with generators of either."""

import pytest
import torch

import fastcore_ops as fo

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
KERNELS = [
    ("riesz", {}),
    ("riesz", {"r": 1.5}),
    ("gaussian", {"bandwidth": 1.5}),
    ("laplace", {"bandwidth": 2.0}),
    ("matern", {"bandwidth": 2.0, "nu": 2.5}),
    ("rational_quadratic", {"bandwidth": 1.0}),
    ("imq", {"bandwidth": 1.0}),
    ("log", {"unbiased": True}),
    ("thin_plate", {}),
]


def clouds(n=70, m=50, d=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x.to(dtype), (y + 0.5).to(dtype)


def value_and_gradients(call, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    value = call(*leaves)
    return [value.detach(), *torch.autograd.grad(value.sum(), leaves)]


def same_on_both(call, *tensors, rtol=1e-8):
    here = value_and_gradients(call, *tensors)
    there = value_and_gradients(call, *(t.to(DEVICE) for t in tensors))
    for got, want in zip(there, here, strict=True):
        assert got.device.type == DEVICE and got.dtype == want.dtype
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=rtol * float(want.abs().max()))


@pytest.mark.parametrize(("kernel", "options"), KERNELS)
@pytest.mark.parametrize("d", [1, 5])
def test_cuda_sliced_mmd(kernel, options, d):
    directions = fo.mmd.make_directions(d, 1 if d == 1 else 20, dtype=torch.float64)

    def call(x, y):
        return fo.sliced_mmd(x, y, kernel=kernel, directions=directions.to(x.device), **options)

    same_on_both(call, *clouds(d=d))


@pytest.mark.parametrize("kernel", ["riesz", "gaussian", "laplace", "imq"])
def test_cuda_sliced_mmd_with_weights(kernel):
    directions = fo.mmd.make_directions(5, 20, dtype=torch.float64)
    x, y = clouds()
    a, b = (torch.rand(len(t), dtype=torch.float64) + 0.1 for t in (x, y))

    def call(x, y, a, b):
        options = {} if kernel == "riesz" else {"bandwidth": 1.5}
        masses = {"x_weights": a / a.sum(), "y_weights": b / b.sum(), "signed": True}
        return fo.sliced_mmd(x, y, kernel=kernel, directions=directions.to(x.device), **masses, **options)

    same_on_both(call, x, y, a, b)


@pytest.mark.parametrize(("kernel", "options"), KERNELS)
def test_cuda_exact_mmd(kernel, options):
    same_on_both(lambda x, y: fo.mmd.mmd(x, y, kernel=kernel, **options), *clouds())


@pytest.mark.parametrize("slices", ["gaussian", "orthogonal", "hadamard", "sobol"])
@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_cuda_generators(slices, place):
    x, y = (t.to(DEVICE) for t in clouds(d=70, dtype=torch.float32))
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    found = [
        fo.sliced_mmd(x, y, slices=slices, num_slices=100, generator=torch.Generator(place).manual_seed(5))
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert all(
        torch.equal(a, b) for a, b in zip(before, (torch.cuda.get_rng_state(), torch.get_rng_state()), strict=True)
    )
    exact = fo.mmd.energy_distance(x, y)
    assert abs(float(found[0] / exact) - 1) < 0.3


def test_cuda_draws_without_a_generator():
    x, y = (t.to(DEVICE) for t in clouds(n=400, m=300))
    assert abs(float(fo.sliced_mmd(x, y, num_slices=200) / fo.mmd.energy_distance(x, y)) - 1) < 0.2
    assert fo.sliced_mmd_grad(x, y, num_slices=200).device.type == DEVICE


def test_cuda_target_and_flow():
    x, y = (t.to(DEVICE) for t in clouds(n=120, m=150, dtype=torch.float32))
    directions = fo.mmd.make_directions(5, 64, device=DEVICE)
    target = fo.mmd.SlicedTarget(y, directions)
    plain = fo.sliced_mmd(x, y, directions=directions)
    torch.testing.assert_close(fo.sliced_mmd(x, target), plain, rtol=1e-5, atol=0)
    normal = fo.mmd.SlicedTarget.standard_normal(5, device=DEVICE)
    assert fo.sliced_mmd(x, normal).device.type == DEVICE
    for place in (y, target):
        flow = fo.mmd.MMDFlow(x, place, momentum=0.5)
        before = float(fo.mmd.energy_distance(x, y))
        assert float(fo.mmd.energy_distance(flow.run(20), y)) < 0.3 * before


def test_cuda_other_calls():
    x, y = clouds()
    directions = fo.mmd.make_directions(5, 20, dtype=torch.float64)
    for kernel in ("riesz", "gaussian", "laplace"):
        here = fo.mmd.mmd_test(x, y, kernel=kernel, bandwidth=1.0, num_permutations=99, directions=directions)
        there = fo.mmd.mmd_test(
            x.to(DEVICE),
            y.to(DEVICE),
            kernel=kernel,
            bandwidth=1.0,
            num_permutations=99,
            directions=directions.to(DEVICE),
        )
        assert abs(here.statistic - there.statistic) < 1e-9 and abs(here.p_value - there.p_value) < 0.15
    same_on_both(lambda x, y: fo.mmd.sliced_wasserstein(x, y, directions=directions.to(x.device)), *clouds(), rtol=1e-7)
    same_on_both(lambda x, y: fo.mmd.cauchy_schwarz_divergence(x, y, bandwidth=1.0), *clouds())
    kid = [
        fo.mmd.kid(t, u, num_subsets=10, subset_size=30, full=True) for t, u in ((x, y), (x.to(DEVICE), y.to(DEVICE)))
    ]
    assert abs(kid[0].mean - kid[1].mean) < 1e-9
