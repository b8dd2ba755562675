"""Ours against every method of every peer, to the same error, on one case.

1. Ours is timed. 2. Every method of every peer is screened: a short trial run gives the cost
of an iteration, then one run with the iterations that fit its time; where the package's own
stopping value was met but the error recomputed here is above the target, the stopping value is
tightened tenfold and it runs again. A method is given up once it has taken longer than the
best one found so far. 3. Where nobody arrived, the most advanced method of each peer gets the
whole limit, max(60 s, 30x ours). 4. The methods that arrived are timed in interleaved rounds
with ours. A peer that did not arrive is a lower bound: `> r x (reached e)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench import ceilings
from bench.peers.base import Method
from bench.timing import PeerError, Spread, Worker, interleave, rounds_for

Judge = Callable[[np.ndarray, np.ndarray], float]
MOST_ITERATIONS = 5_000_000
LARGE = 4_000_000  # entries
TIGHTEST = 1e-14  # of a stopping value that is a norm


@dataclass
class Outcome:
    """How far one method of one side came."""

    side: str
    method: str
    seconds: float = 0.0  # of the last run; of the run that arrived, if one did
    error: float = float("inf")
    arrived: bool = False
    tol: float = 0.0
    max_iter: int = 0
    iterations: int = 0
    warm_up: float = 0.0  # compilation and first call, never part of `seconds`
    note: str = ""
    spread: Spread | None = None

    @property
    def time(self) -> float:
        return self.spread.median if self.spread else self.seconds


@dataclass
class Limits:
    """Seconds: `screen` per method, `full` the floor of the whole limit, `rounds` per case."""

    screen: float = 10.0
    full: float = 60.0
    times_ours: float = 30.0
    rounds: float = 20.0


@dataclass
class Race:
    """The result on one case."""

    ours: Outcome
    peers: dict[str, Outcome]
    screened: list[Outcome]
    before: dict[str, Any]
    after: dict[str, Any]
    noisy: bool

    def ratio(self, peer: str) -> float:
        return self.peers[peer].time / self.ours.time

    @property
    def best(self) -> str | None:
        """The fastest peer that arrived; failing that the one whose bound is the lowest.

        A side that broke down (no finite plan) would never arrive: its time bounds nothing.
        """
        arrived = [name for name, outcome in self.peers.items() if outcome.arrived]
        alive = [name for name, outcome in self.peers.items() if np.isfinite(outcome.error)]
        return min(arrived or alive, key=self.ratio, default=None)


def attempt(worker: Worker, outcome: Outcome, judge: Judge, limit: float) -> bool:
    """One run with the tolerance and budget in `outcome`; True if it met its own criterion."""
    arguments: dict[str, Any] = {"method": outcome.method, "tol": outcome.tol, "max_iter": outcome.max_iter}
    outcome.warm_up = max(outcome.warm_up, worker.ask("warm_up", **arguments))
    answer = worker.ask("solve", timeout=1.5 * limit + 5.0, **arguments)
    outcome.seconds, outcome.iterations = answer["seconds"], answer["iterations"]
    outcome.error = judge(answer["f"], answer["g"])
    return bool(answer["finished"])


def affordable(trials: Sequence[tuple[int, float]], limit: float) -> int:
    """How many iterations fit in `limit` seconds, from (iterations, seconds) of trial runs."""
    iterations, seconds = trials[-1]
    each, fixed = seconds / max(1, iterations), 0.0
    if len(trials) > 1 and iterations > trials[0][0]:
        slope = (seconds - trials[0][1]) / (iterations - trials[0][0])
        each = max(slope, 0.3 * each)
        fixed = max(0.0, seconds - each * iterations)
    return min(int((limit - fixed) / max(each, 1e-9)), MOST_ITERATIONS)


def reach(worker: Worker, method: Method, target: float, judge: Judge, limit: float, whole: bool = False) -> Outcome:
    """Run one method until its recomputed error is below `target`, or its time is over.

    `whole`: a run that ended well before the limit, since its trial runs were slower, goes again.
    """
    outcome = Outcome(worker.peer, method.name, tol=target**method.power)
    outcome.max_iter = method.first_iterations
    trials: list[tuple[int, float]] = []
    try:
        finished = attempt(worker, outcome, judge, limit)
        trials.append((outcome.iterations, outcome.seconds))
        if not finished and outcome.error > target and outcome.seconds < limit / 6:
            outcome.max_iter *= 3
            finished = attempt(worker, outcome, judge, limit)
            trials.append((outcome.iterations, outcome.seconds))
        trial_iterations = outcome.max_iter
        outcome.max_iter = max(trial_iterations, affordable(trials, limit))
        if not finished and outcome.error > target and outcome.max_iter > trial_iterations:
            finished = attempt(worker, outcome, judge, limit)
            if not finished and outcome.error > target and outcome.seconds < 0.6 * limit and whole:
                outcome.max_iter = int(outcome.iterations * limit / outcome.seconds)
                finished = attempt(worker, outcome, judge, limit)
        while finished and outcome.error > target and outcome.tol > TIGHTEST**method.power and outcome.seconds < limit:
            outcome.tol /= 10.0**method.power
            finished = attempt(worker, outcome, judge, limit)
    except PeerError as error:
        outcome.seconds, outcome.note = max(outcome.seconds, limit), str(error)
    outcome.arrived = outcome.error <= target
    return outcome


def suited(methods: Sequence[Method], entries: int) -> Sequence[Method]:
    """The methods worth screening on a problem of that size."""
    return methods if entries <= LARGE else [method for method in methods if method.large]


def screen(
    workers: Mapping[str, Worker],
    methods: Mapping[str, Sequence[Method]],
    target: float,
    judge: Judge,
    ours: Outcome,
    limits: Limits,
) -> list[Outcome]:
    """Every method of every peer, each with at most 1.2x the best time found so far."""
    outcomes: list[Outcome] = []
    best = limits.screen / 1.2
    ranks = max((len(methods[name]) for name in workers), default=0)
    for rank in range(ranks):  # every peer's likeliest method first: that shortens the others
        for name, worker in workers.items():
            if rank >= len(methods[name]):
                continue
            outcome = reach(worker, methods[name][rank], target, judge, 1.2 * best)
            outcomes.append(outcome)
            if outcome.arrived:
                best = min(best, max(outcome.seconds, 0.02))
    if any(outcome.arrived for outcome in outcomes):
        return outcomes
    full = max(limits.full, limits.times_ours * ours.seconds)
    for name, worker in workers.items():
        tried = [o for o in outcomes if o.side == name and np.isfinite(o.error)]
        if not tried:
            continue
        most_advanced = min(tried, key=lambda outcome: outcome.error)
        method = next(m for m in methods[name] if m.name == most_advanced.method)
        outcome = reach(worker, method, target, judge, full, whole=True)
        outcomes.append(outcome)
        if outcome.arrived:  # whoever is slower than this need not run longer
            full = min(full, outcome.seconds)
    return outcomes


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The fastest that arrived, else the one that ran longest without breaking down."""
    arrived = [outcome for outcome in outcomes if outcome.arrived]
    if arrived:
        return min(arrived, key=lambda outcome: outcome.seconds)
    return max(outcomes, key=lambda o: (np.isfinite(o.error), round(o.seconds, 1), -o.error))


