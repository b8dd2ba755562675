"""What needs processes of its own, two at a time: sanitizers, and the contract tests on the twin."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from . import mmd_checks, optim_checks, row_pass_checks, twin

pytestmark = pytest.mark.cuda_on_cpu
SANITIZERS = ("asan", "tsan")
CHECKS = {"row_pass": row_pass_checks, "optim": optim_checks, "mmd": mmd_checks}


def _run(arguments: list[str], environment: dict[str, str]) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=twin.ROOT, env=os.environ | environment, timeout=600
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@functools.cache
def _running() -> dict[str, Future[str]]:
    pool = ThreadPoolExecutor(2)
    jobs = {}
    for name, mode in itertools.product(CHECKS, SANITIZERS):
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


@pytest.mark.parametrize("mode", SANITIZERS)
@pytest.mark.parametrize("name", CHECKS)
def test_under_sanitizer(name, mode):
    assert "all checks passed" in _running()[name + mode].result()


@pytest.mark.parametrize("order", twin.ORDERS)
def test_contract_with_twin_as_backend(order):
    assert " passed" in _running()[order].result()
