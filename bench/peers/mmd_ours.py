"""Kernel distances, ours and the peers', in one process: all run on torch's threads and on the same points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from time import perf_counter
from typing import Any

from .base import BasePeer

HOPELESS = 3.0  # times the best of the others: such a side is timed once


class Peer(BasePeer):
    name = "mmd_ours"
    packages = ("torch", "numpy")
    methods = ()

    def start(self, threads: int) -> None:
        import torch

        import fastcore_ops

        from . import mmd_bounds, mmd_data, mmd_sides

        torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", module="torchmetrics")  # that it keeps all features
        self.fo, self.torch, self.data = fastcore_ops, torch, mmd_data
        self.makers, self.bounds = {**mmd_sides.SIDES, **mmd_bounds.BOUNDS}, set(mmd_bounds.BOUNDS)
        self.problem_of: dict[tuple[Any, ...], Any] = {}

    def versions(self) -> dict[str, str]:
        found = {"fastcore_ops": self.fo.__version__, **super().versions()}
        for package in ("geomloss", "pykeops", "torchmetrics"):
            with suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
        return found

    def problem(self, **facts: Any) -> Any:
        """The problem of these facts; the last one is kept, with its points."""
        key = tuple(sorted(facts.items()))
        if key not in self.problem_of:
            self.problem_of = {key: self.data.Problem(**facts)}
        return self.problem_of[key]

    def _make(self, problem: dict[str, Any], side: dict[str, Any]) -> Callable[[], Any]:
        options = {key: value for key, value in side.items() if key not in ("side", "screen")}
        return self.makers[side["side"]](self.problem(**problem), **options)

    def race(
        self, problem: dict[str, Any], sides: dict[str, dict[str, Any]], budget: float, again: bool = False
    ) -> dict[str, Any]:
        """Times of each side, interleaved for `budget` seconds or three rounds; how far each is from the first of them.

        `missing` names the sides that could not be made; `again` goes on with the sides of the last race.
        """
        if not again:
            self._warm_up(problem, sides)
        times: dict[str, list[float]] = {name: [] for name in self.made}
        end, rounds = perf_counter() + budget, 0
        while rounds < 3 or (perf_counter() < end and rounds < 51):
            for name in list(self.made) if rounds % 2 == 0 else list(self.made)[::-1]:
                begin = perf_counter()
                self.made[name]()
                times[name].append(perf_counter() - begin)
            rounds += 1
        return {"times": times, "once": self.once_timed, "apart": self.apart, "missing": self.missing}

    def _warm_up(self, problem: dict[str, Any], sides: dict[str, dict[str, Any]]) -> None:
        """Make every side and call it; of the others marked `screen`, keep the ones that are worth timing again."""
        self.made: dict[str, Callable[[], Any]] = {}
        self.apart: dict[str, float] = {}
        self.missing: dict[str, str] = {}
        screened: dict[str, float] = {}
        first = None
        for name, side in sides.items():
            try:
                call = self._make(problem, side)
                result = call()
            except ImportError as error:
                self.missing[name] = str(error)
                continue
            self.made[name] = call
            if side.get("screen"):
                screened[name] = self._seconds(name)
            first = result if first is None else first
            if side["side"] not in self.bounds and result.shape == first.shape:
                self.apart[name] = float((result - first).norm() / first.norm())
        best = min(screened.values(), default=0.0)
        self.once_timed = {name: t for name, t in screened.items() if t > HOPELESS * best}
        for name in self.once_timed:
            del self.made[name]

    def _seconds(self, name: str) -> float:
        begin = perf_counter()
        self.made[name]()
        return perf_counter() - begin

    def once(self, problem: dict[str, Any], side: dict[str, Any]) -> list[float]:
        """One call: the harness reads the clock and the memory. The first numbers of what it gives."""
        return [float(value) for value in self._make(problem, side)().flatten()[:2]]

    def points(self, problem: dict[str, Any]) -> None:
        """Points and directions, so that a call that follows makes neither."""
        made = self.problem(**problem)
        _ = made.x, made.y, made.directions

    def gradient_errors(self, problem: dict[str, Any], draws: int, rows: int) -> dict[str, float]:
        """Relative error of our sliced gradients, by slices, against the exact gradient at the first points."""
        facts, torch = self.problem(**problem), self.torch
        exact = self.data.energy_gradient(facts.x, facts.y, rows)
        squares = {"hadamard": 0.0, "independent": 0.0}
        for seed in range(draws):
            found = {
                "hadamard": self.makers["ours_hadamard"](facts, seed=100 + seed)(),
                "independent": self.fo.sliced_mmd_grad(
                    facts.x, facts.y, directions=facts.draw(100 + seed), half=True
                ),
            }  # fmt: skip
            for name, gradient in found.items():
                squares[name] += float((gradient[:rows].double() - exact).norm() / exact.norm()) ** 2 / draws
        return {name: float(torch.tensor(value).sqrt()) for name, value in squares.items()}

    def energy_values(self, problem: dict[str, Any], sides: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Relative errors of value and gradient of each side against float64 from direct differences."""
        facts, rows = self.problem(**problem), 200
        value, gradient = self.data.energy_value(facts.x, facts.y), self.data.energy_gradient(facts.x, facts.y, rows)
        found = {}
        for name, side in sides.items():
            with suppress(ImportError):
                result = self._make(problem, side)().double()
                found[name] = {
                    "value": abs(float(result[-1, 0]) / value - 1),
                    "gradient": float((result[:rows] - gradient).norm() / gradient.norm()),
                }
        return found

    def kid_errors(self, problem: dict[str, Any]) -> dict[str, float]:
        """Relative errors: on the whole sets against plain torch in float64, and on the same subsets in float64."""
        facts, make = self.problem(**problem), self.makers["ours_kid"]
        whole = self.data.kid_value(facts.x, facts.y)
        ours, double = make(facts)(), make(facts, double=True)()
        return {
            "whole sets": abs(float(make(facts, full=True)()[0]) / whole - 1),
            "subsets": abs(float(ours[0] / double[0]) - 1),
            "mean": float(ours[0]), "std": float(ours[1]), "whole": whole,
        }  # fmt: skip
