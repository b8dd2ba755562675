"""The optimizers' promises on a CPU. One thread is what counts; all threads are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.context import Context
from bench.report import Row
from bench.timing import Spread

PEERS: tuple[str, ...] = ()  # torch itself, in our own process
NOISE = 0.20

# rule, options, streams that are updated in place, streams that are only read (the gradient; MADGRAD's x0)
RULES: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("SGD", {"momentum": 0.9}, 2, 1),
    ("Lion", {}, 2, 1),
    ("Adagrad", {}, 2, 1),
    ("AdamW", {}, 3, 1),
    ("Adam", {"amsgrad": True}, 4, 1),
    ("NAdam", {}, 3, 1),
    ("RAdam", {}, 3, 1),
    ("AdaBelief", {}, 3, 1),
    ("Grams", {}, 3, 1),
    ("AdEMAMix", {}, 4, 1),
    ("DiffGrad", {}, 4, 1),
    ("MADGRAD", {}, 3, 2),
    ("MirrorMADGRAD", {}, 3, 1),
    ("ExponentiatedGradient", {"form": "adamw"}, 3, 1),
)


def _ours(rule: str, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"package": "ours", "rule": rule, "options": options, **more}


def _torch(rule: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"package": "torch", "rule": rule, "options": options}


def _race(
    context: Context, threads: int | None, parameters: str, sides: dict[str, dict[str, Any]]
) -> tuple[dict[str, Spread], bool, dict[str, float]]:
    """Times of each side, whether another program disturbed them, and the bound of a stream read and updated."""
    worker = context.worker("optim_ours", threads)
    if not worker.versions:
        worker.start()
    context.versions.update(worker.versions)
    seconds = 0.3 if context.quick else 1.0
    for _ in range(3):
        before = worker.ask("call", name="bandwidth", elements=1 << 24, seconds=0.2)["value"]
        times = worker.ask("call", name="race", parameters=parameters, sides=sides, seconds=seconds)["value"]
        after = worker.ask("call", name="bandwidth", elements=1 << 24, seconds=0.2)["value"]
        noisy = any(max(before[k], after[k]) / min(before[k], after[k]) - 1 > NOISE for k in before)
        if not noisy:
            break
    streams = {k: min(before[k], after[k]) for k in before}
    return {name: Spread(tuple(values)) for name, values in times.items()}, noisy, streams


def _elements(parameters: str) -> int:
    from math import prod

    from bench.optim_lists import LISTS

    return sum(prod(shape) for shape in LISTS[parameters]())


def shares(context: Context) -> Row:
    """Row 1: every rule against what reading and updating as many streams takes."""
    row = Row(
        1, "One step, float32, against reading and updating as many streams in the same run",
        ("rule", "list", "threads", "time", "bound", "share of the bound's speed", "at least / aim"),
    )  # fmt: skip
    lists = ("resnet50",) if context.quick else ("resnet50", "gpt2")
    for parameters in lists:
        for threads in context.threads:
            for rule, options, updated, read in RULES if not context.quick else RULES[:4]:
                spread, noisy, streams = _race(context, threads, parameters, {"ours": _ours(rule, options)})
                bound = _elements(parameters) * (updated * streams["update"] + read * streams["read"])
                share = bound / spread["ours"].median
                bar = ("75 / 92 %" if "MADGRAD" in rule else "85 / 95 %") if threads == 1 else ""
                row.add(
                    [rule, parameters, context.thread_name(threads), str(spread["ours"]), f"{bound * 1e3:.3g} ms",
                     "noisy" if noisy else f"{100 * share:.0f} %", bar],
                    {"case": f"{rule} {parameters}", "threads": threads or "all", "share": share, "noisy": noisy,
                     "streams": streams, "times": list(spread["ours"].times)},
                )  # fmt: skip
    row.note("bound: one in-place multiplication for each stream that is updated, one sum for each that is only read")
    return row


def _versus(
    row: Row,
    context: Context,
    threads: int | None,
    parameters: str,
    name: str,
    sides: dict[str, dict[str, Any]],
    bar: str,
) -> None:
    spread, noisy, _ = _race(context, threads, parameters, sides)
    best = min((other for other in sides if other != "ours"), key=lambda other: spread[other].median)
    ratio = spread[best].median / spread["ours"].median
    gate = float(bar.split(" / ")[0])
    row.add(
        [name, parameters, context.thread_name(threads), str(spread["ours"]),
         "; ".join(f"{other} {spread[other]}" for other in sides if other != "ours"),
         "noisy" if noisy else f"{ratio:.2f} x", bar if threads == 1 else ""],
        {"case": f"{name} {parameters}", "threads": threads or "all", "ratio": None if noisy else ratio, "raw_ratio": ratio,
         "gate": gate, "gates": threads == 1, "noisy": noisy, "times": {k: list(v.times) for k, v in spread.items()}},
    )  # fmt: skip


_COLUMNS = ("rule", "list", "threads", "ours", "others", "others / ours", "at least / aim")


def fused(context: Context) -> Row:
    """Row 5: the rules that torch has fused."""
    row = Row(5, "One step, float32, against torch with fused=True", _COLUMNS)
    for parameters in ("resnet50",) if context.quick else ("resnet50", "gpt2"):
        for threads in context.threads:
            for rule, options in (("AdamW", {}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})):
                sides = {"ours": _ours(rule, options), "fused": _torch(rule, options | {"fused": True})}
                _versus(row, context, threads, parameters, rule, sides, "1.0 / 1.15")
    return row


def small(context: Context) -> Row:
    """Row 6: what a step costs where the tensors are small."""
    row = Row(6, "One step over 2000 tensors of 256, float32, the whole of step()", _COLUMNS)
    for threads in context.threads:
        for rule in ("AdamW", "AdEMAMix"):
            sides = {"ours": _ours(rule, {}), "torch fused AdamW": _torch("AdamW", {"fused": True})}
            _versus(row, context, threads, "many_small", rule, sides, "3 / 5")
        sides = {"ours": _ours("AdamW", {}), "torch foreach AdamW": _torch("AdamW", {"foreach": True})}
        _versus(row, context, threads, "many_small", "AdamW", sides, "3 / 5")
    return row


def rounding(context: Context) -> Row:
    """Row 7: bfloat16 parameters, by the way they are rounded, against the float32 step."""
    row = Row(
        7, "One AdamW step over bfloat16 parameters with float32 states, over the float32 step",
        ("rounding", "list", "threads", "time", "float32", "over float32", "at most"),
    )  # fmt: skip
    wide: dict[str, Any] = {"state_dtype": "float32"}
    sides = {"float32": _ours("AdamW", {})} | {
        mode: _ours("AdamW", wide | {"rounding": mode}, dtype="bfloat16")
        for mode in ("nearest", "stochastic", "kahan", "split_master")
    }
    most = {
        "nearest": "0.9",
        "stochastic": "1.2 of nearest",
        "kahan": "1.2 of nearest",
        "split_master": "1.15 of nearest",
    }
    for threads in context.threads:
        spread, noisy, _ = _race(context, threads, "resnet50", sides)
        for mode, limit in most.items():
            ratio = spread[mode].median / spread["float32"].median
            row.add(
                [mode, "resnet50", context.thread_name(threads), str(spread[mode]), str(spread["float32"]),
                 "noisy" if noisy else f"{ratio:.2f}", limit if threads == 1 else ""],
                {"case": f"AdamW bfloat16 {mode}", "threads": threads or "all", "over_float32": ratio, "noisy": noisy,
                 "times": {k: list(v.times) for k, v in spread.items()}},
            )  # fmt: skip
    return row


BENCHES: dict[int, Callable[[Context], Row]] = {1: shares, 5: fused, 6: small, 7: rounding}
