"""The rows of the optimal-transport family. Inputs: `bench.ot_cases`; method: `bench.race`.

Everything is CPU float64 unless a row says otherwise. `range` is max - min of the cost. One
thread is what counts (`gates`); all threads are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench import ceilings, ot_cases
from bench.context import Context
from bench.peers.base import Method
from bench.race import Limits, Outcome, Race, race, suited
from bench.report import Row
from bench.timing import interleave, rounds_for, seconds

PEERS = ("pot", "ott", "regot", "geomloss")
SMALL, LARGE = 1200, 100  # reg = range / SMALL, range / LARGE

# passes and Newton steps of the method's prototype at range/1200, to 1e-12 (64x64: to 1e-9)
PROTOTYPE: dict[str, tuple[int, int | None]] = {
    "random_500": (23, 10),
    "random_1000": (18, 6),
    "photos_l2": (18, 6),
    "photos_l1": (50, 23),
    "digits_l2": (20, 8),
    "digits_l1": (60, 31),
    "rgb_1000": (22, 10),
    "densities_1d_1000": (19, 7),
    "densities_2d_32": (18, 6),
    "densities_2d_64": (17, None),
}
QUICK = ("random_500", "digits_l2", "photos_l1", "densities_1d_1000")


class Problem:
    """A case at one reg, with the judge of its errors."""

    def __init__(self, name: str, divisor: float) -> None:
        self.case = ot_cases.CASES[name]()
        self.cost = self.case.cost()
        self.reg = float(self.cost.max() - self.cost.min()) / divisor

    def judge(self, f: np.ndarray, g: np.ndarray) -> float:
        return ot_cases.marginal_error(self.cost, self.case.a, self.case.b, self.reg, f, g)


def names(context: Context, wanted: Sequence[str]) -> list[str]:
    chosen = [name for name in wanted if not context.cases or name in context.cases]
    return [name for name in chosen if name in QUICK] if context.quick and not context.cases else chosen


def counts(context: Context) -> Row:
    """Row 1: how many passes over the cost and Newton steps the solver needs."""
    row = Row(
        1,
        f"Passes and Newton steps to 1e-12 at reg = range/{SMALL} (densities 64x64: to 1e-9)",
        ("case", "n x m", "passes", "Newton", "prototype", "CG", "density", "error", "time", "within +20 %"),
    )
    worker = context.ours(1)
    for name in names(context, list(PROTOTYPE)):
        problem = Problem(name, SMALL)
        passes, newton = PROTOTYPE[name]
        tol = 1e-12 if newton else 1e-9
        worker.ask("prepare", case=problem.case, reg=problem.reg)
        answer = worker.ask("solve", method="auto", tol=tol, max_iter=10_000)
        info, error = answer["info"], problem.judge(answer["f"], answer["g"])
        within = info["passes"] <= 1.2 * passes and info["newton"] <= 1.2 * (newton or np.inf)
        reached = answer["finished"] and error <= 2 * tol  # the judge's own rounding is near 1e-13
        row.add(
            [
                name, "{} x {}".format(*problem.case.shape), str(info["passes"]), str(info["newton"]),
                f"{passes}, {newton or '-'}", str(info["cg"]), _short(info["density"]), f"{error:.1e}",
                seconds(answer["seconds"]), "yes" if within and reached else "no",
            ],
            {"case": name, "tol": tol, "reg": problem.reg, "error": error, "met": within and reached, **info},
        )  # fmt: skip
    return row


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def times_to_error(context: Context, number: int, divisor: int, bars: dict[str, tuple[float, float]]) -> Row:
    """Rows 2 and 3: time to a marginal error of 1e-9 against the best of all peers."""
    row = Row(
        number,
        f"Time to a marginal error of 1e-9 at reg = range/{divisor}, against the best of all peers",
        ("case", "threads", "ours", "best peer", *(p for p in context.peers() if context.methods(p)),
         "ratio", "at least / aim"),
    )  # fmt: skip
    limits = Limits(screen=2.0, full=4.0, times_ours=0.0, rounds=3.0) if context.quick else Limits()
    for name in names(context, list(ot_cases.CASES)):
        problem = Problem(name, divisor)
        known: list[Outcome] | None = None
        for threads in context.threads:
            result = _race(context, problem, threads, limits, known)
            _add_race(row, name, problem, context, threads, result, bars[problem.case.group])
            known = [o for o in result.peers.values() if o.arrived and o.time < 15.0]
    row.note(
        "error: recomputed here from the potentials, |P1-a| + |P'1-b| over the mass; "
        "times: median (fastest-slowest) of interleaved rounds"
    )
    row.note(
        "a method slower than 1.2 times the best so far is stopped there: `> time (reached error)` is a lower bound"
    )
    row.note("POT's calls always form the dense plan as well; compilation (OTT) is never counted")
    return row


def _race(context: Context, problem: Problem, threads: int | None, limits: Limits, known: list[Outcome] | None) -> Race:
    ours = context.ours(threads)
    chosen = [peer for peer in context.peers() if context.methods(peer)]
    if known is not None:
        chosen = [peer for peer in chosen if any(o.side == peer for o in known)]
    workers = {peer: context.worker(peer, threads) for peer in chosen}
    for worker in (ours, *workers.values()):
        worker.ask("prepare", case=problem.case, reg=problem.reg)
    methods = {peer: suited(context.methods(peer), problem.cost.size) for peer in chosen}
    return race(ours, Method("auto", 10_000), workers, methods, 1e-9, problem.judge, limits, known)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    if outcome.arrived:
        return f"{outcome.method} {outcome.spread or seconds(outcome.seconds)}"
    reached = f"reached {outcome.error:.0e}" if np.isfinite(outcome.error) else "no finite plan"
    if outcome.note:  # stopped from outside: the last figure is that of a trial run
        reached = f"stopped; {reached} in its trial"
    return f"{outcome.method} > {seconds(outcome.seconds)} ({reached})"


def _add_race(
    row: Row, name: str, problem: Problem, context: Context, threads: int | None, result: Race,
    bars: tuple[float, float],
) -> None:  # fmt: skip
    best = result.best
    ours = result.ours
    bound = best is not None and not result.peers[best].arrived
    ratio = None if best is None or result.noisy or not ours.arrived else result.ratio(best)
    if ratio is None:
        stated = "noisy" if result.noisy else "none" if best is None else "ours did not arrive"
    else:
        stated = f"{'> ' if bound else ''}{ratio:.3g} x"
    against = "" if best is None else f"{best} {result.peers[best].method}"
    cells = [name, context.thread_name(threads), _cell(ours).removeprefix("auto "), against]
    cells += [_cell(result.peers.get(p)) for p in context.peers() if context.methods(p)]
    cells += [stated, f"{bars[0]:g} / {bars[1]:g}" if threads == 1 else ""]
    row.add(
        cells,
        {
            "case": name, "threads": threads or "all", "gates": threads == 1, "reg": problem.reg,
            "n": problem.case.shape[0], "m": problem.case.shape[1], "ratio": ratio, "bound": bound,
            "against": against, "gate": bars[0], "aim": bars[1], "noisy": result.noisy,
            "raw_ratio": None if best is None else result.ratio(best),
            "ours": _plain(ours), "peers": {p: _plain(o) for p, o in result.peers.items()},
            "screened": [_plain(outcome) for outcome in result.screened],
            "ceilings_before": result.before, "ceilings_after": result.after,
        },
    )  # fmt: skip


def _plain(outcome: Outcome) -> dict[str, Any]:
    facts = {key: value for key, value in vars(outcome).items() if key != "spread"}
    if not np.isfinite(facts["error"]):
        facts["error"] = None  # JSON has no infinity
    facts["times"] = list(outcome.spread.times) if outcome.spread else []
    return facts


def row_pass(context: Context) -> Row:
    """Row 4: the heart of the solver against what the machine allows."""
    row = Row(
        4,
        "One row pass, dense float64 cost, against the larger of two bounds",
        ("n", "threads", "time", "reading the cost", "one exp per entry", "time / bound", "at most / aim"),
    )
    sizes = (500, 1000) if context.quick else (500, 1000, 2000, 4000)
    for size in sizes:
        for threads in context.threads:
            worker = context.ours(threads)
            for _ in range(3):  # up to three chances for a quiet moment
                before = worker.ask("ceilings")
                answer = worker.ask("call", name="row_pass", n=size, seconds=0.5)["value"]
                after = worker.ask("ceilings")
                noisy = ceilings.moved(before, after) > ceilings.NOISE
                if not noisy:
                    break
            times = answer["times"]
            median = times[len(times) // 2]
            bound = max(answer["read_bound"], answer["exp_bound"])
            row.add(
                [
                    str(size), context.thread_name(threads),
                    f"{seconds(median)} ({seconds(times[0])}-{seconds(times[-1])})",
                    seconds(answer["read_bound"]), f"{seconds(answer['exp_bound'])} ({answer['exp_source']})",
                    "noisy" if noisy else f"{median / bound:.2f} x", "1.5 / 1.2" if threads == 1 else "",
                ],
                {
                    "case": f"row pass {size}", "threads": threads or "all", "over_bound": median / bound,
                    "noisy": noisy, "ceilings_before": before, "ceilings_after": after, **answer,
                },
            )  # fmt: skip
    row.note("entries and operands warm, as in a solve: at n <= 1000 the cost lies in a cache")
    return row


def scaling(context: Context) -> Row:
    """Row 6: what a second thread brings."""
    row = Row(
        6,
        f"Two threads over one, solve to 1e-9 at reg = range/{SMALL}",
        ("case", "one thread", "two threads", "speed-up", "at least / aim"),
    )
    wanted = ("random_500", "photos_l2", "rgb_1000", "densities_2d_32", "densities_2d_64", "rgb_4000")
    for name in names(context, wanted):
        problem = Problem(name, SMALL)
        sides: dict[str, Callable[[], float]] = {}
        for threads in (1, 2):
            worker = context.ours(threads)
            worker.ask("prepare", case=problem.case, reg=problem.reg)
            run = partial(worker.ask, "solve", method="auto", tol=1e-9, max_iter=10_000)
            total = run()["seconds"]
            sides[str(threads)] = lambda run=run: float(run()["seconds"])
        for _ in range(3):
            before = context.ours(2).ask("ceilings")
            spread = interleave(sides, rounds_for(2 * total, 6.0, at_most=15))
            after = context.ours(2).ask("ceilings")
            noisy = ceilings.moved(before, after) > ceilings.NOISE
            if not noisy:
                break
        ratio = spread["1"].median / spread["2"].median
        row.add(
            [name, str(spread["1"]), str(spread["2"]), "noisy" if noisy else f"{ratio:.2f} x", "1.6 / 1.9"],
            {
                "case": name, "ratio": None if noisy else ratio, "raw_ratio": ratio, "gate": 1.6,
                "aim": 1.9, "gates": True, "noisy": noisy,
                "times": {side: list(value.times) for side, value in spread.items()},
            },
        )  # fmt: skip
    return row


def _clouds(context: Context) -> Row:
    from bench.ot_clouds import clouds

    return clouds(context)


BENCHES: dict[int, Callable[[Context], Row]] = {
    1: counts,
    2: partial(
        times_to_error, number=2, divisor=SMALL,
        bars={"random": (3.0, 10.0), "densities_2d": (5.0, 15.0), "other": (5.0, 15.0)},
    ),
    3: partial(
        times_to_error, number=3, divisor=LARGE,
        bars={"random": (1.0, 1.5), "densities_2d": (1.0, 1.5), "other": (2.0, 5.0)},
    ),
    4: row_pass,
    5: _clouds,
    6: scaling,
}  # fmt: skip
