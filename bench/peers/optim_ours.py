"""Optimizer steps, ours and the peers', in one process: all run on torch's threads and on equal tensors."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

from bench.optim_lists import LISTS

from .base import BasePeer

WARM_UP = 6  # steps that are not counted: they make states, and bring rectified rules to their lasting form
COMPARED = 8  # tensors whose values are compared between the sides


class Peer(BasePeer):
    name = "optim_ours"
    packages = ("torch", "numpy")
    methods = ()

    def start(self, threads: int) -> None:
        import torch

        import fastcore_ops

        from . import optim_sides

        torch.set_num_threads(threads)
        self.fo, self.torch, self.sides = fastcore_ops, torch, optim_sides

    def versions(self) -> dict[str, str]:
        return {"fastcore_ops": self.fo.__version__, **super().versions(), **self.sides.found()[0]}

    def missing(self) -> dict[str, str]:
        """Packages of peers that are not there."""
        return self.sides.found()[1]

    def rules(self) -> list[str]:
        """Names of the optimizers that there are."""
        return [info.name for info in self.fo.optim.available()]

    def _parameters(self, shapes: list[tuple[int, ...]], dtype: str) -> list[Any]:
        torch = self.torch
        generator = torch.Generator().manual_seed(0)
        made = []
        for shape in shapes:
            p = torch.randn(shape, generator=generator).to(getattr(torch, dtype)).requires_grad_()
            p.grad = torch.randn(shape, generator=generator).to(p.dtype)
            made.append(p)
        return made

    def _step(self, side: dict[str, Any], shapes: list[tuple[int, ...]]) -> tuple[list[Any], Callable[[], Any]]:
        """Parameters, and a step of theirs that is past the first ones."""
        if side["package"] == "streams":
            return [], self._streams(sum(prod(shape) for shape in shapes), side["updated"], side["read"])
        params = self._parameters(shapes, side.get("dtype", "float32"))
        step = self.sides.make_step(side, params)
        given = [p.grad.clone() for p in params[:COMPARED]]
        for _ in range(WARM_UP):
            for p, g in zip(params, given, strict=False):  # a peer may write into gradients
                p.grad.copy_(g)
            step()
        return params, step

    def _streams(self, elements: int, updated: int, read: int) -> Callable[[], Any]:
        """What memory allows: an in-place multiplication for each stream that is updated, a sum for each that is only read."""
        # what stands for states is memory of the kind that states have
        states = [
            self.fo._native.new_zeros(elements, self.torch.float32, self.torch.device("cpu"))
            for _ in range(updated - 1)
        ]
        streams = [self.torch.ones(elements), *states, *(self.torch.ones(elements) for _ in range(read))]

        def step() -> None:
            for x in streams[:updated]:
                x.mul_(1.0)
            for x in streams[updated:]:
                x.sum()

        return step

    def race(
        self, parameters: str, sides: dict[str, dict[str, Any]], seconds: float, again: bool = False
    ) -> dict[str, Any]:
        """Times of one step of each side, interleaved; how far each side's parameters were from ours before them.

        `again` goes on with the sides of the last race, which were asked for in the same words.
        """
        if not again:
            self.made: dict[str, Any] = {}  # the last race's memory goes before this one's is taken
            shapes = LISTS[parameters]()
            self.made = {name: self._step(side, shapes) for name, side in sides.items()}
            self.apart = {name: self._apart(params) for name, (params, _) in self.made.items() if "ours" in sides}
        made = self.made
        times: dict[str, list[float]] = {name: [] for name in made}
        compiled = self.sides.graphs()
        end, rounds = perf_counter() + seconds * len(made), 0
        while rounds < 5 or perf_counter() < end:
            for name in list(made) if rounds % 2 == 0 else list(made)[::-1]:
                begin = perf_counter()
                made[name][1]()
                times[name].append(perf_counter() - begin)
            rounds += 1
        if self.sides.graphs() != compiled:
            raise RuntimeError("something was compiled while the race ran")
        return {"times": times, "apart": self.apart}

    def _apart(self, theirs: list[Any]) -> float:
        """Mean difference after the steps of the warm-up, over the mean change that ours made."""
        ours = self.made["ours"][0]
        before = self._parameters([tuple(p.shape) for p in ours[:COMPARED]], "float32")
        change = difference = 0.0
        for p, q, start in zip(ours, theirs, before, strict=False):  # streams have no parameters: 0
            change += float((p - start).detach().abs().sum())
            difference += float((p - q).detach().abs().sum())
        return difference / max(change, 1e-30)

    def allocations(self, parameters: str, sides: dict[str, dict[str, Any]], steps: int = 10) -> dict[str, Any]:
        """Allocations that torch's allocator saw in a later step (torch.profiler), with their bytes, for each side."""
        from torch.profiler import ProfilerActivity, profile

        counts, self.made = {}, {}
        for name, side in sides.items():
            _, step = self._step(side, LISTS[parameters]())
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
                for _ in range(steps):
                    step()
            events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]" and e.nbytes() > 0]
            counts[name] = {"count": len(events) / steps, "bytes": sum(e.nbytes() for e in events) / steps}
        return counts

    def bandwidth(self, elements: int, seconds: float) -> dict[str, float]:
        """Seconds per element of a float32 stream that is only read, and of one that is read and written in place.

        `unrest` is by how much the median of either exceeds the best: another program at work all the time shows there.
        """
        torch = self.torch
        x = torch.ones(elements)
        times: dict[str, list[float]] = {"read": [], "update": []}
        statements: dict[str, Callable[[], Any]] = {"read": x.sum, "update": lambda: x.mul_(1.0)}
        end = perf_counter() + seconds
        while perf_counter() < end:
            for name, statement in statements.items():
                begin = perf_counter()
                statement()
                times[name].append((perf_counter() - begin) / elements)
        best = {name: min(values) for name, values in times.items()}
        return {**best, "unrest": max(median(values) / best[name] for name, values in times.items()) - 1}
