"""GeomLoss (`geomloss`) with KeOps: point clouds whose cost is computed on the fly.

It has no stopping rule: an iteration count is all one can ask for. So it takes part only where
the time of an iteration is compared. Its iteration updates both potentials at once and averages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from .base import BasePeer


class Peer(BasePeer):
    name = "geomloss"
    packages = ("geomloss", "pykeops")
    methods = ()
    cloud_methods = ("keops",)

    def start(self, threads: int) -> None:
        # KeOps looks for `python3-config` of the interpreter it runs in.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        try:
            import pykeops  # noqa: F401  geomloss would silently go on without it
        except EOFError as error:
            raise ImportError("KeOps' cache is damaged: remove ~/.cache/keops* and run again") from error
        import torch
        from geomloss import ot

        torch.set_num_threads(threads)
        self.ot, self.torch = ot, torch

    def cloud(self, x: np.ndarray, y: np.ndarray, reg: float) -> None:
        self.points = (self.torch.from_numpy(x), self.torch.from_numpy(y), reg)

    def cloud_steps(self, method: str, steps: int) -> int:
        x, y, reg = self.points
        self.ot.solve_sample(x, y, reg=reg, max_iter=steps)
        return steps
