"""Processes, clocks and rounds: the part of a benchmark that must be fair.

Every side runs in a worker process under the same affinity mask; the harness itself sleeps
while a side works. Rounds are interleaved (ours, peer, ours, peer, ...), so that a slow
minute of the machine falls on both.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ROOT = Path(__file__).resolve().parent.parent


class Absent(Exception):
    """The peer's package is not installed."""


class PeerError(Exception):
    """The peer raised, died, or ran past its time."""


class OutOfTime(PeerError):
    pass


def cpu_mask(threads: int | None) -> set[int]:
    """The CPUs a side may use: the last `threads` that this process may use, or all of them."""
    allowed = sorted(os.sched_getaffinity(0))
    return set(allowed[-threads:] if threads else allowed)


class Worker:
    """One side's process, started on first use and again after it had to be killed."""

    def __init__(self, peer: str, threads: int | None) -> None:
        self.peer = peer
        self.mask = cpu_mask(threads)
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared: dict[str, Any] | None = None

    def start(self) -> None:
        self._pipe, child = Pipe()
        environment = dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(len(self.mask))))
        if importlib.util.find_spec("fastcore_ops") is None:  # built in place, not installed
            paths = (os.environ.get("PYTHONPATH"), str(ROOT / "python"))
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(child.fileno()), self.peer,
             str(len(self.mask))],
            cwd=ROOT, env=environment, pass_fds=(child.fileno(),),
            preexec_fn=lambda: os.sched_setaffinity(0, self.mask),
        )  # fmt: skip
        child.close()
        self.versions = self.ask("start", timeout=300)

    def ask(self, verb: str, timeout: float = 600, **arguments: Any) -> Any:
        if self._process is None:
            self.start()
            if self._prepared is not None and verb != "prepare":
                self.ask("prepare", **self._prepared)
        if verb == "prepare":
            self._prepared = arguments
        try:
            self._pipe.send((verb, arguments))
            if not self._pipe.poll(timeout):
                self.close(kill=True)
                raise OutOfTime(f"stopped after {timeout:.0f} s")
            status, value = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            raise PeerError("its process died") from error
        if status == "absent":
            self.close()
            raise Absent(value)
        if status == "error":
            raise PeerError(value)
        return value

    def close(self, kill: bool = False) -> None:
        if self._process is not None:
            self._pipe.close()  # an idle worker leaves by itself
            try:
                self._process.wait(0 if kill else 10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@dataclass(frozen=True)
class Spread:
    """Times of one side over the rounds."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def __str__(self) -> str:
        low, high = min(self.times), max(self.times)
        return f"{seconds(self.median)} ({seconds(low)}-{seconds(high)})"


def seconds(value: float) -> str:
    """0.01234 -> '12.3 ms'; three digits whatever the size."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if value >= scale or unit == "ns":
            return f"{value / scale:.3g} {unit}"
    return f"{value} s"


def rounds_for(total_seconds: float, budget: float, at_most: int = 9) -> int:
    """An odd number of rounds of `total_seconds` each in about the budget; 3 if twice it will do."""
    fitting = int(max(1, min(at_most, budget / max(total_seconds, 1e-9))))
    if fitting < 3 and 3 * total_seconds <= 2 * budget:
        fitting = 3
    return fitting if fitting % 2 else fitting - 1


def interleave(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Spread]:
    """Run every side once per round; each callable returns the seconds it measured."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(rounds):
        order = list(sides) if index % 2 == 0 else list(sides)[::-1]
        for name in order:
            times[name].append(sides[name]())
    return {name: Spread(tuple(values)) for name, values in times.items()}
