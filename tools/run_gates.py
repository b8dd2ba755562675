"""Every gate of `make test`, one after the other, each with its time.

python tools/run_gates.py              all of them
python tools/run_gates.py lint cpu     the stages or groups named
LANES=2 python tools/run_gates.py      two stages at a time

Tests are mostly one thread and compilers are another's: two stages fill two cores. Then each begins with a line of its
own, and what it printed follows when it has ended. A stage that cannot run on this machine says why and is skipped.
After a failure the later stages still run, so that one run shows everything; only a failed build ends it.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
sys.path.insert(0, str(ROOT / "tools"))
import native_build  # noqa: E402

APART = ["--ignore=tests/cuda_on_cpu", "--ignore=tests/packaging"]  # these have stages of their own

Command = tuple[list[str], dict[str, str]]  # arguments, additions to the environment
Stage = tuple[str, str, Callable[[], list[Command] | str]]  # a str: skipped, and why
# In the order they begin: the long ones first, so that both lanes end together; lint before `packaging`, which unpacks
# a copy of the sources here.
STAGES: list[Stage] = []


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


@stage("cuda-on-cpu", "CUDA kernels run on the CPU")
def _cuda_on_cpu() -> list[Command]:
    return [pytest("tests/cuda_on_cpu")]


@stage("cpu", "CPU tests")
def _cpu() -> list[Command]:
    return [pytest("tests", *APART, "-m", "not triton and not gpu")]


@stage("gate-cuda", "CUDA C++ compiled for sm_80 and sm_90, no spills where promised")
def _gate_cuda() -> list[Command] | str:
    if native_build.find_nvcc() is None:
        return "nvcc is not installed"
    return [python("tools/native_build.py", FASTCORE_CUDA="compile-only")]


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


@stage("triton", "Triton kernels in the interpreter")
def _triton() -> list[Command] | str:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return [pytest("tests", *APART, "-m", "triton and not gpu", TRITON_INTERPRET="1")]


@stage("isa", "parity and determinism on the lesser instruction sets")
def _isa() -> list[Command] | str:
    lesser = native_build.cpu_isas()[:-1]  # the CPU tests have run on the best one
    selected = ["tests", *APART, "-m", "isa and not gpu and not triton"]
    return [pytest(*selected, FASTCORE_CPU_ISA=isa) for isa in lesser] or "this CPU has but the baseline"


@stage("gate-vectorised", "marked CPU loops are vectorised")
def _gate_vectorised() -> list[Command]:
    return [python("tools/gate_vectorised.py")]


@stage("gate-triton", "Triton kernels compiled for sm_90")
def _gate_triton() -> list[Command] | str:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return [python("tools/gate_triton.py")]


# libgomp's threads spin while they wait, which takes twice the CPU time where several processes share the cores.
QUIET = {"OMP_WAIT_POLICY": "passive"}


def run(commands: list[Command], limits: dict[str, str], out: IO[bytes] | None) -> str:
    """What became of a stage; its output goes to `out`, or to the terminal."""
    for args, env in commands:
        done = subprocess.run(
            args, cwd=ROOT, env=QUIET | limits | os.environ | env, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out and subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            return "FAILED: no test was selected" if done.returncode == 5 and "pytest" in args else "FAILED"
    return "ok"


class Gates:
    """Runs stages and remembers what became of them."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[str, float]] = {}
        self._width = shutil.get_terminal_size((100, 24)).columns
        self._printing = Lock()

    def title(self, text: str) -> None:
        print(f"\n== {text} ".ljust(self._width, "="), flush=True)

    def alone(self, stage: Stage) -> None:
        """One stage, its output as it comes."""
        self.title(self._name(stage))
        self._run(stage, {}, None)

    def together(self, stages: list[Stage], lanes: int) -> None:
        """Stages in `lanes` lanes, the output of each in one piece."""
        limits = {"MAX_JOBS": str(max(1, (os.cpu_count() or 1) // lanes))}
        pool = ThreadPoolExecutor(lanes)
        try:
            list(pool.map(lambda stage: self._aside(stage, limits), stages))
        finally:  # Ctrl-C: no further stage begins
            pool.shutdown(cancel_futures=True)

    def _name(self, stage: Stage) -> str:
        return f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage[0]}: {stage[1]}"

    def _aside(self, stage: Stage, limits: dict[str, str]) -> None:
        with self._printing:
            print(f".. {self._name(stage)} begins", flush=True)
        with tempfile.TemporaryFile() as out:
            self._run(stage, limits, out)

    def _run(self, stage: Stage, limits: dict[str, str], out: IO[bytes] | None) -> None:
        name, _, make = stage
        begun = time.monotonic()
        commands = make()
        outcome = run(commands, limits, out) if isinstance(commands, list) else f"skipped: {commands}"
        self.results[name] = outcome, time.monotonic() - begun
        with self._printing:
            if out:
                self.title(self._name(stage))
                out.seek(0)
                shutil.copyfileobj(out, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            print(f"-- {name}: {outcome}, {self.results[name][1]:.1f} s", flush=True)

    def failed(self) -> bool:
        return any(outcome.startswith("FAILED") for outcome, _ in self.results.values())


def main() -> int:
    wanted = sys.argv[1:]
    groups = {name for name, _, _ in STAGES} | {name.split("-")[0] for name, _, _ in STAGES}
    if unknown := set(wanted) - groups:
        print(f"no stage {', '.join(sorted(unknown))}; there are: {', '.join(n for n, _, _ in STAGES)}")
        return 2
    chosen = [s for s in STAGES if not wanted or s[0] in wanted or s[0].split("-")[0] in wanted]
    gates, started = Gates(), time.monotonic()
    if chosen[0][0] == "build":  # which the others need
        gates.alone(chosen.pop(0))
    lanes = min(int(os.environ.get("LANES") or 1), len(chosen))
    if not gates.failed():
        if lanes > 1:
            gates.together(chosen, lanes)
        for stage in chosen if lanes == 1 else []:
            gates.alone(stage)
    gates.title(f"all stages, {time.monotonic() - started:.0f} s")
    for name, _, _ in STAGES:
        if name in gates.results:
            outcome, seconds = gates.results[name]
            print(f"  {name:16} {seconds:7.1f} s  {outcome}")
    return int(gates.failed())


if __name__ == "__main__":
    sys.exit(main())
