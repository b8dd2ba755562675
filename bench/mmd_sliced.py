"""Rows of the sliced distance: ranks, gradients, value and both gradients, memory."""

from __future__ import annotations

from typing import Any

from bench.context import Context
from bench.mmd_race import COLUMNS, race, side, the_worker, versus
from bench.optim_race import verdict
from bench.report import Row
from bench.timing import Worker

MEGABYTE = 1e6
RECIPE = "three sorts"
IID_BOUNDS = {"GEMM": side("gemm"), "sort": side("sort"), "transfer": side("transfer")}
_SORT = "sort: key and index of each projected point copied three times, as a sort by eleven-bit digits does at least"
_TRANSFER = "transfer: projections and gradients of a block of slices written and read once"
_BOUNDS = f"bounds, timed in the same rounds: GEMM: the same products by torch, block by block; {_SORT}; {_TRANSFER}"


def _point(context: Context, d: int = 784) -> dict[str, Any]:
    return {"n": 2000, "d": d, "slices": 128} if context.quick else {"n": 20_000, "d": d, "slices": 1000}


def _name(point: dict[str, Any]) -> str:
    return "N = M = {n}, d = {d}, P = {slices}".format(**point)


def ranks(context: Context) -> Row:
    """Row 1: the operator alone on projections."""
    row = Row(1, "Gradient in x of 64 projected slices, float32, against the three-sort recipe in torch", COLUMNS)
    sides = {"ours": side("ours_rank"), RECIPE: side("torch_rank")}
    bounds = {"sort": side("sort"), "bytes": side("read_write"), "NumPy, keys alone": side("numpy_sort")}
    for n in (1000, 4000) if context.quick else (1000, 20_000):
        for threads in context.threads:
            found = race(context, threads, {"n": n, "d": 64, "slices": 64}, sides | bounds, 8.0, attempts=3)
            versus(row, context, threads, f"N = M = {n}", found, ["sort"], "15 / 25", list(bounds)[1:])
    row.note(
        f"{_SORT}; bytes: projections read once, gradients written once; NumPy: its sort of the projections without indices"
    )
    return row


def _gradient_line(row: Row, context: Context, point: dict[str, Any], bar: str) -> None:
    sides = {"ours": side("ours_gradient"), RECIPE: side("torch_gradient")}
    for threads in context.threads:
        found = race(context, threads, point, sides | IID_BOUNDS, 40.0)
        versus(row, context, threads, _name(point), found, ["GEMM", "sort"], bar, ["transfer"])


def gradient(context: Context) -> Row:
    """Row 2: the whole gradient, independent slices."""
    row = Row(2, "Gradient in x, the same independent slices, float32, against matmul and three sorts", COLUMNS)
    _gradient_line(row, context, _point(context), "5 / 7")
    row.note(_BOUNDS)
    return row


def low_dimensions(context: Context) -> Row:
    """Row 4: the same where products are cheap."""
    row = Row(4, "As row 2, at d = 16 and 64", COLUMNS)
    for d in (16, 64):
        _gradient_line(row, context, _point(context, d), "14 / 22")
    row.note(_BOUNDS)
    return row


def hadamard(context: Context) -> Row:
    """Row 3: Hadamard slices, and their error."""
    row = Row(
        3, "Gradient in x with Hadamard slices, against matmul and three sorts of as many independent ones",
        (*COLUMNS, "gradient error", "independent", "over independent", "at most"),
    )  # fmt: skip
    point = _point(context)
    draws = 1 if context.quick else 3
    sides = {"ours": side("ours_hadamard"), RECIPE: side("torch_gradient")}
    bounds = {"sort": side("sort"), "transfer": side("transfer")}
    errors: dict[str, float] = {}
    for threads in context.threads:
        found = race(context, threads, point, sides | bounds, 40.0)
        if not errors:
            asked: dict[str, Any] = {"problem": point, "draws": draws, "rows": 100}
            errors = the_worker(context, threads).ask("call", timeout=1800, name="gradient_errors", **asked)["value"]
        versus(row, context, threads, _name(point), found, ["sort", "transfer"], "12 / 18", same=None)
        over = errors["hadamard"] / errors["independent"]
        row.lines[-1] += [
            f"{errors['hadamard']:.3f}", f"{errors['independent']:.3f}",
            verdict(f"{over:.2f}", over, "0.65", True, at_most=True), "0.65",
        ]  # fmt: skip
        row.records[-1] |= {"errors": errors, "over_independent": over}
        print(f"  gradient errors {errors}", flush=True)
    row.note(
        f"gradient error: relative, root mean square of {draws} draw(s), at 100 points, against the exact gradient in float64 "
        "from direct differences"
    )
    row.note(f"{_SORT}; {_TRANSFER}; the transform needs no product of matrices")
    return row


def both(context: Context) -> Row:
    """Row 5: value and both gradients over one gradient."""
    row = Row(
        5, "Value and gradients in x and y, over the gradient in x alone, independent slices",
        ("case", "threads", "all of them", "x alone", "over x alone", "at most / aim", "bounds"),
    )  # fmt: skip
    point = _point(context)
    sides = {"ours": side("ours_both"), "x alone": side("ours_gradient")}
    bounds = {"GEMM": side("gemm", both=True), "GEMM of x alone": side("gemm")}
    for threads in context.threads:
        found = race(context, threads, point, sides | bounds, 30.0)
        over = found.median("ours") / found.median("x alone")
        bar = "1.5 / 1.3" if threads == 1 else ""
        row.add(
            [_name(point), context.thread_name(threads), str(found.spread["ours"]), str(found.spread["x alone"]),
             verdict(f"{over:.2f} x", over, bar, threads == 1, found.noisy, at_most=True), bar,
             ", ".join(found.text(name) for name in bounds)],
            {"case": _name(point), "threads": threads or "all", "over_x_alone": over, "noisy": found.noisy,
             "times": found.lists(), "apart": found.apart},
        )  # fmt: skip
    row.note("GEMM: three products for the gradient in x, four for both")
    return row


def memory(context: Context) -> Row:
    """Row 6: what a call takes on top of its points."""
    row = Row(
        6, "Peak memory of one gradient in x on top of points and directions",
        ("case", "threads", "side", "extra memory", "at most / aim"),
    )  # fmt: skip
    point = _point(context)
    sides = {
        "ours": side("ours_gradient"), "ours, Hadamard": side("ours_hadamard"),
        "ours, value and both gradients": side("ours_both"), "matmul and three sorts": side("torch_gradient"),
    }  # fmt: skip
    for threads in context.threads:
        for name, one in sides.items():
            extra = _extra(threads, point, one)
            bar = "300 / 120 MB" if name == "ours" else ""
            row.add(
                [_name(point), context.thread_name(threads), name,
                 verdict(f"{extra / MEGABYTE:.0f} MB", extra / MEGABYTE, bar, True, at_most=True), bar],
                {"case": name, "threads": threads or "all", "extra_bytes": extra},
            )  # fmt: skip
    row.note(
        "each in a process of its own, after a small call: the peak of its resident memory (VmHWM) less what was resident "
        f"before; the gradient itself is {4 * point['n'] * point['d'] / MEGABYTE:.0f} MB"
    )
    return row


def _extra(threads: int | None, point: dict[str, Any], one: dict[str, Any]) -> int:
    worker = Worker("mmd_ours", threads)
    try:
        small = point | {"n": 200, "slices": 130}
        worker.ask("call", name="once", problem=small, side=one)
        worker.ask("call", name="points", problem=point)
        return int(worker.ask("call", name="once", problem=point, side=one)["extra_bytes"])
    finally:
        worker.close()
