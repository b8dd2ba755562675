"""The kernel distances on a GPU: the counts of the CPU's kernels, bit for bit, and no waiting for the device."""

import math

import pytest
import torch

from fastcore_ops import _backend, _native
from fastcore_ops.mmd import _cases_smooth

from . import rank_problems as problems

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
POINTS, EVERYTHING = 7, 31  # gradients and value; with potentials
DTYPES = [torch.float32, torch.float64]
# Each block of the ranks in shared memory, what is too much for them, and N M beyond 2^31.
SIZES = [
    (1, 1),
    (900, 1000),
    (4096, 50),
    (50, 8192),
    (20_000, 20_000),
    (24_576, 20_001),
    (30_000, 30_000),
    (50_000, 47_000),
]


@pytest.fixture(autouse=True)
def _needs_kernels(require):
    require("cpp")
    require("cuda")


def draw(slices, n, dtype, seed=0, law="normal"):
    z = torch.randn(slices, n, generator=torch.Generator().manual_seed(seed + n), dtype=torch.float64)
    return ((20 * z).round() / 20 if law == "ties" else z).to(dtype)


def weights(n):
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) + 0.1
    return drawn / drawn.sum()


def both(name, *arguments, on_gpu="cuda"):
    """Outputs of the C++ kernel and of the GPU's, on the CPU."""

    def call(backend, device):
        moved = [a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments]
        found = _native.handle(name, backend)(*moved)
        return [part.cpu() for part in (found if isinstance(found, tuple) else (found,))]

    return call("cpp", "cpu"), call(on_gpu, "cuda")


