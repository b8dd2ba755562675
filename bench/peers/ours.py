"""`fastcore_ops` itself, asked the same way as its peers, and what only it can be asked."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .base import BasePeer, Method, Solution


class Peer(BasePeer):
    name = "ours"
    packages = ("torch", "numpy")
    methods = (Method("auto", 10_000),)
    cloud_methods = ("sinkhorn",)

    def start(self, threads: int) -> None:
        import torch

        import fastcore_ops

        torch.set_num_threads(threads)
        warnings.simplefilter("ignore", fastcore_ops.ConvergenceWarning)
        self.fo, self.torch = fastcore_ops, torch

    def versions(self) -> dict[str, str]:
        return {"fastcore_ops": self.fo.__version__, **super().versions()}

    def prepare(self, case: Any, reg: float) -> None:
        tensor = self.torch.from_numpy
        self.cost, self.a, self.b, self.reg = tensor(case.cost()), tensor(case.a), tensor(case.b), reg
        self.log_a, self.log_b = np.log(case.a), np.log(case.b)

    def warm_up(self, method: str, tol: float, max_iter: int) -> None:
        self.solve(method, 1e-1, max_iter)

    def solve(self, method: str, tol: float, max_iter: int) -> Solution:
        result = self.fo.sinkhorn_newton(
            self.cost, self.a, self.b, reg=self.reg, tol=tol, method=method, max_passes=max_iter
        )
        info = {
            "passes": result.n_passes,
            "newton": result.n_newton,
            "cg": result.n_cg,
            "status": result.status,
            "claimed_error": float(result.marginal_error),
            "density": _last(result.history, "density"),
        }
        f = np.asarray(result.f) + self.reg * self.log_a
        g = np.asarray(result.g) + self.reg * self.log_b
        return Solution(f, g, result.n_passes, bool(result.converged), info)

    def row_pass(self, n: int, seconds: float) -> dict[str, Any]:
        """Times of one dense float64 row pass, and the two bounds it is held against."""
        from torch.utils.benchmark import Timer

        from bench import ceilings
        from fastcore_ops import _native

        torch = self.torch
        generator = torch.Generator().manual_seed(n)
        cost = torch.rand(n, n, dtype=torch.float64, generator=generator)
        g, a = torch.zeros(n, dtype=torch.float64), torch.full((n,), 1.0 / n, dtype=torch.float64)
        op = _native.handle("ot_row_pass")
        arguments = (cost, None, 0, None, None, g, a, 0.05)
        timer = Timer("op(*arguments)", globals={"op": op, "arguments": arguments},
                      num_threads=torch.get_num_threads())  # fmt: skip
        measured = timer.blocked_autorange(min_run_time=seconds)
        threads = torch.get_num_threads()
        source, exp = ceilings.exp_seconds_per_entry(torch.float64, threads)
        read = ceilings.read_bandwidth(threads, cost.numel() * 8)
        return {
            "times": sorted(measured.times),
            "read_bound": cost.numel() * 8 / read,
            "exp_bound": cost.numel() * exp,
            "exp_source": source,
        }

    def cloud(self, x: np.ndarray, y: np.ndarray, reg: float) -> None:
        """Keep two float32 point clouds for `cloud_steps`."""
        self.points = (self.torch.from_numpy(x), self.torch.from_numpy(y), reg)

    def cloud_steps(self, method: str, steps: int) -> int:
        """Sinkhorn iterations on the kept clouds; returns how many were made."""
        x, y, reg = self.points
        result = self.fo.sinkhorn(self.fo.ot.PointCloud(x, y), reg=reg, tol=1e-30, max_passes=steps, eps_scaling=False)
        return int(result.n_passes)


def _last(history: list[dict[str, Any]], key: str) -> float | None:
    values = [record[key] for record in history if record.get(key) is not None]
    return float(values[-1]) if values else None
