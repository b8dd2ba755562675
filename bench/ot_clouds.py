"""Row 5: point clouds whose cost is computed on the fly, one thread, float32.

An iteration renews both potentials. Its time is the difference between a long and a short run
over the difference of their iterations, so that start, last error and compilation cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import ceilings
from bench.context import Context
from bench.ot_cases import palettes
from bench.report import Row
from bench.timing import PeerError, Spread, Worker, interleave, seconds

SHORT, LONG = 1, 4
MEGABYTE = 1 << 20


def per_iteration(worker: Worker, method: str) -> float:
    short, long = (
        worker.ask("call", timeout=300, name="cloud_steps", method=method, steps=steps) for steps in (SHORT, LONG)
    )
    return float(long["seconds"] - short["seconds"]) / float(long["value"] - short["value"])


def clouds(context: Context) -> Row:
    n = 5_000 if context.quick else 20_000
    row = Row(
        5,
        f"PointCloud, n = m = {n}, d = 3 (pixels of two photographs), float32: time per iteration",
        ("threads", "side", "time per iteration", "per entry", "peak extra memory", "peer / ours"),
    )
    case = palettes(n)
    assert case.x is not None and case.y is not None
    x, y = case.x.astype(np.float32), case.y.astype(np.float32)
    reg = float(((x.max(0) - y.min(0)) ** 2).sum()) / 100  # about range / 100
    for threads in context.threads:
        _compare(context, row, threads, x, y, reg)
    row.note("at least 6 x and 50 MB on top of kept entries; aim 12 x and 20 MB; one thread counts")
    row.note("ott scaling_*: not in the log domain, float32 underflows for smaller reg; number: its batch")
    return row


def _compare(context: Context, row: Row, threads: int | None, x: np.ndarray, y: np.ndarray, reg: float) -> None:
    sides: dict[str, Callable[[], float]] = {}
    memory: dict[str, int] = {}
    compile_time: dict[str, float] = {}
    for peer in ("ours", *context.peers()):
        methods = getattr(context.peer_class(peer), "cloud_methods", ())
        worker = context.ours(threads) if peer == "ours" else context.worker(peer, threads)
        for method in methods:
            name = peer if peer == "ours" else f"{peer} {method}"
            try:
                worker.ask("call", name="cloud", x=x, y=y, reg=reg)
                for steps in (SHORT, LONG):  # compiles
                    first = _steps(worker, method, steps)
                second = _steps(worker, method, LONG)
            except PeerError as error:
                row.note(f"{name}: {error}")
                continue
            memory[name] = max(first["extra_bytes"], second["extra_bytes"])
            compile_time[name] = max(0.0, first["seconds"] - second["seconds"])
            sides[name] = partial(per_iteration, worker, method)
    spread, noisy = _rounds(context, threads, sides, rounds=1 if context.quick or threads != 1 else 3)
    ours = spread.get("ours")
    for name, times in spread.items():
        ratio = times.median / ours.median if ours else None
        record: dict[str, Any] = {
            "case": name, "threads": threads or "all", "times": list(times.times), "noisy": noisy,
            "raw_ratio": ratio, "extra_bytes": memory[name], "compile_seconds": compile_time[name],
        }  # fmt: skip
        stated = "" if ratio is None or name == "ours" else "noisy" if noisy else f"{ratio:.3g} x"
        row.add(
            [
                context.thread_name(threads), name, str(times), seconds(times.median / len(x) / len(y)),
                f"{memory[name] / MEGABYTE:.1f} MB", stated,
            ],
            record,
        )  # fmt: skip
    peers = [name for name in spread if name != "ours"]
    if ours and peers and threads == 1 and not noisy:
        best = min(peers, key=lambda name: spread[name].median)
        row.records.append(
            {
                "case": f"{len(x)} points", "gates": True, "gate": 6.0, "aim": 12.0, "against": best,
                "ratio": spread[best].median / ours.median,
            }
        )  # fmt: skip


def _steps(worker: Worker, method: str, steps: int) -> dict[str, Any]:
    answer: dict[str, Any] = worker.ask("call", timeout=300, name="cloud_steps", method=method, steps=steps)
    return answer


def _rounds(
    context: Context, threads: int | None, sides: dict[str, Callable[[], float]], rounds: int
) -> tuple[dict[str, Spread], bool]:
    probe = context.ours(threads)
    before = probe.ask("ceilings")
    spread = interleave(sides, rounds)
    after = probe.ask("ceilings")
    return spread, ceilings.moved(before, after) > ceilings.NOISE
