"""The runtime that stands in for a GPU: its own tests, and bugs planted in kernels, all to be caught."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from . import twin

pytestmark = pytest.mark.cuda_on_cpu

# Bug: for each mode that must catch it, what the output says.
CAUGHT = {
    "tail_off_by_one": {"asan": "heap-buffer-overflow"},
    "column_out_of_range": {"asan": "heap-buffer-overflow"},
    "dynamic_shared_bounds": {"asan": "heap-buffer-overflow"},
    "static_shared_bounds": {"asan": "index 32 out of bounds"},
    "misaligned_vector": {"asan": "misaligned address"},
    "index_overflow": {"asan": "signed integer overflow"},
    "tail_forgotten": {"plain": "wrong result"},
    "uninitialised_shared": {"plain": "wrong result"},
    "missing_barrier": {"plain": "wrong result", "tsan": "data race"},
    "missing_syncwarp": {"plain": "wrong result", "tsan": "data race"},
    "unprotected_sum": {"tsan": "data race"},
    "divergent_barrier": {"plain": "divergent barrier"},
    "early_exit": {"plain": "threads exited before this barrier"},
    "mask_lacks_caller": {"plain": "whose mask 0000ffff lacks it"},
    "mask_names_absent": {"plain": "deadlock"},
    "unequal_masks": {"plain": "have exited|meet in different collectives"},
}


def run(mode: str, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | twin.sanitizer_environment(mode)
    environment.pop("LD_PRELOAD", None)  # the program links its sanitizer
    command = [str(twin.program_path(mode, program)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_every_planted_bug_is_expected():
    assert set(run("plain", "planted_bugs").stdout.split()) == set(CAUGHT)


@pytest.mark.parametrize("order", range(3), ids=twin.ORDERS)
@pytest.mark.parametrize("mode", twin.MODES)
def test_runtime_itself(mode, order):
    if mode == "tsan" and order > 0:
        pytest.skip("slow, and races do not depend on the order")
    done = run(mode, "runtime_test", order, 7)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["plain", "asan", "tsan"])
def test_right_kernels_pass(mode):
    for order in range(3) if mode != "tsan" else [0]:
        done = run(mode, "planted_bugs", "none", order)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("bug", "mode"), [(bug, mode) for bug, modes in CAUGHT.items() for mode in modes])
def test_planted_bug_is_caught(bug, mode):
    for order in range(3) if mode == "plain" else [0]:
        done = run(mode, "planted_bugs", bug, order)
        output = done.stdout + done.stderr
        assert done.returncode != 0, f"order {order}"
        assert re.search(CAUGHT[bug][mode], output), output
        if mode == "asan" or " block (" in output:
            assert "planted_bugs.cu:" in output