def race(
    ours: Worker,
    our_method: Method,
    workers: Mapping[str, Worker],
    methods: Mapping[str, Sequence[Method]],
    target: float,
    judge: Judge,
    limits: Limits,
    known: Sequence[Outcome] | None = None,
) -> Race:
    """The whole comparison on a case that every worker has prepared.

    `known` are methods that arrived in an earlier race (one thread): with it the screening is
    left out and they are only timed.
    """
    first = reach(ours, our_method, target, judge, limits.full)
    if known is None:
        screened = screen(workers, methods, target, judge, first, limits)
    else:
        screened = [replace(outcome, spread=None) for outcome in known]
    peers = {
        name: best_of([o for o in screened if o.side == name])
        for name in workers
        if any(o.side == name for o in screened)
    }
    fastest = min((o.seconds for o in peers.values() if o.arrived), default=0.0)
    timed = {
        name: outcome
        for name, outcome in peers.items()
        if outcome.arrived and (known is not None or outcome.seconds <= 2.0 * fastest)
    }
    sides = {"ours": _timer(ours, first), **{n: _timer(workers[n], o) for n, o in timed.items()}}
    budget = limits.rounds if known is None else limits.rounds / 3
    rounds = rounds_for(first.seconds + sum(o.seconds for o in timed.values()), budget)
    for _ in range(2):  # a noisy comparison gets one more chance
        before = ours.ask("ceilings")
        spreads = interleave(sides, rounds)
        after = ours.ask("ceilings")
        noisy = ceilings.moved(before, after) > ceilings.NOISE
        if not noisy:
            break
    first.spread = spreads.pop("ours")
    for name, spread in spreads.items():
        peers[name].spread = spread
    return Race(first, peers, screened, before, after, noisy)


def _timer(worker: Worker, outcome: Outcome) -> Callable[[], float]:
    arguments: dict[str, Any] = {
        "method": outcome.method, "tol": outcome.tol, "max_iter": outcome.max_iter
    }  # fmt: skip
    worker.ask("warm_up", **arguments)
    return lambda: float(worker.ask("solve", timeout=900, **arguments)["seconds"])
