"""RegOT (`regot`): sparse Newton, quasi-Newton and first-order solvers in C++ (one thread)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import BasePeer, Method, Solution


class Peer(BasePeer):
    name = "regot"
    packages = ("regot",)
    methods = (
        Method("ssns", 3, large=True),
        Method("newton", 2),
        Method("splr", 3, large=True),
        Method("sparse_newton", 3),
        Method("bcd", 5, large=True),
        Method("lbfgs_dual", 5),
        Method("apdagd", 5),
    )

    def start(self, threads: int) -> None:
        import regot

        self.regot = regot

    def prepare(self, case: Any, reg: float) -> None:
        self.a, self.b, self.reg = case.a, case.b, reg
        self.cost = np.asfortranarray(case.cost())

    def solve(self, method: str, tol: float, max_iter: int) -> Solution:
        function = getattr(self.regot, f"sinkhorn_{method}")
        result = function(self.cost, self.a, self.b, self.reg, tol=tol, max_iter=max_iter)
        n = len(self.a)
        dual = np.asarray(result.dual)
        f, g = dual[:n], np.append(dual[n:], 0.0)
        return Solution(f, g, int(result.niter), int(result.niter) < max_iter)
