"""What runs beside the tests in processes of its own, two at a time: sanitizers, and the contract tests on the twin."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

from . import mmd_checks, optim_checks, row_pass_checks, twin

SANITIZERS = ("asan", "tsan")
CHECKS = {"row_pass": row_pass_checks, "optim": optim_checks, "mmd": mmd_checks}


def _run(arguments: list[str], environment: dict[str, str]) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=twin.ROOT, env=os.environ | environment, timeout=900
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@functools.cache
def running() -> dict[str, Future[str]]:
    """All of them, begun at the first call."""
    pool = ThreadPoolExecutor(2)
    jobs = {}
    for mode, name in itertools.product(reversed(SANITIZERS), CHECKS):  # the longest first
        arguments = ["-m", CHECKS[name].__name__, mode]
        jobs[name + mode] = pool.submit(_run, arguments, twin.sanitizer_environment(mode))
    contract = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", "cuda_on_cpu"]
    for order in twin.ORDERS:
        environment = {
            "FASTCORE_CUDA_ON_CPU": str(twin.library_path("plain")),
            "FASTCORE_CUDA_ON_CPU_ORDER": order,
        }
        jobs[order] = pool.submit(_run, contract, environment)
    return jobs
