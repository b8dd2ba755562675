"""What the rows of the optimizers share: rules, sides, a race between them, and how a line is judged.

A race is run in one worker process: every side steps equal parameters on the same threads, in interleaved rounds. It is run
again, up to three times, where the bandwidth of the memory differs by more than a fifth before and after it, or within either
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from bench.context import Context
from bench.optim_lists import LISTS
from bench.report import Row
from bench.timing import Absent, PeerError, Spread, Worker

NOISE = 0.20
SAME = 1e-3  # sides that follow one rule differ by less: rounding, and where eps is added

# rule, options, streams that are updated in place, streams that are only read (the gradient; MADGRAD's and DoG's x0; whatever
# a first pass over parameter and gradient reads)
RULES: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("SGD", {"momentum": 0.9}, 2, 1),
    ("Lion", {}, 2, 1),
    ("Adagrad", {}, 2, 1),
    ("AdamW", {}, 3, 1),
    ("Adam", {"amsgrad": True}, 4, 1),
    ("NAdam", {}, 3, 1),
    ("RAdam", {}, 3, 1),
    ("AdaBelief", {}, 3, 1),
    ("Grams", {}, 3, 1),
    ("AdEMAMix", {}, 4, 1),
    ("DiffGrad", {}, 4, 1),
    ("ExponentiatedGradient", {"form": "adamw"}, 3, 1),
    ("ExponentiatedGradient", {"form": "sgd", "momentum": 0.9}, 2, 1),
)
MORE_RULES: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("AdamP", {}, 3, 3),
    ("SGDP", {"lr": 1e-1, "momentum": 0.9}, 2, 3),
    ("MADGRAD", {}, 3, 2),
    ("MirrorMADGRAD", {}, 3, 1),
    ("DoG", {}, 1, 4),
    ("LDoG", {}, 1, 4),
    ("AdaGradNorm", {}, 1, 2),
    ("SANIA", {}, 2, 3),
    ("FedSpeed", {"lr": 1e-3}, 1, 7),
)
COLUMNS = ("rule", "list", "threads", "ours", "others", "others / ours", "at least / aim")


@dataclass
class Times:
    """What a race found: times of each side, bound of a stream, how far sides are apart, whether it was disturbed."""

    spread: dict[str, Spread]
    streams: dict[str, float]
    apart: dict[str, float]
    noisy: bool

    def lists(self) -> dict[str, list[float]]:
        return {name: list(spread.times) for name, spread in self.spread.items()}


def side(package: str, rule: str, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"package": package, "rule": rule, "options": options or {}, **more}


def ours(rule: str, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return side("ours", rule, options, **more)


def the_worker(context: Context, threads: int | None) -> Worker:
    worker = context.worker("optim_ours", threads)
    if not worker.versions:
        worker.start()
        context.versions.update(worker.versions)
        missing = worker.ask("call", name="missing")["value"]
        if missing:
            context.missing.update(missing)
            context.facts["missing_peers"] = context.missing
    return worker


def existing(context: Context) -> set[str]:
    """Names of the rules that the library has."""
    return set(the_worker(context, 1).ask("call", name="rules")["value"])


def race(context: Context, threads: int | None, parameters: str, sides: dict[str, dict[str, Any]]) -> Times:
    worker = the_worker(context, threads)
    asked = {"parameters": parameters, "sides": sides, "seconds": 0.3 if context.quick else 1.0}
    for attempt in range(3):
        before = _bandwidth(worker)
        found = worker.ask("call", timeout=1800, name="race", again=attempt > 0, **asked)["value"]
        after = _bandwidth(worker)
        noisy = max(before.pop("unrest"), after.pop("unrest")) > NOISE
        noisy |= any(max(before[k], after[k]) / min(before[k], after[k]) - 1 > NOISE for k in before)
        if not noisy:
            break
    spread = {name: Spread(tuple(values)) for name, values in found["times"].items()}
    return Times(spread, {k: min(before[k], after[k]) for k in before}, found["apart"], noisy)


def _bandwidth(worker: Worker) -> dict[str, float]:
    found: dict[str, float] = worker.ask("call", name="bandwidth", elements=1 << 24, seconds=0.2)["value"]
    return found


def elements(parameters: str) -> int:
    return sum(prod(shape) for shape in LISTS[parameters]())


def verdict(text: str, value: float, bar: str, gates: bool, noisy: bool = False, at_most: bool = False) -> str:
    """The figure, with "short" where a line that counts misses what `bar` asks for first."""
    if noisy:
        return f"noisy ({text})"
    limit = float(bar.split()[0]) if gates and bar else None
    missed = limit is not None and (value > limit if at_most else value < limit)
    return f"{text} **short**" if missed else text


def versus(
    row: Row,
    context: Context,
    threads: int | None,
    parameters: str,
    name: str,
    sides: dict[str, dict[str, Any]],
    bar: str,
    same: bool = False,
) -> Times | None:
    """A line: the fastest of the other sides against ours. `same`: the sides follow one rule, and must agree."""
    try:
        found = race(context, threads, parameters, sides)
    except (Absent, PeerError) as error:  # a line without a figure must not cost the others
        skip(row, context, threads, parameters, name, error, bar)
        return None
    spread = found.spread
    best = min((other for other in sides if other != "ours"), key=lambda other: spread[other].median)
    ratio = spread[best].median / spread["ours"].median
    row.add(
        [name, parameters, context.thread_name(threads), str(spread["ours"]),
         "; ".join(f"{other} {spread[other]}" for other in sides if other != "ours"),
         verdict(f"{ratio:.2f} x", ratio, bar, threads == 1, found.noisy), bar if threads == 1 else ""],
        {"case": f"{name} {parameters}", "threads": threads or "all", "ratio": None if found.noisy else ratio,
         "raw_ratio": ratio, "gate": float(bar.split()[0]) if bar else None, "gates": threads == 1 and bool(bar),
         "against": best, "noisy": found.noisy, "times": found.lists(), "apart": found.apart},
    )  # fmt: skip
    for other, apart in found.apart.items():
        if same and not apart < SAME:
            row.note(
                f"{name}: after the warm-up {other} is {apart:.1e} of the way apart from ours: not quite the same rule"
            )
    return found


def skip(
    row: Row, context: Context, threads: int | None, parameters: str, name: str, why: object, bar: str = ""
) -> None:
    row.add(
        [name, parameters, context.thread_name(threads), "", f"not measured: {why}", "", bar if threads == 1 else ""],
        {"case": f"{name} {parameters}", "threads": threads or "all", "skipped": str(why)},
    )
