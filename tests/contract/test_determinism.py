"""The same bits whatever the thread count and the instruction set, from one operator to a whole solve."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import copied, discover

ROOT = Path(__file__).parents[2]
ISAS = ("baseline", "v3", "v4")


def fingerprint(isa: str, threads: int) -> list[str]:
    environment = os.environ | {"FASTCORE_CPU_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.contract.fingerprint", str(threads)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"isa {isa}"
    return lines[1:]


@pytest.fixture(scope="module")
def machine_isas():
    if _native.why_absent("cpp") is not None:
        pytest.skip("needs the C++ module")
    probe = "from fastcore_ops import _native; print(_native.cpu_isa())"
    environment = {key: value for key, value in os.environ.items() if key != "FASTCORE_CPU_ISA"}
    best = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True).stdout.strip()
    return ISAS[: ISAS.index(best) + 1]


def differences(left: list[str], right: list[str]) -> list[str]:
    assert len(left) == len(right)
    return [f"{a}\n  {b}" for a, b in zip(left, right, strict=True) if a != b]


def test_bits_do_not_depend_on_threads_or_instruction_set(machine_isas):
    truth = fingerprint("baseline", 1)
    assert len(truth) > 100
    for isa in machine_isas:
        found = differences(truth, fingerprint(isa, 2))
        assert not found, f"{isa} with 2 threads against baseline with 1:\n" + "\n".join(found[:20])


@pytest.mark.isa
@pytest.mark.parametrize("case", discover(), ids=repr)
def test_bits_repeat(case, dtype):
    if _native.why_absent("cpp") is not None:
        pytest.skip("needs the C++ module")
    backend = "cpp" if "cpp" in _backend.registered()[case.main_op] else "reference"
    variant, inputs = next(reversed(case.inputs(dtype, "cpu", 0).items()))
    first, second = case.api(backend, **copied(inputs)), case.api(backend, **copied(inputs))
    for name, output in first.items():
        assert torch.equal(output.nan_to_num(nan=-7.0), second[name].nan_to_num(nan=-7.0)), (variant, name)
