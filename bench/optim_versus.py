"""Rows of the optimizers against other packages: releases of the rules' authors, pytorch_optimizer, torch."""

from __future__ import annotations

from typing import Any

from bench.context import Context
from bench.optim_race import COLUMNS, existing, ours, side, skip, versus
from bench.report import Row

# rule, our options, the release's (None: no release on PyPI, the loop of bench.peers.optim_loops), at least / aim
RELEASES: tuple[tuple[str, dict[str, Any], dict[str, Any] | None, str], ...] = (
    ("AdEMAMix", {}, None, "5 / 8"),
    ("AdamP", {"lr": 1e-3}, {"lr": 1e-3}, "5 / 8"),
    ("DiffGrad", {}, {}, "5 / 8"),
    ("AdaBelief", {}, {"print_change_log": False}, "4 / 6"),
    ("MADGRAD", {}, {}, "4 / 6"),
    ("Grams", {}, {}, "4 / 6"),
)

# rule -> our options, pytorch_optimizer's name and options for the same rule
SAME_IN_PYTORCH_OPTIMIZER: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "SGD": ({"lr": 1e-3, "momentum": 0.9}, "SGDW", {"lr": 1e-3, "momentum": 0.9}),
    "Lion": ({"lr": 1e-4}, "Lion", {"lr": 1e-4}),
    "RAdam": ({"lr": 1e-3}, "RAdam", {"lr": 1e-3, "degenerated_to_sgd": True}),
    "AdaBelief": ({"lr": 1e-3, "rectify": False}, "AdaBelief", {"lr": 1e-3}),
    "Grams": ({"lr": 1e-3}, "Grams", {"lr": 1e-3}),
    "AdEMAMix": ({"lr": 1e-3, "alpha": 5.0}, "AdEMAMix", {"lr": 1e-3, "alpha": 5.0}),
    "DiffGrad": ({"lr": 1e-3}, "DiffGrad", {"lr": 1e-3}),
    "MADGRAD": ({"lr": 1e-2}, "MADGRAD", {"lr": 1e-2}),
    "AdamP": ({"lr": 1e-3}, "AdamP", {"lr": 1e-3}),
    "SGDP": ({"lr": 1e-1, "momentum": 0.9}, "SGDP", {"lr": 1e-1, "momentum": 0.9}),
}
TORCHS_OWN = {"Adam", "AdamW", "NAdam"}  # pytorch_optimizer hands on torch's class


def releases(context: Context) -> Row:
    """Row 3: what the authors of the rules have released."""
    row = Row(3, "One step, float32, against the authors' release: torch operations, a tensor at a time", COLUMNS)
    have = existing(context)
    for threads in context.threads:
        for rule, options, theirs, bar in RELEASES:
            if rule not in have:
                skip(row, context, threads, "resnet50", rule, "we do not have it yet", bar)
                continue
            peer = side("loops", "LoopAdEMAMix") if theirs is None else side("release", rule, theirs)
            name = "loop" if theirs is None else "release"
            versus(row, context, threads, "resnet50", rule, {"ours": ours(rule, options), name: peer}, bar, same=True)
    row.note(
        "releases: adamp, adabelief-pytorch, madgrad, grams-pytorch (its step writes into the gradient), torch-optimizer's "
        "DiffGrad for diffGrad; of AdEMAMix there is none on PyPI, and the loop is ours, written as published code is"
    )
    return row


def pytorch_optimizer(context: Context) -> Row:
    """Row 4: every rule that pytorch_optimizer has of its own, by its fastest eager path; its compiled one beside it."""
    row = Row(4, "One step, float32, against pytorch_optimizer", COLUMNS)
    have = existing(context)
    for threads in context.threads:
        for rule in sorted(have, key=str.lower):
            if rule not in SAME_IN_PYTORCH_OPTIMIZER:
                why = "it hands on torch's own class" if rule in TORCHS_OWN else "it does not have the rule"
                skip(row, context, threads, "resnet50", rule, why)
                continue
            options, name, theirs = SAME_IN_PYTORCH_OPTIMIZER[rule]
            paths = {path: side("pytorch_optimizer", name, theirs, path=path) for path in ("foreach", "loop")}
            versus(row, context, threads, "resnet50", rule, {"ours": ours(rule, options), **paths}, "4 / 6", same=True)
    row.note(
        "the faster of foreach=True and foreach=False counts; AdaBelief without rectification, which has no foreach there"
    )
    if not context.quick:
        _compiled(row, context)
    return row


def _compiled(row: Row, context: Context) -> None:
    """Its steps compiled, over a shorter list of tensors: on the long one a compilation takes minutes."""
    have = existing(context)
    for threads in context.threads:
        for rule, (options, name, theirs) in SAME_IN_PYTORCH_OPTIMIZER.items():
            if rule in have:
                sides = {
                    "ours": ours(rule, options),
                    "compiled": side("pytorch_optimizer", name, theirs, path="compiled"),
                }
                versus(row, context, threads, "transformer", f"{rule}, compiled", sides, "", same=True)
    row.note("compiled: as its create_optimizer(compile=True) does, before the clock starts; nothing is promised there")


def fused(context: Context) -> Row:
    """Row 5: the rules that torch has fused, and AdamW compiled from its foreach form."""
    row = Row(5, "One step, float32, against torch with fused=True, and compiled", COLUMNS)
    for parameters in ("resnet50",) if context.quick else ("resnet50", "gpt2"):
        for threads in context.threads:
            for rule, options in (("AdamW", {}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})):
                sides = {"ours": ours(rule, options), "fused": side("torch", rule, options | {"fused": True})}
                versus(row, context, threads, parameters, rule, sides, "1.0 / 1.15", same=True)
    for threads in context.threads:
        if context.quick:
            skip(row, context, threads, "resnet50", "AdamW, compiled", "--quick compiles nothing", "2 / 2.5")
            continue
        sides = {"ours": ours("AdamW"), "compiled foreach": side("torch compiled", "AdamW")}
        versus(row, context, threads, "resnet50", "AdamW, compiled", sides, "2 / 2.5", same=True)
    row.note("compiled: torch.compile of the step of torch.optim.AdamW(foreach=True), before the clock starts")
    return row


def small(context: Context) -> Row:
    """Row 6: what a step costs where the tensors are small."""
    row = Row(6, "One step over 2000 tensors of 256, float32, the whole of step()", COLUMNS)
    torch_fused = {"torch fused AdamW": side("torch", "AdamW", {"fused": True})}
    torch_foreach = {"torch foreach AdamW": side("torch", "AdamW", {"foreach": True})}
    foreach = {"foreach AdEMAMix": side("loops", "ForeachAdEMAMix")}
    for threads in context.threads:
        for rule, what, others, bar, same in (
            ("AdamW", "", torch_fused, "3 / 5", True),
            ("AdamW", ", foreach", torch_foreach, "3 / 5", True),
            ("AdEMAMix", "", torch_fused, "3 / 5", False),
            ("AdEMAMix", ", foreach", foreach, "10 / 20", True),
        ):
            versus(row, context, threads, "many_small", rule + what, {"ours": ours(rule), **others}, bar, same=same)
    row.note("foreach AdEMAMix: written here with torch._foreach operations, in bench/peers/optim_loops.py")
    return row
