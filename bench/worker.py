"""The child process of one side: `python -m bench.worker FD PEER THREADS`.

It answers `(verb, arguments)` messages on a pipe until the harness closes it. The parent has
already set the affinity mask and the thread variables, so that every import below sees them.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any


def peak_memory(reset: bool = False) -> int:
    """Peak resident bytes of this process since the last reset (Linux only, else 0)."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["VmHWM"].split()[0]) * 1024
    except OSError:
        return 0


class Side:
    """What the harness may ask; each method is a verb."""

    def __init__(self, peer: str, threads: int) -> None:
        self.threads = threads
        self.peer = importlib.import_module(f"bench.peers.{peer}").Peer()

    def start(self) -> dict[str, str]:
        self.peer.start(self.threads)
        return self.peer.versions()

    def prepare(self, case: Any, reg: float) -> None:
        self.peer.prepare(case, reg)

    def warm_up(self, method: str, tol: float, max_iter: int) -> float:
        begin = time.perf_counter()
        self.peer.warm_up(method, tol, max_iter)
        return time.perf_counter() - begin

    def solve(self, method: str, tol: float, max_iter: int) -> dict[str, Any]:
        begin = time.perf_counter()
        solution = self.peer.solve(method, tol, max_iter)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, **vars(solution)}

    def ceilings(self) -> dict[str, Any]:
        from bench.ceilings import measure

        return measure(self.threads)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Any further method of the peer, with its time and the memory it took on top."""
        method = getattr(self.peer, name)
        before = peak_memory(reset=True)
        begin = time.perf_counter()
        value = method(**arguments)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "extra_bytes": peak_memory() - before, "value": value}


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    os.dup2(2, 1)  # what a package prints must not look like a result
    side = Side(sys.argv[2], int(sys.argv[3]))
    while True:
        try:
            verb, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(("ok", getattr(side, verb)(**arguments)))
        except ImportError as error:
            connection.send(("absent", str(error)))
        except Exception as error:  # the harness reports it and goes on
            traceback.print_exc()
            connection.send(("error", f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
