"""What a run shares between its rows: options, worker processes, peers found and missing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.peers.base import BasePeer, Method
from bench.timing import Absent, PeerError, Worker, cpu_mask


@dataclass
class Context:
    quick: bool = False
    peer_names: tuple[str, ...] = ()
    threads: tuple[int | None, ...] = (1,)  # None: all
    cases: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._workers: dict[tuple[str, int], Worker] = {}

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def worker(self, peer: str, threads: int | None) -> Worker:
        """The process of `peer` with that many threads; kept for the whole run."""
        key = (peer, len(cpu_mask(threads)))
        if key not in self._workers:
            self._workers[key] = Worker(peer, threads)
        return self._workers[key]

    def find_peers(self) -> None:
        """Start each peer once: who is there, in which version, and who is not and why."""
        for name in self.peer_names:
            worker = self.worker(name, 1)
            try:
                worker.start()
                self.versions.update(worker.versions)
            except (Absent, PeerError) as error:
                self.missing[name] = str(error)
                print(f"peer {name} is missing: {error}", flush=True)
        if self.missing:
            self.facts["missing_peers"] = self.missing
        self.facts["affinity"] = f"one thread on CPU {sorted(cpu_mask(1))}, all on {sorted(cpu_mask(None))}"

    def peers(self) -> list[str]:
        return [name for name in self.peer_names if name not in self.missing]

    def peer_class(self, name: str) -> type[BasePeer]:
        peer: type[BasePeer] = importlib.import_module(f"bench.peers.{name}").Peer
        return peer

    def methods(self, name: str) -> Sequence[Method]:
        methods = self.peer_class(name).methods
        return methods[:3] if self.quick else methods

    def ours(self, threads: int | None) -> Worker:
        worker = self.worker("ours", threads)
        if not worker.versions:
            worker.start()
            self.versions.update(worker.versions)
        return worker

    def thread_name(self, threads: int | None) -> str:
        return str(threads) if threads else f"all ({len(cpu_mask(None))})"
