"""Clocks and counters of a GPU: seconds on the device, kernels, copies, and what the host waits for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.context import Context
from bench.report import Row
from bench.timing import Spread, interleave

ROUNDS = 51
TICKS = 2e9  # of the device's clock in a second, roughly: only the host's head start depends on it
LONGEST_HEAD = 0.02  # seconds
WAITS = re.compile(r"cuda(Device|Stream|Event)Synchronize|cudaMemcpy")

Function = Callable[[], Any]


def host_seconds(function: Function, repeats: int = 9) -> Spread:
    """Until the call is back, the device being idle at its beginning."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    torch.cuda.synchronize()
    return Spread(tuple(times))


class Clock:
    """Seconds on the device by events. It is kept busy first, so that the time that the host needs is not in them."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.head = min(2 * median(host_seconds(function, 5).times) + 1e-4, LONGEST_HEAD)
        self.late = 0  # figures that the host's time may be in

    def __call__(self) -> float:
        for _ in range(4):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(int(self.head * TICKS))
            begin.record()
            self.function()
            end.record()
            late = begin.query()  # the device was there before the host had said everything
            torch.cuda.synchronize()
            if not late:
                break
            self.head = min(2 * self.head, LONGEST_HEAD)
        self.late += late
        return float(begin.elapsed_time(end)) * 1e-3


def race(row: Row, context: Context, case: str, functions: dict[str, Function]) -> dict[str, Spread]:
    """Times on the device in interleaved rounds."""
    rounds = 11 if context.quick else ROUNDS
    clocks = {name: Clock(function) for name, function in functions.items()}
    found = interleave(clocks, rounds)
    for name, clock in clocks.items():
        if clock.late:
            row.note(f"{case}, {name}: the device waited for the host in {clock.late} of {rounds} rounds")
    return found


def counted(events: Iterable[Any], steps: int) -> dict[str, float]:
    """Kernels and copies of a step on the device, and calls of the host that wait for it, from a profile of several."""
    kernels = copies = waits = 0
    for event in events:
        if event.device_type != DeviceType.CPU:
            is_range = getattr(event, "is_user_annotation", False) or event.name.startswith(("Optimizer.", "Profiler"))
            is_copy = event.name.startswith(("Memcpy", "Memset"))
            copies += is_copy
            kernels += not (is_range or is_copy)
        elif WAITS.fullmatch(event.name):
            waits += 1
    # the profile's own end waits too, once or twice: not once in each step
    return {"kernels": kernels / steps, "copies": copies / steps, "waits": waits // steps}


def profiled(function: Function, steps: int = 10) -> dict[str, float]:
    for _ in range(2):  # a process's first profile may miss what comes at its beginning
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(steps):
                function()
            torch.cuda.synchronize()
    found = counted(profiler.events(), steps)
    if not found["kernels"]:
        raise RuntimeError("torch.profiler saw no kernels")
    return found


def waits_for_device(step: Function) -> bool:
    """Whether torch finds a step waiting for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False
