"""The same bits for any number of threads, for each instruction set, and from run to run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastcore_ops import _native

from .fingerprint import fingerprint

ROOT = Path(__file__).parents[2]
ISAS = ("baseline", "v3", "v4")

pytestmark = pytest.mark.skipif(_native.why_absent("cpp") is not None, reason="needs the C++ module")


@pytest.fixture(scope="module")
def best():
    """The machine's own instruction set."""
    if "FASTCORE_CPU_ISA" not in os.environ:
        return _native.cpu_isa()
    environment = {key: value for key, value in os.environ.items() if key != "FASTCORE_CPU_ISA"}
    probe = "from fastcore_ops import _native; print(_native.cpu_isa())"
    return subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def truth():
    """With one thread, on the instruction set of this process."""
    before = torch.get_num_threads()
    yield fingerprint(1)
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads(truth, threads):
    for wanted, found in zip(truth, fingerprint(threads), strict=True):
        assert wanted == found


@pytest.mark.parametrize("isa", ISAS)
def test_bits_do_not_depend_on_the_instruction_set(truth, best, isa):
    if ISAS.index(isa) > ISAS.index(best):
        pytest.skip(f"this machine has {best} at most")
    if isa == _native.cpu_isa():
        return  # this process
    command = [sys.executable, "-m", "tests.optim.fingerprint", "2"]
    environment = os.environ | {"FASTCORE_CPU_ISA": isa}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    name, *lines = done.stdout.splitlines()
    assert name == f"isa {isa}"
    for wanted, found in zip(truth, lines, strict=True):
        assert wanted == found
