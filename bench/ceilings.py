"""What this machine can do at best, measured in the run: reading, exp, multiply-add.

Measured before and after each comparison. Where a figure moved by more than 20 % somebody
else was using the machine: the comparison is marked noisy and states no ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NOISE = 0.20
READ_BYTES = 128 << 20


def _best(statement: Callable[[], Any], seconds: float) -> float:
    """The fastest of repeated runs: a ceiling is what the machine can do, not what it did."""
    from time import perf_counter

    best, end = float("inf"), perf_counter() + seconds
    statement()
    while perf_counter() < end:
        begin = perf_counter()
        statement()
        best = min(best, perf_counter() - begin)
    return best


def exp_op() -> tuple[str, Callable[[Any], Any]]:
    """Our own vectorised exp where the library is built, else torch's."""
    import torch

    try:
        from fastcore_ops import _native

        op = _native.handle("vector_exp")
        op(torch.zeros(4, dtype=torch.float64))
        return "vector_exp", op
    except Exception:  # not built, or not part of this build
        return "torch.exp", torch.exp


def exp_seconds_per_entry(dtype: Any, threads: int, seconds: float = 0.05) -> tuple[str, float]:
    """One vectorised exp per entry, operands in cache."""
    import torch

    name, exp = exp_op()
    values = torch.linspace(-30.0, 0.0, 32_768 * threads, dtype=dtype)
    return name, _best(lambda: exp(values), seconds) / values.numel()


def read_bandwidth(threads: int, bytes_read: int = READ_BYTES, seconds: float = 0.1) -> float:
    """Bytes per second when a float64 buffer of that size is only read."""
    import torch

    torch.set_num_threads(threads)
    buffer = torch.ones(bytes_read // 8, dtype=torch.float64)
    half = buffer.numel() // 2
    left, right = buffer[:half], buffer[half : 2 * half]
    times = (_best(buffer.sum, seconds), _best(lambda: torch.dot(left, right), seconds))
    return bytes_read / min(times)


def measure(threads: int, seconds: float = 0.08) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    name, exp = exp_seconds_per_entry(torch.float64, threads, seconds)
    square = torch.ones(512, 512, dtype=torch.float64)
    product = _best(lambda: square @ square, seconds)
    return {
        "read_gb_s": read_bandwidth(threads, seconds=seconds) / 1e9,
        "exp_ns": exp * 1e9,
        "exp_source": name,
        "gflops": 2 * 512**3 / product / 1e9,
    }


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """The largest relative change of any ceiling between two measurements."""
    changes = [
        max(before[key], after[key]) / min(before[key], after[key]) - 1.0 for key in ("read_gb_s", "exp_ns", "gflops")
    ]
    return max(changes)
