"""What the rows of the kernel distances share: a race, the bounds beside it, and a line of the table.

A race is run in one worker process, every side on the same threads and points, in interleaved rounds, and again where the
machine's ceilings moved by more than a fifth meanwhile. Bounds are sides of the race.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import ceilings
from bench.context import Context
from bench.optim_race import verdict
from bench.report import Row
from bench.timing import Spread, Worker, seconds

COLUMNS = ("case", "threads", "ours", "others", "others / ours", "at least / aim", "bounds", "over its bounds")
SAME = 1e-3  # sides that compute one thing differ by less

Sides = Mapping[str, Mapping[str, Any]]


@dataclass
class Found:
    """Spreads of the sides, figures of those that were timed once, distances from ours, and what was missing."""

    spread: dict[str, Spread]
    once: dict[str, float]
    apart: dict[str, float]
    missing: dict[str, str]
    noisy: bool
    ceilings: dict[str, Any] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return self.spread[name].median if name in self.spread else self.once[name]

    def text(self, name: str) -> str:
        return f"{name} {self.spread[name]}" if name in self.spread else f"{name} {seconds(self.once[name])} (once)"

    def lists(self) -> dict[str, list[float]]:
        return {name: list(spread.times) for name, spread in self.spread.items()} | {
            name: [value] for name, value in self.once.items()
        }


def side(name: str, **options: Any) -> dict[str, Any]:
    return {"side": name, **options}


def the_worker(context: Context, threads: int | None) -> Worker:
    worker = context.worker("mmd_ours", threads)
    if not worker.versions:
        worker.start()
        context.versions.update(worker.versions)
    return worker


def race(
    context: Context, threads: int | None, problem: Mapping[str, Any], sides: Sides, budget: float, attempts: int = 2
) -> Found:
    """`budget`: seconds of rounds; at least three rounds are run."""
    worker = the_worker(context, threads)
    asked = {"problem": dict(problem), "sides": {name: dict(one) for name, one in sides.items()}}
    asked["budget"] = 1.0 if context.quick else budget if threads == 1 else budget / 2
    for attempt in range(1 if context.quick else attempts):
        before = worker.ask("ceilings")
        found = worker.ask("call", timeout=1800, name="race", again=attempt > 0, **asked)["value"]
        after = worker.ask("ceilings")
        noisy = ceilings.moved(before, after) > ceilings.NOISE
        if not noisy:
            break
    spread = {name: Spread(tuple(times)) for name, times in found["times"].items()}
    return Found(spread, found["once"], found["apart"], found["missing"], noisy, after)


def versus(
    row: Row, context: Context, threads: int | None, case: str, found: Found, bounds: Iterable[str], bar: str,
    more: Iterable[str] = (), same: float | None = SAME,
) -> None:  # fmt: skip
    """A line: the fastest of the others against ours, and ours over the sum of its bounds.

    `more` are bounds that are told and not added up.
    """
    bounds, more = list(bounds), list(more)
    others = [name for name in (*found.spread, *found.once) if name not in ("ours", *bounds, *more)]
    ours = found.median("ours")
    best = min(others, key=found.median) if others else None
    ratio = found.median(best) / ours if best else None
    bound = sum(found.median(name) for name in bounds)
    absent = [f"{name} not measured: {why}" for name, why in found.missing.items()]
    row.add(
        [case, context.thread_name(threads), str(found.spread["ours"]),
         "; ".join([found.text(name) for name in others] + absent),
         "none" if ratio is None else verdict(f"{ratio:.2f} x", ratio, bar, threads == 1, found.noisy),
         bar if threads == 1 else "", ", ".join(f"{name} {seconds(found.median(name))}" for name in (*bounds, *more)),
         f"{ours / bound:.2f} x {' + '.join(bounds)}"],
        {"case": case, "threads": threads or "all", "ratio": None if found.noisy else ratio, "raw_ratio": ratio,
         "gate": float(bar.split()[0]), "gates": threads == 1, "against": best or "", "noisy": found.noisy,
         "times": found.lists(), "bounds": {name: found.median(name) for name in (*bounds, *more)},
         "over_bounds": ours / bound, "apart": found.apart, "missing": found.missing, "ceilings": found.ceilings},
    )  # fmt: skip
    for name in others if same else ():
        if not found.apart.get(name, 0.0) < same:
            row.note(f"{case}: {name} is {found.apart[name]:.1e} of its norm apart from ours: not quite the same thing")
