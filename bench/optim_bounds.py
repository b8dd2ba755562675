"""Rows of the optimizers that compare a step with what memory allows, and one way of rounding with another."""

from __future__ import annotations

from typing import Any

from bench.context import Context
from bench.optim_race import MORE_RULES, RULES, existing, ours, race, side, verdict
from bench.report import Row

_NOTE = (
    "bound: one in-place multiplication for each stream that is updated, one sum for each that is only read, of as many "
    "elements, interleaved with the steps; medians of both"
)


BARS = {"AdamP": "75 / 85 %", "SGDP": "75 / 85 %", "AdaGradNorm": "", "SANIA": "", "FedSpeed": ""}


def _lists(context: Context) -> tuple[str, ...]:
    return ("resnet50",) if context.quick else ("resnet50", "gpt2")


def _share_row(number: int, title: str) -> Row:
    return Row(
        number, title, ("rule", "list", "threads", "time", "bound", "share of the bound's speed", "at least / aim")
    )


def _share(
    row: Row,
    context: Context,
    threads: int | None,
    parameters: str,
    rule: tuple[str, dict[str, Any], int, int],
    bar: str,
) -> None:
    name, options, updated, read = rule
    streams = side("streams", "", updated=updated, read=read)
    found = race(context, threads, parameters, {"ours": ours(name, options), "bound": streams})
    time, bound = found.spread["ours"], found.spread["bound"].median
    share = bound / time.median
    row.add(
        [name, parameters, context.thread_name(threads), str(time), f"{bound * 1e3:.3g} ms",
         verdict(f"{100 * share:.0f} %", 100 * share, bar, threads == 1, found.noisy), bar if threads == 1 else ""],
        {"case": f"{name} {parameters}", "threads": threads or "all", "share": share, "noisy": found.noisy,
         "bytes": 4 * (2 * updated + read), "streams": found.streams, "times": found.lists()},
    )  # fmt: skip


def shares(context: Context) -> Row:
    """Row 1: every rule of one plain pass against what reading and updating as many streams takes."""
    row = _share_row(1, "One step, float32, against reading and updating as many streams in the same run")
    for parameters in _lists(context):
        for threads in context.threads:
            for rule in RULES[:4] if context.quick else RULES:
                _share(row, context, threads, parameters, rule, "85 / 95 %")
    row.note(_NOTE)
    return row


def more_shares(context: Context) -> Row:
    """Row 2: rules that look at parameter and gradient before they step, and those that divide by a cube root."""
    row = _share_row(2, "The same of rules with a pass that only reads, or with a cube root")
    have = existing(context)
    for parameters in _lists(context):
        for threads in context.threads:
            for rule in MORE_RULES:
                if rule[0] in have:
                    bar = BARS.get(rule[0], "85 / 92 %")
                    _share(row, context, threads, parameters, rule, bar)
    row.note(_NOTE + "; what a first pass reads counts as read once more")
    absent = [rule[0] for rule in MORE_RULES if rule[0] not in have]
    if absent:
        row.note(f"not there yet: {', '.join(absent)}")
    return row


def rounding(context: Context) -> Row:
    """Row 7: bfloat16 parameters, by the way they are rounded, against the float32 step."""
    row = Row(
        7, "One AdamW step over bfloat16 parameters with float32 states, over the float32 step",
        ("rounding", "list", "threads", "time", "float32", "over float32", "over nearest", "at most"),
    )  # fmt: skip
    wide: dict[str, Any] = {"state_dtype": "float32"}
    sides = {"float32": ours("AdamW", {})} | {
        mode: ours("AdamW", wide | {"rounding": mode}, dtype="bfloat16")
        for mode in ("nearest", "stochastic", "kahan", "split_master")
    }
    most = {"nearest": "0.9 of float32", "stochastic": "1.2 of nearest", "kahan": "1.2 of nearest",
            "split_master": "1.15 of nearest"}  # fmt: skip
    for threads in context.threads:
        found = race(context, threads, "resnet50", sides)
        for mode, limit in most.items():
            time, gates = found.spread[mode], threads == 1
            over = {base: time.median / found.spread[base].median for base in ("float32", "nearest")}
            texts = {
                base: verdict(
                    f"{value:.2f}", value, limit if limit.endswith(base) else "", gates, found.noisy, at_most=True
                )
                for base, value in over.items()
            }
            row.add(
                [mode, "resnet50", context.thread_name(threads), str(time), str(found.spread["float32"]),
                 texts["float32"], texts["nearest"], limit if gates else ""],
                {"case": f"AdamW bfloat16 {mode}", "threads": threads or "all", "over_float32": over["float32"],
                 "over_nearest": over["nearest"], "noisy": found.noisy, "times": found.lists()},
            )  # fmt: skip
    return row