def assert_close(got, want, rtol):
    scale = float(want.abs().max()) if want.numel() else 1.0
    torch.testing.assert_close(got, want, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", ["normal", "ties"])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_cuda_counts_as_the_cpu(n, m, law, dtype):
    for unbiased in (False, True) if n > 1 else (False,):
        cpu, gpu = both("mmd_rank", draw(3, n, dtype, 0, law), draw(3, m, dtype, 1, law), None, None, unbiased, POINTS)
        assert torch.equal(gpu[0], cpu[0])
        assert torch.equal(gpu[1], cpu[1])
        assert_close(gpu[2], cpu[2], 1e-11)


@pytest.mark.parametrize(("n", "m"), [(70, 900), (1000, 1000), (5000, 900), (20_000, 20_000)])
def test_cuda_counts_of_hard_slices(n, m):
    """Slices for buckets and slices for the sort, in one launch."""
    x, y = problems.hard_slices(n, 0), problems.hard_slices(m, 1)
    for unbiased in (False, True):
        cpu, gpu = both("mmd_rank", x, y, None, None, unbiased, POINTS)
        for got, want in zip(gpu[:2], cpu[:2], strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(gpu[2], cpu[2], rtol=1e-9, atol=0, equal_nan=True)


@pytest.mark.parametrize("n", [400, 20_000])
def test_cuda_values_of_close_samples(n):
    """Far below the range: the sort finds them, after the gradients by buckets."""
    x = draw(2, n, torch.float32)
    cpu, gpu = both("mmd_rank", x, x.nextafter(torch.tensor(9.0)).flip(1).contiguous(), None, None, False, 4)
    torch.testing.assert_close(gpu[2], cpu[2], rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_weights_and_potentials(dtype):
    x, y = draw(3, 3000, dtype, 0, "ties"), draw(3, 5000, dtype, 1, "ties")
    for pair in ((None, None), (weights(3000), weights(5000))):
        cpu, gpu = both("mmd_rank", x, y, *pair, False, EVERYTHING)
        for got, want in zip(gpu[:2], cpu[:2], strict=True):
            assert_close(got, want, 4 * torch.finfo(dtype).eps + 1e-12)
        for got, want in zip(gpu[2:], cpu[2:], strict=True):
            assert_close(got, want, 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1000, 20_000, 60_000])
def test_cuda_sorted_side(m, dtype):
    x, y = draw(3, 2000, dtype), draw(3, m, dtype, 1, "ties")
    cpu, gpu = both("mmd_sort", y, None)
    assert torch.equal(gpu[0], cpu[0])
    direct = _native.handle("mmd_rank", "cuda")(x.cuda(), y.cuda(), None, None, False, 1)[0]
    once = _native.handle("mmd_rank_sorted", "cuda")(x.cuda(), gpu[0].cuda(), None, None, False, 1)[0]
    assert torch.equal(once, direct)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_permutations_and_quantiles(dtype):
    z = draw(4, 20_000, dtype, 0, "ties")
    labels = (torch.rand(200, 20_000, generator=torch.Generator().manual_seed(0)).argsort(1) < 7000).to(torch.uint8)
    cpu, gpu = both("mmd_permutation", z, labels)
    assert_close(gpu[0], cpu[0], 1e-11)
    for m, p in ((20_000, 2.0), (7001, 1.0), (333, 2.5)):
        cpu, gpu = both("mmd_wasserstein", z, draw(4, m, dtype, 1), p, POINTS)
        for got, want in zip(gpu, cpu, strict=True):
            assert_close(got, want, 4 * torch.finfo(got.dtype).eps + 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "r"), [(0, 0.5), (0, 1.5), (6, 0.0), (7, 2.0)])
def test_cuda_sums_of_exponentials(kernel, r, dtype):
    """Terms of values and potentials cancel, down to 1e-7 of the largest: what stays is the rounding of those.

    Sums of n + m rounded steps err by about sqrt(n + m) eps times the largest term. Seen on an H200 in units of that, over
    three seeds: value 1.7, potentials 4.1, most of it the CPU's (thin plate against all pairs: CPU 1.4e-11, GPU 1.5e-12).
    """
    x, y = draw(3, 20_000, dtype, 0, "ties"), draw(3, 9000, dtype, 1)
    both_clouds = torch.cat((x, y), 1).double()
    span = float(both_clouds.max() - both_clouds.min())
    log_span = abs(math.log(span))
    largest = {0: span**r, 6: math.log(2**24) + log_span, 7: span**2 * (log_span + 0.3)}[kernel]
    unit = 1.5 * largest * math.sqrt(29_000) * torch.finfo(torch.float64).eps
    for pair, unbiased in (((None, None), False), ((None, None), True), ((weights(20_000), weights(9000)), False)):
        cpu, gpu = both("mmd_soe", x, y, *pair, kernel, r, 0.3, 1.5, unbiased, EVERYTHING)
        for got, want in zip(gpu[:2], cpu[:2], strict=True):
            assert_close(got, want, 4 * torch.finfo(got.dtype).eps + 1e-9)
        for got, want, units in zip(gpu[2:], cpu[2:], (4, 10, 10), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=units * unit)


def modes(kernel, dtype, d=10, bandwidth=3.0, unbiased=False):
    """What mmd_fourier takes after points and weights."""
    code, shape = _cases_smooth._KERNELS[kernel]
    series = _cases_smooth._series(code, shape, d, dtype == torch.float64, bandwidth, "cpu")
    return tuple((series | {"unbiased": unbiased}).values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", _cases_smooth._KERNELS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (127, 129), (20_000, 9000), (300_001, 31)])
def test_cuda_fourier_modes(n, m, kernel, dtype, require):
    """As the CPU's but for the order of sums, whose terms are at most 1: potentials cancel, gradients are a difference."""
    require("triton")
    x, y = draw(3, n, dtype, 0, "ties"), draw(3, m, dtype, 1) + 0.5
    for pair, unbiased in (((None, None), False), ((None, None), n > 1), ((weights(n), weights(m)), False)):
        cpu, gpu = both("mmd_fourier", x, y, *pair, *modes(kernel, dtype, unbiased=unbiased), on_gpu="triton")
        for got, want in zip(gpu[:2], cpu[:2], strict=True):
            assert_close(got, want, 4 * torch.finfo(dtype).eps + 1e-11)
        for got, want in zip(gpu[2:5], cpu[2:5], strict=True):
            assert_close(got, want, 1e-10)
        assert torch.equal(gpu[5], cpu[5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", _cases_smooth._KERNELS)
@pytest.mark.parametrize("n", [1, 1000, 50_000])
def test_cuda_fourier_modes_of_equal_clouds(n, kernel, dtype, require):
    """Zero in any order, and nothing but NaN where a point is not finite."""
    require("triton")
    x = draw(4, n, dtype)
    y = x[:, torch.randperm(n, generator=torch.Generator().manual_seed(0))].contiguous()
    x[3, n // 2] = torch.inf
    *parts, count = both("mmd_fourier", x, y, None, None, *modes(kernel, dtype), on_gpu="triton")[1]
    assert all((part[:3] == 0).all() for part in parts[:3])
    assert all(part[3].isnan().all() for part in parts) and count[3] == 0


def test_cuda_fourier_modes_of_many_slices(require):
    """More slices than are worked on at once, x a list of more than 2^31 numbers: each as if it were alone."""
    require("triton")
    if torch.cuda.get_device_properties(0).total_memory < 40 << 30:
        pytest.skip("needs 40 GB of GPU memory")
    x = torch.randn(2200, 1_000_000, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    y = draw(2200, 40, torch.float32).cuda()
    op, series = _native.handle("mmd_fourier", "triton"), modes("gaussian", torch.float32)[:-1]
    width, *others = (part.cuda() if isinstance(part, torch.Tensor) else part for part in series)
    whole = op(x, y, None, None, width, *others, 5)
    for p in (0, 1024, 2199):
        alone = op(x[p : p + 1], y[p : p + 1], None, None, width, *others, 5)
        assert_close(alone[0], whole[0][p : p + 1], 1e-6)
        assert_close(alone[2], whole[2][p : p + 1], 1e-9)


def test_cuda_fourier_modes_repeat_and_wait_for_nothing(require):
    require("triton")
    op = _native.handle("mmd_fourier", "triton")
    x, y = draw(200, 20_000, torch.float32).cuda(), draw(200, 9000, torch.float32, 1).cuda()
    for kernel, pair in (("laplace", (None, None)), ("imq", (weights(20_000).cuda(), weights(9000).cuda()))):
        series = [part.cuda() if isinstance(part, torch.Tensor) else part for part in modes(kernel, torch.float32)]
        op(x, y, *pair, *series)  # compiles
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            runs = [op(x, y, *pair, *series) for _ in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for run in runs[1:]:
            for got, want in zip(run, runs[0], strict=True):
                assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [64, 1024, 4096, 1 << 16])
def test_cuda_hadamard(depth, dtype):
    x, signs = draw(257, depth - 5, dtype), draw(3, depth, dtype).sign()
    for points, size, transpose in ((x, depth // 2, False), (x.t().contiguous(), depth - 3, True)):
        cpu, gpu = both("mmd_hadamard", points, signs, size, transpose)
        assert_close(gpu[0], cpu[0], 16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_cuda_not_finite(bad, dtype):
    x, y = draw(3, 9000, dtype), draw(3, 100, dtype, 1)
    x[1, 7], y[2, 99] = bad, bad
    for outputs in (POINTS, EVERYTHING):
        for output in both("mmd_rank", x, y, None, None, False, outputs)[1]:
            if output.numel():
                assert not output[0].isnan().any()
                assert output[1:].isnan().all()


def test_cuda_repeats_and_waits_for_nothing():
    x, y = draw(200, 20_000, torch.float32).cuda(), draw(200, 20_000, torch.float32, 1).cuda()
    op = _native.handle("mmd_rank", "cuda")
    for weight in (None, weights(20_000).cuda()):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            runs = [op(x, y, weight, weight, False, EVERYTHING) for _ in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for run in runs[1:]:
            for got, want in zip(run, runs[0], strict=True):
                assert torch.equal(got, want)


def test_cuda_uses_the_kernels(require):
    require("triton")
    for op in ("mmd_fourier", "mmd_exact_fwd", "mmd_exact_bwd"):
        assert _backend.pick(op, torch.device("cuda")) is _native.handle(op, "triton")
    for op, backends in _backend.registered().items():
        if op.startswith("mmd_") and "cuda" in backends:
            assert _backend.pick(op, torch.device("cuda")) is _native.handle(op, "cuda")
