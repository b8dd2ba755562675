"""Rows of the figures that others take from all pairs: the exact distance, KID, the permutation test."""

from __future__ import annotations

from typing import Any

from bench.context import Context
from bench.mmd_race import COLUMNS, race, side, the_worker, versus
from bench.report import Row
from bench.timing import Worker

MEGABYTE = 1e6


def exact(context: Context) -> Row:
    """Row 7: value and gradient in x of the energy distance."""
    row = Row(7, "Exact energy distance with its gradient in x, float32, against the best of the others", COLUMNS)
    n = 1000 if context.quick else 5000
    problem: dict[str, Any] = {"n": n, "d": 64}
    compared = {
        "ours": side("ours_exact"), "torch.cdist": side("cdist", screen=True),
        "torch.cdist of differences": side("cdist", mode="donot_use_mm_for_euclid_dist", screen=True),
        "geomloss tensorized": side("geomloss", backend="tensorized", screen=True),
        "geomloss online": side("geomloss", backend="online", screen=True),
    }  # fmt: skip
    for threads in context.threads:
        found = race(context, threads, problem, compared | {"instructions": side("differences")}, 20.0)
        versus(row, context, threads, f"N = M = {n}, d = 64", found, ["instructions"], "2 / 4")
    asked = {name: one for name, one in compared.items() if name not in found.missing}
    errors = the_worker(context, threads).ask("call", timeout=1800, name="energy_values", problem=problem, sides=asked)
    for name, error in errors["value"].items():
        row.note(f"{name}: relative error of the value {error['value']:.1e}, of the gradient {error['gradient']:.1e}")
    row.records[-1]["errors"] = errors["value"]
    row.note(
        "instructions: a product of matrices with as many multiply-adds as the differences need instructions: for each pair "
        "and coordinate two for the distance and as many for the gradient, three where both points have one"
    )
    return row


def kid(context: Context) -> Row:
    """Row 8: KID over subsets of features."""
    row = Row(
        8, "KID, 100 subsets of 1000, 2048 features (normal, clipped at 0), against torchmetrics",
        (*COLUMNS, "error, whole sets", "error, subsets", "at most"),
    )  # fmt: skip
    problem: dict[str, Any] = {"n": 1500 if context.quick else 5000, "d": 256 if context.quick else 2048}
    problem["clipped"] = True
    sides = {"ours": side("ours_kid"), "torchmetrics": side("torchmetrics"), "GEMM": side("grams")}
    errors: dict[str, float] = {}
    for threads in context.threads:
        found = race(context, threads, problem, sides, 40.0)
        if not errors:
            answer = the_worker(context, threads).ask("call", timeout=1800, name="kid_errors", problem=problem)
            errors = answer["value"]
        name = "N = M = {n}, {d} features".format(**problem)
        versus(row, context, threads, name, found, ["GEMM"], "2 / 5", same=None)
        worst = max(errors["whole sets"], errors["subsets"])
        row.lines[-1] += [
            f"{errors['whole sets']:.1e}", f"{errors['subsets']:.1e}", "1e-4" if worst <= 1e-4 else "1e-4 **short**"
        ]  # fmt: skip
        row.records[-1] |= {"errors": errors}
        print(f"  errors {errors}", flush=True)
    row.note(
        "errors are relative: of the estimate from the whole sets against torch in float64, of the mean over subsets against "
        "the same subsets of float64 features; y is shifted as everywhere"
    )
    row.note("GEMM: the Gram matrices of the whole sets, symmetric ones by half; torchmetrics: three of each subset")
    return row


def permutations(context: Context) -> Row:
    """Row 9: the permutation test, and its memory."""
    row = Row(
        9, "Permutation test against one matrix of distances with all labellings through one product",
        (*COLUMNS, "extra memory of ours", "of theirs", "p of ours", "of theirs"),
    )  # fmt: skip
    problem: dict[str, Any] = {"n": 1000 if context.quick else 10_000, "d": 10, "slices": 32}
    many = {"permutations": 199 if context.quick else 999}
    ours, dense = side("ours_test", **many), side("dense_test", **many)
    bounds = {"sort": side("sort"), "labels": side("labels", **many)}
    for threads in context.threads:
        found = race(context, threads, problem, {"ours": ours, "dense": dense} | bounds, 30.0)
        name = "N + M = {}, d = 10, P = 32, B = {}".format(2 * problem["n"], many["permutations"])
        versus(row, context, threads, name, found, ["sort", "labels"], "10 / 30", same=None)
        answers = [_once(threads, problem, one) for one in (ours, dense)]
        row.lines[-1] += [f"{answer['extra_bytes'] / MEGABYTE:.0f} MB" for answer in answers]
        row.lines[-1] += [f"{answer['value'][0]:.4f}" for answer in answers]
        row.records[-1] |= {"extra_bytes": [answer["extra_bytes"] for answer in answers]}
        print("  " + " | ".join(row.lines[-1][-4:]), flush=True)
    row.note(
        "labels: a word of 64 labels read for each point, slice and 64 labellings; sort: key and index copied three times. "
        "All draw their labellings themselves. The dense statistic is exact, ours sliced"
    )
    row.note("p: at this shift no labelling comes near the observed one, and both must be 1 / (B + 1)")
    return row


def _once(threads: int | None, problem: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """Answer, time and memory of one call in a process of its own."""
    worker = Worker("mmd_ours", threads)
    try:
        worker.ask("call", name="once", problem=problem | {"n": 100}, side=one)
        worker.ask("call", name="points", problem=problem)
        answer: dict[str, Any] = worker.ask("call", name="once", problem=problem, side=one)
        return answer
    finally:
        worker.close()
