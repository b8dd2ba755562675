"""What all tests share: NaN in uninitialised memory, threads, devices and backends."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts

import pytest
import torch

from fastcore_ops import _backend

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("house", deadline=None, derandomize=True, max_examples=60, database=None)
    settings.load_profile("house")

# Fills what `empty` returns with NaN, the kernels' own memory too. On a GPU the references may use an operation of
# torch that has no deterministic form: only a warning there.
torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
torch.utils.deterministic.fill_uninitialized_memory = True
torch.sparse.check_sparse_tensor_invariants.enable()

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def on_gpu(*values):
    """A parameter that needs a CUDA device."""
    marks = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
    return pytest.param(*values, marks=marks, id="-".join(map(str, values)))


def backends_and_devices():
    """Every (backend, device) that is compared with the reference; which of them run depends on the machine."""
    interpreted = [pytest.mark.triton, pytest.mark.skipif(not _INTERPRETED, reason="TRITON_INTERPRET is not 1")]
    found = [
        pytest.param("cpp", "cpu", marks=pytest.mark.native, id="cpp-cpu"),
        pytest.param("reference", "cpu", id="reference-cpu"),
        pytest.param("triton", "cpu", marks=interpreted, id="triton-cpu"),
        on_gpu("cuda", "cuda"),
        on_gpu("triton", "cuda"),
        on_gpu("reference", "cuda"),
    ]
    if os.environ.get("FASTCORE_CUDA_ON_CPU"):
        found.append(pytest.param("cuda_on_cpu", "cpu", id="cuda_on_cpu-cpu"))
    return found


@pytest.fixture
def require():
    """Skip where a backend is absent, with its reason."""

    def check(backend: str) -> None:
        if not _backend.available(backend):
            (row,) = [row for row in _backend.report() if row["backend"] == backend] or [{"reason": "absent"}]
            pytest.skip(f"{backend}: {row['reason']}")

    return check


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def keyboard_interrupt():
    """Python's own handler of SIGINT, which a shell's background job starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def draw():
    """Seeded uniform numbers, float64 unless said."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape, dtype=torch.float64):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return uniform
