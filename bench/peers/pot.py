"""POT (`ot`): the four NumPy Sinkhorn loops. Every call also forms the dense plan."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from .base import BasePeer, Method, Solution


class Peer(BasePeer):
    name = "pot"
    packages = ("POT", "numpy")
    methods = (
        Method("sinkhorn", 50, large=True),
        Method("sinkhorn_stabilized", 50, large=True),
        Method("sinkhorn_log", 5),
        Method("sinkhorn_epsilon_scaling", 36, power=2),
    )

    def start(self, threads: int) -> None:
        hidden = [p for p in ("geomloss", "jax", "tensorflow", "cupy") if p not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
        import ot.bregman  # it would import every array library it finds

        for package in hidden:
            del sys.modules[package]
        self.ot = ot.bregman
        warnings.filterwarnings("ignore", module="ot")
        np.seterr(all="ignore")

    def prepare(self, case: Any, reg: float) -> None:
        self.a, self.b, self.cost, self.reg = case.a, case.b, case.cost(), reg

    def solve(self, method: str, tol: float, max_iter: int) -> Solution:
        function = {"sinkhorn": self.ot.sinkhorn_knopp}.get(method) or getattr(self.ot, method)
        _, log = function(
            self.a, self.b, self.cost, self.reg,
            stopThr=tol, numItermax=max_iter, log=True, warn=False,
        )  # fmt: skip
        iterations = int(log["n_iter"] if "n_iter" in log else log["niter"]) + 1
        finished = bool(log["err"]) and log["err"][-1] <= tol
        if "alpha" in log:
            f, g = log["alpha"], log["beta"]
        elif "log_u" in log:
            f, g = self.reg * log["log_u"], self.reg * log["log_v"]
        else:
            f, g = self.reg * np.log(log["u"]), self.reg * np.log(log["v"])
        return Solution(np.asarray(f), np.asarray(g), iterations, finished)
