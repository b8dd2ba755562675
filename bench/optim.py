"""The optimizers' promises on a CPU. One thread is what counts; all threads are reported."""

from __future__ import annotations

from collections.abc import Callable

from bench.context import Context
from bench.optim_bounds import more_shares, rounding, shares
from bench.optim_machine import allocations, oversubscribed
from bench.optim_versus import fused, pytorch_optimizer, releases, small
from bench.report import Row

PEERS: tuple[str, ...] = ()  # all sides run in our own process: see bench/peers/optim_sides.py

BENCHES: dict[int, Callable[[Context], Row]] = {
    1: shares,
    2: more_shares,
    3: releases,
    4: pytorch_optimizer,
    5: fused,
    6: small,
    7: rounding,
    8: oversubscribed,
    9: allocations,
}
