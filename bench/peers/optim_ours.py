"""Optimizer steps, ours and torch's, in one process: both run on torch's threads and on the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.optim_lists import LISTS

from .base import BasePeer


class Peer(BasePeer):
    name = "optim_ours"
    packages = ("torch", "numpy")
    methods = ()

    def start(self, threads: int) -> None:
        import torch

        import fastcore_ops

        torch.set_num_threads(threads)
        self.fo, self.torch = fastcore_ops, torch

    def versions(self) -> dict[str, str]:
        return {"fastcore_ops": self.fo.__version__, **super().versions()}

    def _parameters(self, shapes: list[tuple[int, ...]], dtype: str) -> list[Any]:
        torch = self.torch
        generator = torch.Generator().manual_seed(0)
        made = []
        for shape in shapes:
            p = torch.randn(shape, generator=generator).to(getattr(torch, dtype)).requires_grad_()
            p.grad = torch.randn(shape, generator=generator).to(p.dtype)
            made.append(p)
        return made

    def _step(self, side: dict[str, Any], shapes: list[tuple[int, ...]]) -> Callable[[], Any]:
        params = self._parameters(shapes, side.get("dtype", "float32"))
        package = self.fo.optim if side["package"] == "ours" else self.torch.optim
        options = dict(side.get("options", {}))
        if "state_dtype" in options:
            options["state_dtype"] = getattr(self.torch, options["state_dtype"])
        step: Callable[[], Any] = getattr(package, side["rule"])(params, **options).step
        return step

    def race(self, parameters: str, sides: dict[str, dict[str, Any]], seconds: float) -> dict[str, list[float]]:
        """Times of one step of each side, interleaved; the first two steps make states and are not counted."""
        shapes = LISTS[parameters]()
        steps = {name: self._step(side, shapes) for name, side in sides.items()}
        for step in steps.values():
            step()
            step()
        times: dict[str, list[float]] = {name: [] for name in steps}
        end, rounds = perf_counter() + seconds * len(steps), 0
        while rounds < 5 or perf_counter() < end:
            for name in list(steps) if rounds % 2 == 0 else list(steps)[::-1]:
                begin = perf_counter()
                steps[name]()
                times[name].append(perf_counter() - begin)
            rounds += 1
        return times

    def bandwidth(self, elements: int, seconds: float) -> dict[str, float]:
        """Seconds per element of a float32 stream that is only read, and of one that is read and written in place."""
        torch = self.torch
        x = torch.ones(elements)
        best = {"read": float("inf"), "update": float("inf")}
        statements: dict[str, Callable[[], Any]] = {"read": x.sum, "update": lambda: x.mul_(1.0)}
        end = perf_counter() + seconds
        while perf_counter() < end:
            for name, statement in statements.items():
                begin = perf_counter()
                statement()
                best[name] = min(best[name], (perf_counter() - begin) / elements)
        return best
