"""The CUDA kernels of the kernel distances, run on the CPU."""

from __future__ import annotations

import pytest
import torch

from . import mmd_checks as checks
from . import twin

pytestmark = pytest.mark.cuda_on_cpu
IN_ALL_ORDERS = [
    "swept",
    "laws",
    "hard",
    "close_samples",
    "weighted",
    "not_finite",
    "identical",
    "permutation",
    "wasserstein",
    "hadamard",
    "soe",
    "split",
]


@pytest.fixture(scope="module")
def plain():
    return twin.Twin("plain")


@pytest.fixture(params=twin.ORDERS)
def ops(plain, request):
    plain.configure(request.param)
    yield plain.ops
    plain.configure()


@pytest.fixture
def ops_once(plain):
    plain.configure("random")
    yield plain.ops
    plain.configure()


@pytest.mark.parametrize("name", IN_ALL_ORDERS)
def test_mmd(ops, name):
    getattr(checks, f"check_{name}")(ops)


def test_mmd_sorted(ops):
    checks.check_sorted(ops, (1, 700))


def test_mmd_every_block(ops_once):
    checks.check_sizes(ops_once)
    checks.check_sorted(ops_once, (5000,))


def test_mmd_the_largest_block_and_beyond(ops_once):
    checks.check_sizes(ops_once, checks.LARGE)


def test_mmd_soe_of_many_chunks(ops_once):
    checks.check_soe(ops_once, ((8000, 300),))
    checks.check_soe_edges(ops_once)


def test_mmd_hadamard_of_long_points(ops_once):
    checks.check_hadamard(ops_once, checks.LONG_HADAMARD)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mmd_is_deterministic(plain, dtype):
    x, y = checks.draw(2, 2500, dtype, "ties"), checks.draw(2, 1300, dtype, "ties", seed=1)
    a, b = checks.weights(2500), checks.weights(1300)
    labels = (torch.arange(40 * 2500).view(40, 2500) % 7 < 3).to(torch.uint8)
    results = []
    for order, seed in (("forward", 1), ("reverse", 1), ("random", 1), ("random", 2)):
        plain.configure(order, seed)
        found = plain.ops.mmd_rank(x, y, None, None, True, checks.POINTS)
        found += plain.ops.mmd_rank(x, y, None, None, False, checks.EVERYTHING)
        found += plain.ops.mmd_rank(x, y, a, b, False, checks.EVERYTHING)
        found += plain.ops.mmd_wasserstein(x, y, 2.0, checks.POINTS)
        found += plain.ops.mmd_soe(x, y, None, None, 0, 1.5, 0.0, 1.0, True, checks.EVERYTHING)
        results.append((*found, plain.ops.mmd_permutation(x, labels)))
    plain.configure()
    for other in results[1:]:
        for output, first in zip(other, results[0], strict=True):
            assert torch.equal(output, first)


def test_mmd_indices_beyond_32_bits(plain, monkeypatch):
    """P * N > 2^31: only the first and last slices run, and most of the points are pages never touched."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    slices, n = (1 << 31) // 1000 + 2, 1000
    x, y = torch.empty(slices, n), torch.empty(slices, 1)
    x[-1], y[-1] = torch.arange(n), 0.25
    plain.configure(sample_blocks=4)
    grad_x = plain.ops.mmd_rank(x, y, None, None, False, 1)[0]
    plain.configure()
    want = checks.cpu_ops().mmd_rank(x[-1:], y[-1:], None, None, False, 1)[0]
    assert torch.equal(grad_x[-1:], want)
