"""The kernel distances' promises on a CPU. One thread is what counts; all threads are reported.

x is normal, y normal with 0.3 added to every coordinate. D² is half of MMD² on all sides.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.context import Context
from bench.mmd_dense import exact, kid, permutations
from bench.mmd_sliced import both, gradient, hadamard, low_dimensions, memory, ranks
from bench.report import Row

PEERS: tuple[str, ...] = ()  # all sides run in our own process: see bench/peers/mmd_sides.py

BENCHES: dict[int, Callable[[Context], Row]] = {
    1: ranks,
    2: gradient,
    3: hadamard,
    4: low_dimensions,
    5: both,
    6: memory,
    7: exact,
    8: kid,
    9: permutations,
}
