"""Rows of the optimizers about the machine: other programs on its cores, and what a step asks of the allocator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from bench.context import Context
from bench.optim_lists import LISTS
from bench.optim_race import existing, ours, race, side, the_worker, verdict
from bench.report import Row
from bench.timing import Absent, PeerError, Spread, cpu_mask

BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True:\n    pass\n"


@contextmanager
def busy(threads: int | None, each: int = 2) -> Iterator[None]:
    """`each` processes that never rest on every CPU that a side may use."""
    running = []
    try:
        for cpu in sorted(cpu_mask(threads)):
            for _ in range(each):
                command = [sys.executable, "-S", "-c", BUSY, str(cpu)]
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def oversubscribed(context: Context) -> Row:
    """Row 8: how much longer a step takes where two other programs want each core."""
    row = Row(
        8, "One AdamW step, float32, with two busy programs on every core, over the same on a quiet machine",
        ("side", "list", "threads", "quiet", "busy", "busy / quiet", "at most / aim"),
    )  # fmt: skip
    sides = {"ours": ours("AdamW"), "torch fused": side("torch", "AdamW", {"fused": True})}
    for parameters in ("resnet50", "many_small"):
        for threads in context.threads:
            quiet = race(context, threads, parameters, sides)
            with busy(threads):
                loaded = _loaded(context, threads, parameters, sides)
            for name in sides:
                ratio = loaded[name].median / quiet.spread[name].median
                bar = "6 / 4" if name == "ours" else ""
                row.add(
                    [name, parameters, context.thread_name(threads), str(quiet.spread[name]), str(loaded[name]),
                     verdict(f"{ratio:.2f} x", ratio, bar, True, quiet.noisy, at_most=True), bar],
                    {"case": f"{name} {parameters}", "threads": threads or "all", "over_quiet": ratio,
                     "noisy": quiet.noisy, "quiet": list(quiet.spread[name].times), "busy": list(loaded[name].times)},
                )  # fmt: skip
    row.note(
        "fair shares alone make 3 of it: a third of each core. Medians; the programs are loops in Python, bound to a CPU"
    )
    return row


def _loaded(context: Context, threads: int | None, parameters: str, sides: dict[str, Any]) -> dict[str, Spread]:
    seconds = 1.0 if context.quick else 4.0
    worker = the_worker(context, threads)
    found = worker.ask("call", name="race", parameters=parameters, sides=sides, seconds=seconds)["value"]
    return {name: Spread(tuple(values)) for name, values in found["times"].items()}


def allocations(context: Context) -> Row:
    """Row 9: what a later step allocates."""
    row = Row(
        9, "Allocations of tensor memory in a later step, ResNet-50's 161 tensors, float32",
        ("rule", "allocations a step", "bytes a step", "at most"),
    )  # fmt: skip
    worker = the_worker(context, 1)
    sides = {rule: ours(rule, {"lr": 1e-3}) for rule in sorted(existing(context), key=str.lower)}
    sides |= {
        "torch fused AdamW": side("torch", "AdamW", {"fused": True}),
        "torch foreach AdamW": side("torch", "AdamW", {"foreach": True}),
        "foreach AdEMAMix": side("loops", "ForeachAdEMAMix"),
    }
    for name, one in sides.items():
        try:
            asked = worker.ask("call", name="allocations", parameters="resnet50", sides={name: one})
        except (Absent, PeerError) as error:
            row.add([name, f"not measured: {error}", "", ""], {"case": name, "skipped": str(error)})
            continue
        found = asked["value"][name]
        bar = "0" if one["package"] == "ours" and name not in REDUCING else ""
        text = verdict(f"{found['count']:g}", found["count"], bar, True, at_most=True)
        row.add([name, text, f"{found['bytes']:.3g}", bar], {"case": name, **found})
    largest = max(prod(shape) for shape in LISTS["resnet50"]())
    row.note(
        "counted by torch.profiler with profile_memory=True: every allocation that torch's allocator serves, also inside "
        f"operators; the largest parameter has {4 * largest / 1e6:.1f} MB"
    )
    row.note("parallel regions of a step are not in this table: neither the library nor torch counts them")
    return row


# Their first pass leaves sums for the second; nothing is promised.
REDUCING = {"AdaGradNorm", "AdamP", "DoG", "FedSpeed", "LDoG", "OPTAMSGrad", "SANIA", "SGDP"}
