"""Every gate of `make test`, one after the other, each with its time.

python tools/run_gates.py              all of them
python tools/run_gates.py lint cpu     the stages or groups named

A stage that cannot run on this machine says why and is skipped. After a failure the later stages still run,
so that one run shows everything; only a failed build ends it.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
sys.path.insert(0, str(ROOT / "tools"))
import native_build  # noqa: E402

APART = ["--ignore=tests/cuda_on_cpu", "--ignore=tests/packaging"]  # these have stages of their own

Command = tuple[list[str], dict[str, str]]  # arguments, additions to the environment
STAGES: list[tuple[str, str, Callable[[], list[Command] | str]]] = []  # a str: skipped, and why


def stage(name: str, what: str) -> Callable:
    def register(make: Callable[[], list[Command] | str]) -> Callable:
        STAGES.append((name, what, make))
        return make

    return register


def python(*args: str, **env: str) -> Command:
    return [PYTHON, *args], env


def pytest(*args: str, **env: str) -> Command:
    return python("-m", "pytest", "-q", "-p", "no:cacheprovider", *args, **env)


def preload() -> dict[str, str]:
    """The sanitizers' run-time libraries, with libstdc++ or a thrown C++ exception aborts."""
    cxx = shlex.split(native_build.compiler())
    names = ["libasan.so", "libubsan.so", "libstdc++.so"]
    found = [native_build.stdout(*cxx, f"-print-file-name={name}").strip() for name in names]
    return {"LD_PRELOAD": ":".join(str(Path(p).resolve()) for p in found)}


@stage("build", "C++ module and formula probe")
def _build() -> list[Command]:
    return [python("tools/native_build.py", FASTCORE_PROBE="1")]


@stage("lint-ruff", "ruff")
def _ruff() -> list[Command]:
    return [python("-m", "ruff", "check", ".")]


@stage("lint-types", "mypy")
def _mypy() -> list[Command]:
    return [python("-m", "mypy")]


@stage("lint-imports", "import rules")
def _imports() -> list[Command]:
    return [([str(Path(PYTHON).parent / "lint-imports")], {"PYTHONPATH": "python"})]


@stage("cpu", "CPU tests")
def _cpu() -> list[Command]:
    return [pytest("tests", *APART, "-m", "not triton and not gpu")]


@stage("isa", "parity and determinism on the lesser instruction sets")
def _isa() -> list[Command] | str:
    lesser = native_build.cpu_isas()[:-1]  # the CPU tests have run on the best one
    selected = ["tests", *APART, "-m", "isa and not gpu and not triton"]
    return [pytest(*selected, FASTCORE_CPU_ISA=isa) for isa in lesser] or "this CPU has but the baseline"


@stage("triton", "Triton kernels in the interpreter")
def _triton() -> list[Command] | str:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return [pytest("tests", *APART, "-m", "triton and not gpu", TRITON_INTERPRET="1")]


@stage("cuda-on-cpu", "CUDA kernels run on the CPU")
def _cuda_on_cpu() -> list[Command]:
    return [pytest("tests/cuda_on_cpu")]


@stage("gate-cuda", "CUDA C++ compiled for sm_80 and sm_90, no spills where promised")
def _gate_cuda() -> list[Command] | str:
    if native_build.find_nvcc() is None:
        return "nvcc is not installed"
    return [python("tools/native_build.py", FASTCORE_CUDA="compile-only")]


@stage("gate-triton", "Triton kernels compiled for sm_90")
def _gate_triton() -> list[Command] | str:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return [python("tools/gate_triton.py")]


@stage("gate-vectorised", "marked CPU loops are vectorised")
def _gate_vectorised() -> list[Command]:
    return [python("tools/gate_vectorised.py")]


@stage("sanitizer", "native tests under ASAN and UBSAN")
def _sanitizer() -> list[Command]:
    env = {
        **preload(),
        "PYTHONPATH": str(ROOT / "build" / "sanitize"),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch leave much to the end of the process
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    return [python("tools/native_build.py", FASTCORE_SANITIZE="1"),
            pytest("tests", *APART, "-m", "native and not gpu and not triton", **env)]  # fmt: skip


@stage("packaging", "sdist, wheel, import in a clean environment")
def _packaging() -> list[Command]:
    return [pytest("tests/packaging")]


def run(commands: list[Command]) -> str:
    for args, env in commands:
        code = subprocess.run(args, cwd=ROOT, env=os.environ | env, stdin=subprocess.DEVNULL).returncode
        if code == 5 and "pytest" in args:
            print("no test was selected", flush=True)
        if code:
            return "FAILED"
    return "ok"


def main() -> int:
    wanted = sys.argv[1:]
    groups = {name for name, _, _ in STAGES} | {name.split("-")[0] for name, _, _ in STAGES}
    if unknown := set(wanted) - groups:
        print(f"no stage {', '.join(sorted(unknown))}; there are: {', '.join(n for n, _, _ in STAGES)}")
        return 2
    width, results, started = shutil.get_terminal_size((100, 24)).columns, [], time.monotonic()
    for number, (name, what, make) in enumerate(STAGES, 1):
        if wanted and name not in wanted and name.split("-")[0] not in wanted:
            continue
        print(f"\n== {number}/{len(STAGES)} {name}: {what} ".ljust(width, "="), flush=True)
        begun = time.monotonic()
        commands = make()
        outcome = run(commands) if isinstance(commands, list) else f"skipped: {commands}"
        seconds = time.monotonic() - begun
        results.append((name, outcome, seconds))
        print(f"-- {name}: {outcome}, {seconds:.1f} s", flush=True)
        if name == "build" and outcome == "FAILED":
            break
    print(f"\n== all stages, {time.monotonic() - started:.0f} s ".ljust(width, "="))
    for name, outcome, seconds in results:
        print(f"  {name:16} {seconds:7.1f} s  {outcome}")
    return int(any(outcome == "FAILED" for _, outcome, _ in results))


if __name__ == "__main__":
    sys.exit(main())
