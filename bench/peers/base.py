"""What one side of a comparison must offer. One file per package, one class `Peer` in it.

A peer lives in a worker process of its own (see `bench.worker`): nothing here is imported by
the harness except the class attributes, so a missing package costs one line in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar

import numpy as np


@dataclass
class Solution:
    """What a solve returns: absolute potentials, P = exp((f + g - cost) / reg)."""

    f: np.ndarray
    g: np.ndarray
    iterations: int
    finished: bool  # stopped by its own criterion, not by the iteration budget
    info: dict[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """One way to call the package, with how its stopping value relates to the target.

    `first_iterations` is the budget of the trial run that measures the cost of an iteration;
    `power` is 2 where the package compares its stopping value with a squared norm. Beyond
    `bench.race.LARGE` entries only methods marked `large` are screened, to end in reasonable time.
    """

    name: str
    first_iterations: int = 20
    power: int = 1
    large: bool = False


class BasePeer:
    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    methods: ClassVar[tuple[Method, ...]]
    cloud_methods: ClassVar[tuple[str, ...]] = ()  # with `cloud` and `cloud_steps`: online point clouds

    def versions(self) -> dict[str, str]:
        return {package: metadata.version(package) for package in self.packages}

    def start(self, threads: int) -> None:
        """Import the package and set its own thread options; raise ImportError if it is absent."""
        raise NotImplementedError

    def prepare(self, case: Any, reg: float) -> None:
        """Build the inputs in the form the package likes best. Not timed."""
        raise NotImplementedError

    def warm_up(self, method: str, tol: float, max_iter: int) -> None:
        """Compile whatever `solve` with these arguments would compile. Timed apart."""

    def solve(self, method: str, tol: float, max_iter: int) -> Solution:
        """Timed."""
        raise NotImplementedError
