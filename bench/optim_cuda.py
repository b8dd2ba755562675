"""The optimizers' rows on a GPU: against what memory allows, torch's fused AdamW and AdEMAMix in foreach operations.

Everything runs in this process: the work is on the device. Other packages are not needed, and neither is a network. Each
rule is compared with the reference before it is timed. A line that fails, or for which no time is left, costs its figures
and not the run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

import fastcore_ops
from bench.context import Context
from bench.device import Function, host_seconds, profiled, race, waits_for_device
from bench.optim_lists import LISTS, Shape
from bench.optim_race import MORE_RULES, RULES, SAME, elements, ours, side, verdict
from bench.peers.optim_sides import make_step
from bench.report import Row
from bench.timing import Spread, seconds
from fastcore_ops import _backend

DEVICE = torch.device("cuda")
WARM_UP = 3  # steps that are not counted: they make states
MOST_SECONDS = 150  # since the start; what would begin later is left out
STARTED = time.perf_counter()

ELEMENTWISE = ("AdamW", "SGD", "Lion", "Adagrad", "AdEMAMix", "AdaBelief", "DiffGrad", "MADGRAD")
FUSED = {"torch fused AdamW": side("torch", "AdamW", {"fused": True})}
FOREACH = {"foreach AdEMAMix": side("loops", "ForeachAdEMAMix")}
SMALL = {"ours": ours("AdamW"), **FUSED}
OTHERS = {"AdamW": (FUSED, "1.0 / 1.1"), "AdEMAMix": (FOREACH, "3 / 4")}
COLUMNS = ("case", "ours", "against", "its figure", "compared", "at least / aim")


# Sides ---------------------------------------------------------------------------------------------------------------


def parameters(shapes: Iterable[Shape], dtype: str = "float32") -> list[torch.Tensor]:
    """Equal numbers at every call, gradients included."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    made = []
    for shape in shapes:
        p, g = (torch.randn(shape, device=DEVICE, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
        p.requires_grad_().grad = g
        made.append(p)
    return made


def stepper(one: dict[str, Any], shapes: Iterable[Shape]) -> Function:
    """A side's `step` over parameters of its own, past the first ones."""
    step = make_step(one, parameters(shapes, one.get("dtype", "float32")))
    for _ in range(WARM_UP):
        step()
    return step


def replayer(one: dict[str, Any], shapes: Iterable[Shape]) -> Function:
    """The same step as a CUDA graph."""
    step = stepper(one | {"options": one["options"] | {"capturable": True}}, shapes)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(keep: Function = step) -> None:  # the graph writes to memory that the optimizer owns
        graph.replay()

    replay()
    return replay


def apart(rule: str, options: dict[str, Any]) -> float:
    """Mean difference from the reference after the first steps of a block of GPT-2, over the mean change."""
    shapes = LISTS["gpt2"]()[2:14]
    results = []
    for fused in (None, False):
        params = parameters(shapes)
        step = make_step(ours(rule, options | {"fused": fused}), params)
        for _ in range(WARM_UP):
            step()
        results.append(params)
    change = difference = 0.0
    with torch.no_grad():
        for p, q, start in zip(*results, parameters(shapes), strict=True):
            change += float((q - start).abs().sum())
            difference += float((p - q).abs().sum())
    return difference / change if change else float("inf")


# Lines ---------------------------------------------------------------------------------------------------------------


def guarded(row: Row, case: str, line: Function) -> None:
    try:
        gc.collect()  # optimizers are in cycles, with all their states
        torch.cuda.empty_cache()
        if time.perf_counter() - STARTED > MOST_SECONDS:
            raise TimeoutError("no time is left")
        line()
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}".splitlines()[0][:90]
        row.add([case, reason, *[""] * (len(row.columns) - 2)], {"case": case, "failed": reason})


def lists(found: dict[str, Spread]) -> dict[str, list[float]]:
    return {name: list(spread.times) for name, spread in found.items()}


def opened(context: Context, number: int, title: str, columns: tuple[str, ...] = COLUMNS) -> Row:
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device here")
    backend = next((name for name in ("cuda", "triton") if _backend.available(name)), None)
    if backend is None:
        raise RuntimeError("the kernels for this device are absent: python -m fastcore_ops says why")
    properties = torch.cuda.get_device_properties(DEVICE)
    context.versions.update(fastcore_ops=fastcore_ops.__version__, torch=torch.__version__)
    context.facts.update(
        gpu=properties.name, gpu_memory_gb=round(properties.total_memory / 1e9),
        multiprocessors=properties.multi_processor_count, torch_cuda=str(torch.version.cuda), backend=backend,
    )  # fmt: skip
    row = Row(number, title, columns)
    row.note(f"ours: the {backend} kernels; times on the device by events, the host ahead of it, median of the rounds")
    return row


def versus(row: Row, context: Context, case: str, make: Callable[[str], Function], other: str, bar: str) -> None:
    """Ours against another side. `bar` is what is asked for at least, and aimed at; "-" asks for nothing."""
    found = race(row, context, case, {name: make(name) for name in ("ours", other)})
    ratio = found[other].median / found["ours"].median
    gates = not bar.startswith("-")
    row.add(
        [case, str(found["ours"]), other, str(found[other]), verdict(f"{ratio:.2f} x", ratio, bar, gates), bar],
        {"case": case, "ratio": ratio, "gate": float(bar.split()[0]) if gates else None, "gates": gates,
         "against": other, "times": lists(found)},
    )  # fmt: skip


def share(row: Row, context: Context, name: str, options: dict[str, Any], updated: int, read: int) -> None:
    error = apart(name, options)
    if not error < SAME:
        raise ArithmeticError(f"WRONG: {error:.1e} of the way apart from the reference")
    x = torch.ones(elements("gpt2"), device=DEVICE)

    def bound() -> None:
        for _ in range(updated):
            x.mul_(1.0)
        for _ in range(read):
            x.sum()

    found = race(row, context, name, {"ours": stepper(ours(name, options), LISTS["gpt2"]()), "bound": bound})
    percent = 100 * min(found["bound"].times) / found["ours"].median
    row.add(
        [name, str(found["ours"]), "bound", seconds(min(found["bound"].times)),
         verdict(f"{percent:.0f} %", percent, "85", True), "85 / 92 %"],
        {"case": f"{name} gpt2", "share": percent / 100, "bytes": 4 * (2 * updated + read) * x.numel(), "apart": error,
         "times": lists(found)},
    )  # fmt: skip


# Rows ----------------------------------------------------------------------------------------------------------------


def _stepper_of(sides: dict[str, Any], key: str) -> Function:
    return stepper(sides[key], LISTS["gpt2"]())


def elementwise(context: Context) -> Row:
    """Row 10: rules of one pass over the tensors of a small GPT-2."""
    row = opened(context, 10, "One step over GPT-2's 148 tensors, float32, on the GPU")
    known = {rule[0]: rule for rule in (*RULES, *MORE_RULES)}
    for name in ELEMENTWISE:
        guarded(row, name, partial(share, row, context, *known[name]))
    for name, (other, bar) in OTHERS.items():
        sides = {"ours": ours(name)} | other
        guarded(row, name, partial(versus, row, context, name, partial(_stepper_of, sides), next(iter(other)), bar))
    row.note(
        "bound: an in-place multiplication for each stream that is updated, a sum for each that is only read; best"
    )
    return row


def _small(make: Callable[[dict[str, Any], Iterable[Shape]], Function], key: str) -> Function:
    return make(SMALL[key], LISTS["many_small"]())


def _count(row: Row, case: str, found: dict[str, Any], most: float | None = None, words: str = "{:g}") -> None:
    other = next(key for key in SMALL if key != "ours")
    mine, theirs = (words.format(found[key]) for key in ("ours", other))
    bar = "" if most is None else f"{most:g}"
    cells = [case, verdict(mine, found["ours"], bar, True, at_most=True) if bar else mine, other, theirs, ""]
    record = {key: list(one.times) if isinstance(one, Spread) else one for key, one in found.items()}
    row.add([*cells, bar and f"at most {bar}"], {"case": case, "found": record})


def _profiles(row: Row, case: str, make: Callable[[str], Function], most: float | None) -> None:
    found = {key: profiled(make(key)) for key in SMALL}
    for what, limit in (("kernels", most), ("copies", None), ("waits", 0)):
        _count(row, f"{what} of {case}", {key: one[what] for key, one in found.items()}, limit)


def _waits(row: Row, case: str, make: Callable[[str], Function]) -> None:
    _count(row, case, {key: int(waits_for_device(make(key))) for key in SMALL}, 0)


def _wall(row: Row, case: str, make: Callable[[str], Function]) -> None:
    _count(row, case, {key: host_seconds(make(key), 51) for key in SMALL}, words="{}")


def small(context: Context) -> Row:
    """Row 11: 2000 tensors of 256, where the launches are what a step costs."""
    row = opened(context, 11, "One AdamW step over 2000 tensors of 256, float32, on the GPU")
    other, eager, replay = next(iter(FUSED)), partial(_small, stepper), partial(_small, replayer)
    lines: dict[str, Function] = {
        "a step": lambda: versus(row, context, "a step", eager, other, "2"),
        "a graph's replay": lambda: versus(row, context, "a graph's replay", replay, other, "- / 4"),
        "a step() on the host": lambda: _wall(row, "a step() on the host", eager),
        "waits that torch finds": lambda: _waits(row, "waits that torch finds", eager),
        "profile of a step": lambda: _profiles(row, "a step", eager, 1),
        "profile of a replay": lambda: _profiles(row, "a replay", replay, None),
    }
    for case, line in lines.items():
        guarded(row, case, line)
    row.note("kernels, copies and waits of a step or replay: by torch.profiler; the waits that torch finds: 1 for any")
    return row


def rounding(context: Context) -> Row:
    """Row 12: bfloat16 parameters, by the way they are rounded. Nothing is promised there."""
    columns = ("rounding", "time", "float32", "over float32")
    title = "One AdamW step over GPT-2's tensors in bfloat16 with float32 states, over the float32 step, on the GPU"
    row = opened(context, 12, title, columns)
    shapes = LISTS["gpt2"]()

    def line(mode: str) -> None:
        narrow = ours("AdamW", {"state_dtype": "float32", "rounding": mode}, dtype="bfloat16")
        sides = {mode: narrow, "float32": ours("AdamW")}
        found = race(row, context, mode, {name: stepper(one, shapes) for name, one in sides.items()})
        over = found[mode].median / found["float32"].median
        row.add(
            [mode, str(found[mode]), str(found["float32"]), f"{over:.2f}"],
            {"case": f"AdamW bfloat16 {mode}", "over_float32": over, "times": lists(found)},
        )

    for mode in ("nearest", "stochastic", "kahan", "split_master"):
        guarded(row, mode, partial(line, mode))
    return row


# 11 last: whatever the profiler leaves behind, the other rows are measured
BENCHES: dict[int, Callable[[Context], Row]] = {10: elementwise, 12: rounding, 11: small}
