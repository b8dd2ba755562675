"""Checks of the optimizers' CUDA kernels that look at rows, and of the quantile: what the C++ loops find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from .optim_checks import STATES_OF_SUMS, agree, cpu_ops, sums_problem
from .optim_problems import BF16, F32, F64, PAIRS, Problem, assert_same, coefficients, problem
from .twin import Twin

Shape = int | tuple[int, ...]

# Rows of one element, of a few, for a warp, for a block, and of several blocks; numbers, and nothing in several ways.
ROWS: tuple[Shape, ...] = (
    (3, 7), 70, (), 0, (5, 0), (0, 5), (2, 40), (300, 9), (9, 2100), (2, 16385), (1, 33), (20, 2, 6), 17_000,
)  # fmt: skip
FEW: tuple[Shape, ...] = ((3, 7), 21, (), (5, 0), (2, 16385), (9, 2100))
NONE, OF_ROWS, OF_WHOLE = range(3)


def projected(
    rule: str, pair: tuple[torch.dtype, torch.dtype], rounding: int, shapes: Sequence[Shape], first: int, **changes: Any
) -> Problem:
    """A step whose parameters are projected in turn: not, by row, as a whole."""
    made = problem(rule, {"adamp": 2, "sgdp": 1}[rule], pair, rounding, shapes, **changes)
    rows = coefficients(len(shapes), 1)
    rows[4] = torch.tensor([(first + i) % 3 for i in range(len(shapes))])
    made.arguments["coefficients"] = rows
    return made


def assert_close(found: Problem, wanted: Problem) -> None:
    """To the bit, but for float64: the sums are of another order, and elsewhere their last bits are rounded away."""
    if found.arguments["params"][0].dtype != F64:
        assert_same(found, wanted)
        return
    for (name, left), (_, right) in zip(found.written(), wanted.written(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def check_projected(twin: Twin, shapes: Sequence[Shape] = ROWS, modes: int = 5) -> None:
    """Every way of projecting, whatever the dtypes; ``modes``: how many ways to round."""
    turn = itertools.cycle(range(3))
    for rule, (pair, roundings) in itertools.product(("adamp", "sgdp"), PAIRS.items()):
        for rounding in roundings[-modes:]:
            options: dict[str, Any] = {"move": next(turn) % 2, "maximize": True, "grad_scale": torch.tensor(3.0)}
            arguments = (rule, pair, rounding, shapes, next(turn))
            ours, theirs = (projected(*arguments, **options) for _ in range(2))
            if rule == "sgdp" and rounding == 0:
                for some in (ours, theirs):
                    some.arguments["hyper"][-1] = 1.0  # the momentum is projected too
            assert_close(ours.run(twin.ops), theirs.run(cpu_ops()))


def check_all_ways(twin: Twin) -> None:
    """Every shape projected in every way, with the learning rate and counters on the device and on the host."""
    for rule, first in itertools.product(("adamp", "sgdp"), range(3)):
        ours, host, theirs = (
            projected(rule, (F32, F32), 0, ROWS, first, lr=torch.tensor(0.02, dtype=F64)) for _ in range(3)
        )
        assert_close(ours.run(twin.ops), theirs.run(cpu_ops()))
        with twin.host(*(host.arguments[name] for name in ("steps", "coefficients", "lr")), capturing=True):
            assert_close(host.run(twin.ops), theirs)


def check_skipped_rows(twin: Twin) -> None:
    """A step that does not count leaves everything as it was."""
    for shapes in (FEW, (0, (5, 0))):
        for made in (
            projected("adamp", (BF16, F32), 4, shapes, 1, found_inf=torch.tensor(1.0)),
            scaled((BF16, F32), 4, shapes, found_inf=torch.tensor(1.0)),
        ):
            before = made.snapshot()
            made.run(twin.ops)
            assert all(torch.equal(tensor, before[name]) for name, tensor in made.written()), made.op
            made.arguments["found_inf"].zero_()
            assert made.run(twin.ops).arguments["steps"].tolist() == [7] * len(shapes)


def scaled(pair: tuple[torch.dtype, torch.dtype], rounding: int, shapes: Sequence[Shape], **changes: Any) -> Problem:
    """A step of rows of different sizes."""
    given = problem("sgd", 0, pair, rounding, shapes, **changes).arguments
    rows = sum(p.shape[0] if p.dim() else 1 for p in given["params"])
    sizes = torch.rand(rows, generator=torch.Generator().manual_seed(1), dtype=F64)
    names = ("params", "grads", "steps", "extra", "index", "sizes", "hyper", "grad_scale", "found_inf", "coefficients",
             "maximize", "rounding", "seed")  # fmt: skip
    given |= {"sizes": sizes, "hyper": [0.01, 0.1]}
    return Problem("optim_scaled_rows_", {name: given[name] for name in names})


def check_scaled_rows(twin: Twin, shapes: Sequence[Shape] = ROWS) -> None:
    for pair, roundings in PAIRS.items():
        for rounding, move in itertools.product(roundings, (0, 1)):
            options = {"move": move, "coefficients": coefficients(len(shapes))}
            ours, theirs = (scaled(pair, rounding, shapes, **options) for _ in range(2))
            assert_same(ours.run(twin.ops), theirs.run(cpu_ops()))
    host = scaled((F32, F32), 0, shapes)
    with twin.host(host.arguments["steps"]):
        assert_same(host.run(twin.ops), scaled((F32, F32), 0, shapes).run(cpu_ops()))


def check_row_sums(twin: Twin, shapes: Sequence[Shape] = ROWS) -> None:
    for op, pair, move in itertools.product(STATES_OF_SUMS, ((F32, F32), (BF16, BF16), (F64, F64)), (0, 1)):
        ours, theirs = (sums_problem(op, pair, sizes=shapes, move=move, by_row=True) for _ in range(2))
        found = getattr(twin.ops, ours.op)(*ours.arguments.values())
        wanted = getattr(cpu_ops(), ours.op)(*theirs.arguments.values())
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
        assert_same(ours, theirs)


def quantile_arguments(pair: tuple[torch.dtype, torch.dtype], q: float, shapes: Sequence[Shape], **changes: Any) -> Any:
    given = problem("sgd", 0, pair, 0, shapes, **changes).arguments | {"q": q}
    names = ("params", "grads", "steps", "extra", "index", "q", "grad_scale", "coefficients", "rounding")
    return [given[name] for name in names]


def check_quantile(twin: Twin, shapes: Sequence[Shape] = (21, 0, (), 1, (3, 0), 40_001, 300, 16_385)) -> None:
    """The same number: it is an order statistic, or lies between two."""
    pairs = [pair for pair in PAIRS if pair[0] in (F64, F32) or pair[1] != F32]
    rows = coefficients(len(shapes))
    rows[3] = math.inf
    for pair, q in itertools.product(pairs, (0.0, 0.37, 0.9, 1.0)):
        changes = {"grad_scale": torch.tensor(3.0), "coefficients": None if q == 1.0 else rows, "move": int(q == 0.9)}
        given = quantile_arguments(pair, q, shapes, **changes)
        with twin.host(*([rows] if q == 0.37 else []), capturing=q == 0.37):
            found = twin.ops.optim_quantile(*given)
        assert torch.equal(found, cpu_ops().optim_quantile(*given)), (pair, q)
    given = quantile_arguments((F32, F32), 0.6, (50, 20_000, 3))
    for g in given[1]:
        g[: g.numel() // 2] = g.sign()[: g.numel() // 2]  # ties
        g[-2:] = torch.tensor([math.nan, math.inf])
        g[0] = -0.0
    found = [twin.ops.optim_quantile(*given[:5], q, *given[6:]) for q in (0.2, 0.6, 1.0)]
    wanted = [cpu_ops().optim_quantile(*given[:5], q, *given[6:]) for q in (0.2, 0.6, 1.0)]
    assert torch.equal(torch.stack(found).nan_to_num(nan=-1.0), torch.stack(wanted).nan_to_num(nan=-1.0))
    assert twin.ops.optim_quantile([], [], given[2], None, torch.zeros(4, 0).long(), 0.5, None, None, 0).numel() == 0


def check_places_over_32_bits(twin: Twin) -> None:
    """Shards whose places pass a multiple of 2^32, in the middle of a block and of a vector."""
    for rule, states, shape in (("lion", 1, 3000), ("sgdp", 1, (60, 50))):
        index = problem(rule, states, sizes=(shape,)).arguments["index"]
        index = torch.cat([index, torch.tensor([[(1 << 32) - 1501]])])
        agree(twin, rule, states, (BF16, BF16), 1, sizes=(shape,), index=index)


def check_subset(twin: Twin) -> None:
    """Small sizes, every branch: what runs under the sanitizers."""
    check_projected(twin, FEW, 1)
    check_scaled_rows(twin, FEW)
    check_skipped_rows(twin)
    check_row_sums(twin, FEW)
    check_quantile(twin, (21, 0, 1, 16_385))
