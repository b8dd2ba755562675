"""Checks of the optimizers' CUDA kernels: the bits of the C++ loops, whatever the sizes, addresses and places.

As a program, under a sanitizer: python -m tests.cuda_on_cpu.optim_checks MODE
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from fastcore_ops.optim._flat import layout_code
from fastcore_ops.optim._ops import RULES, SUMS
from fastcore_ops.optim._reference_sums import make_sums
from fastcore_ops.optim._switches import MASTER, STOCHASTIC

from .optim_problems import (
    BF16,
    COMBINATIONS,
    F16,
    F32,
    F64,
    PAIRS,
    SIZES,
    VARIANTS,
    Problem,
    assert_same,
    coefficients,
    problem,
)
from .twin import Twin

SOME = (("adam", 3), ("nadam", 2), ("sgd", 0), ("madgrad", 3), ("fedspeed", 3))
SANITIZED = (("sgd", 0), ("diffgrad", 3), ("madgrad", 3))  # see twin.MORE_OF_THE_SAME


def cpu_ops() -> Any:
    importlib.import_module("fastcore_ops._C")
    return torch.ops.fastcore_ops


def agree(twin: Twin, *arguments: Any, **changes: Any) -> Problem:
    """One step of the C++ loops and one of the CUDA kernel."""
    found = problem(*arguments, **changes).run(twin.ops)
    assert_same(found, problem(*arguments, **changes).run(cpu_ops()))
    return found


def check_rules(twin: Twin, combinations: Iterable[tuple[Any, ...]], sizes: Sequence[int] = SIZES) -> None:
    for rule, states, pair, rounding in combinations:
        agree(twin, rule, states, pair, rounding, sizes)


def check_first_step(twin: Twin) -> None:
    for rule, states in VARIANTS:
        agree(twin, rule, states, sizes=(40,), step=0.0)


def check_prologue(twin: Twin) -> None:
    """Coefficients, direction, learning rate and scale, each on the device and on the host."""
    for (rule, states), pair, dtype in itertools.product(SOME, PAIRS, (F32, F64)):
        changes = {
            "coefficients": coefficients(len(SIZES), RULES[rule].numbers),
            "maximize": True,
            "lr": torch.tensor(0.02, dtype=dtype),
            "grad_scale": torch.tensor(3.0, dtype=dtype),
            "found_inf": torch.tensor(0.0, dtype=dtype),
        }
        found = agree(twin, rule, states, pair, **changes)
        tensors = [value for value in changes.values() if isinstance(value, torch.Tensor)]
        with twin.host(*tensors):
            assert_same(problem(rule, states, pair, **changes).run(twin.ops), found)
        for name in ("coefficients", "lr", "grad_scale"):
            if name == "coefficients" and RULES[rule].numbers:
                continue
            left_out = problem(rule, states, pair, **(changes | {name: None})).run(cpu_ops())
            assert not torch.equal(left_out.arguments["params"][5], found.arguments["params"][5]), name


def check_found_inf(twin: Twin) -> None:
    """A step that does not count leaves everything as it was, and the next one is none the wiser."""
    for (rule, states), pair in itertools.product(VARIANTS, ((F32, F32), (BF16, BF16))):
        rounding = MASTER if pair[0] == BF16 else 0
        skipped = problem(rule, states, pair, rounding, found_inf=torch.tensor(1.0))
        before = skipped.snapshot()
        for on_host in (False, True):
            with twin.host(*([skipped.arguments["found_inf"]] if on_host else [])):
                skipped.run(twin.ops)
            for name, tensor in skipped.written():
                assert torch.equal(tensor, before[name]), (rule, name)
        skipped.arguments["found_inf"].zero_()
        assert_same(skipped.run(twin.ops), problem(rule, states, pair, rounding).run(cpu_ops()))


def check_counters(twin: Twin) -> None:
    """Counters on the device and on the host, several steps long; other counters stay."""
    for (rule, states), dtype, rounding in itertools.product(VARIANTS, (F32, F64), (0, STOCHASTIC)):
        pair = (BF16, BF16) if rounding else (F32, F32)
        device, host, truth = (problem(rule, states, pair, rounding, (40, 0, 3), scalars=dtype) for _ in range(3))
        device.arguments["steps"][1] = host.arguments["steps"][1] = truth.arguments["steps"][1] = 2
        kept = [
            host.arguments[name] for name in ("steps", "products", "coefficients") if host.arguments[name] is not None
        ]
        for _ in range(3):
            truth.run(cpu_ops())
            assert_same(device.run(twin.ops), truth)
            with twin.host(*kept):
                host.run(twin.ops)
            assert_same(host, truth)
    some = problem("adam", 2, sizes=(5, 6))
    some.arguments["steps"] = torch.tensor([3.0, 3.0, 3.0])
    some.arguments["index"][1] = torch.tensor([2, 0])
    assert some.run(twin.ops).arguments["steps"].tolist() == [4, 3, 4]


def check_graph(twin: Twin) -> None:
    """While a graph is recorded the table travels in kernel arguments; replays go on from the counters."""
    for sizes in (SIZES, [3] * 200, [1] * 900):
        truth, captured = (problem("nadam", 2, sizes=sizes, coefficients=coefficients(len(sizes))) for _ in range(2))
        for _ in range(2):
            with twin.host(captured.arguments["coefficients"], capturing=True):
                captured.run(twin.ops)
            assert_same(captured, truth.run(cpu_ops()))


def check_misaligned(twin: Twin) -> None:
    for (rule, states), (pair, modes), move in itertools.product(SOME, PAIRS.items(), (1, 8)):
        agree(twin, rule, states, pair, modes[-1], move=move)


def check_edges(twin: Twin) -> None:
    """Nothing at all, nothing but empty parameters, whose counters advance, and numbers that are not."""
    assert agree(twin, "adam", 2, sizes=(0, 0, 0)).arguments["steps"].tolist() == [7, 7, 7]
    agree(twin, "nadam", 2, sizes=(0,))
    twin.ops.optim_adam_(*(problem("adam", 2, sizes=()).arguments | {"index": torch.zeros(4, 0).long()}).values())
    for (rule, states), pair in itertools.product(SOME, PAIRS):
        found = [problem(rule, states, pair, mode, (40,)) for mode in PAIRS[pair] for _ in range(2)]
        for some in found:
            for tensor in (some.arguments["params"][0], some.arguments["grads"][0]):
                tensor[:6] = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 1e-38]).to(tensor.dtype)
                tensor[3:9:2] *= torch.finfo(tensor.dtype).max
        for ours, theirs in zip(found[::2], found[1::2], strict=True):
            assert_same(ours.run(twin.ops), theirs.run(cpu_ops()))


def check_many(twin: Twin) -> None:
    """Lists longer than a block has threads, and longer than the square of that."""
    agree(twin, "nadam", 2, sizes=[(7 * i) % 5 for i in range(3000)])
    agree(twin, "sgd", 1, sizes=[3 * (i % 900 == 899) for i in range(70_000)])
    agree(twin, "lion", 1, sizes=[0] * 700 + [5] + [0] * 700)


def check_bad_places(twin: Twin) -> None:
    """Memory that kernels do not reach, and counters that nobody could advance."""
    flags = {"found_inf": torch.tensor(0.0), "lr": torch.tensor(0.1)}
    rows = coefficients(len(SIZES))
    cases = [
        ("params", lambda a: a["params"][5:6]),
        ("grads", lambda a: a["grads"][5:6]),
        ("states", lambda a: a["states"][1:]),
        ("extra", lambda a: [a["extra"]]),
        ("found_inf", lambda a: [a["steps"], a["products"], a["lr"]]),
        ("lr", lambda a: [a["steps"], a["products"], a["found_inf"]]),
        ("products", lambda a: [a["steps"], a["lr"], a["found_inf"]]),
    ]
    for name, on_host in cases:
        some = problem("nadam", 2, (BF16, F32), MASTER, coefficients=rows, **flags)
        before = some.snapshot()
        message = ""
        with twin.host(*on_host(some.arguments)):
            try:
                some.run(twin.ops)
            except RuntimeError as error:
                message = str(error)
        assert "optim_nadam_" in message, (name, "accepted")
        assert f"`{name}`" in message, (name, message)
        assert all(torch.equal(tensor, before[key]) for key, tensor in some.written()), name


STATES_OF_SUMS = {
    "dots": 0, "squares": 0, "gradient_squares": 0, "keep": 1, "dog_sums": 1, "sania_sums": 1, "fedspeed_sums": 2,
}  # fmt: skip
LIKE_PARAMETER_OF_SUMS = {"dog_sums": 0, "fedspeed_sums": 1}


def sums_problem(op: str, pair: tuple[torch.dtype, torch.dtype], rounding: int = 0, **options: Any) -> Problem:
    """The arguments of a step, as an operator of sums has them."""
    by_row = options.pop("by_row", False)
    hyper = [0.01, 0.9, 0.1, 0.2]
    changes = {"coefficients": coefficients(len(options.get("sizes", SIZES))), "hyper": hyper} | options
    given = problem("sgd", STATES_OF_SUMS[op], pair, rounding, **changes).arguments
    if (like := LIKE_PARAMETER_OF_SUMS.get(op)) is not None:
        given["states"][like] = given["states"][like].to(pair[0])
    del given["products"]
    return Problem(f"optim_{op}", given | {"by_row": by_row})


def check_sums(twin: Twin, shapes: Sequence[int] = SIZES) -> None:
    """Sums to rounding, the states that some of them write to the bit; nothing but those is written."""
    for op, (pair, modes) in itertools.product(STATES_OF_SUMS, PAIRS.items()):
        for rounding, move in [*((mode, 0) for mode in modes), (modes[-1], 1)]:
            ours, theirs = (sums_problem(op, pair, rounding, move=move, sizes=shapes) for _ in range(2))
            found = getattr(twin.ops, ours.op)(*ours.arguments.values())
            wanted = getattr(cpu_ops(), ours.op)(*theirs.arguments.values())
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
            assert_same(ours, theirs)


def check_kept_at_random(twin: Twin) -> None:
    """Random bits of a state that sums write are those of the step that comes, as in the reference."""
    for pair in ((BF16, BF16), (F16, F16)):
        ours, theirs = (
            sums_problem("keep", pair, STOCHASTIC, coefficients=None, sizes=(70, 3), hyper=[0.01]) for _ in range(2)
        )
        twin.ops.optim_keep(*ours.arguments.values())
        make_sums(SUMS["keep"])(*theirs.arguments.values())
        assert_same(ours, theirs)


def check_skipped_and_row_sums(twin: Twin) -> None:
    for op, inputs in itertools.product(STATES_OF_SUMS, ({"found_inf": torch.tensor(1.0)}, {"by_row": True})):
        ours, theirs = (sums_problem(op, (F32, F32), sizes=(70, 0, 3), **inputs) for _ in range(2))
        for some in (ours, theirs):
            if "by_row" in inputs:
                for name in ("params", "grads"):
                    some.arguments[name][0] = some.arguments[name][0].view(7, 10)
                some.arguments["index"][3] = torch.tensor([layout_code(p) for p in some.arguments["params"]])
        found = getattr(twin.ops, ours.op)(*ours.arguments.values())
        wanted = getattr(cpu_ops(), ours.op)(*theirs.arguments.values())
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        assert found.shape[1] == (10 if "by_row" in inputs else 3)
        assert_same(ours, theirs)
    some = sums_problem("dots", (F32, F32)).arguments | {"params": [], "grads": [], "index": torch.zeros(4, 0).long()}
    assert twin.ops.optim_dots(*(some | {"coefficients": None}).values()).shape == (3, 0)


def check_subset(twin: Twin) -> None:
    """Small sizes, every branch: what runs under the sanitizers."""
    check_rules(twin, [c for c in COMBINATIONS if c[:2] in SANITIZED], (21, 0, 16385))
    check_counters_of_one(twin)
    check_misaligned_of_one(twin)
    check_sums(twin, (21, 0, 16385))
    check_skipped_and_row_sums(twin)
    agree(twin, "lion", 1, sizes=[2] * 300)


def check_counters_of_one(twin: Twin) -> None:
    host, truth = problem("adagrad", 1, sizes=(5, 0)), problem("adagrad", 1, sizes=(5, 0))
    with twin.host(host.arguments["steps"], capturing=True):
        assert_same(host.run(twin.ops), truth.run(cpu_ops()))


def check_misaligned_of_one(twin: Twin) -> None:
    for pair, modes in PAIRS.items():
        agree(twin, "madgrad", 2, pair, modes[-1], sizes=(30, 1), move=1, coefficients=coefficients(2))


if __name__ == "__main__":
    from . import optim_row_checks
    from .twin import ORDERS

    torch.set_num_threads(1)
    loaded = Twin(sys.argv[1])
    for order in ORDERS[: 1 if sys.argv[1] == "tsan" else 2]:
        loaded.configure(order)
        check_subset(loaded)
        optim_row_checks.check_subset(loaded)
    print("all checks passed")
