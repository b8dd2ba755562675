"""Cases of the operators whose steps need sums, and of the sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import _backend
from ..testing.cases import Case, Inputs, Outputs, Tolerance
from ._flat import layout_code
from ._op_inputs import (
    SHAPES,
    bad_inputs,
    drawn,
    filled,
    index,
    plain_rows,
    rows,
    run_step,
    run_sums,
    step_inputs,
    sums_inputs,
    truth_of,
    written,
)
from ._ops import PROJECTED, SUMS, TWO_PHASE
from ._reference_step import make_step
from ._reference_sums import make_projected_step, make_sums, quantile, scaled_rows

_STATES_OF_SUMS = {"keep": 1, "dog_sums": 1, "sania_sums": 1, "fedspeed_sums": 2}
_WAYS = [0.0, 1.0, 1.0, 2.0, 2.0]  # not projected; rows of one element; a number; nothing; as a whole


def _sums_truth(op: str) -> Callable[..., Outputs]:
    measure = make_sums(SUMS[op])

    def reference(**inputs: Any) -> Outputs:
        found = {"sums": measure(*inputs.values())}
        return found | {k: v for k, v in written(inputs).items() if k == "states"}

    return reference


def _row_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    draw = drawn(dtype, device, seed)
    count = sum(shape[0] if shape else 1 for shape in SHAPES)
    plain: Inputs = {
        "params": [draw(*shape) for shape in SHAPES],
        "grads": [draw(*shape) for shape in SHAPES],
        "steps": filled(6.0, device),
        "extra": None,
        "index": index(),
        "sizes": draw(count).double().abs(),
        "hyper": [0.01, 0.1],
        "grad_scale": None,
        "found_inf": None,
        "coefficients": None,
        "maximize": False,
        "rounding": 0,
        "seed": 0,
    }
    codes = [layout_code(torch.empty(shape, device="meta")) for shape in ((2, 40_000), (300, 250))]
    large = {
        "params": [draw(2, 40_000), draw(300, 250)],
        "grads": [draw(2, 40_000), draw(300, 250)],
        "index": torch.tensor([[0, 80_000], [0, 1], [0, 1], codes]),
        "sizes": draw(302).double().abs(),
    }
    scaled = {
        "grad_scale": torch.tensor(4.0, device=device),
        "coefficients": rows(0).to(device),
        "maximize": True,
    }
    return {
        "plain": plain,
        "long_rows": plain | large,
        "skipped": plain | {"found_inf": torch.tensor(1.0, device=device)},
        "prologue": plain | scaled,
    }


def _quantile_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    draw = drawn(dtype, device, seed)
    plain: Inputs = {
        "params": [draw(*shape) for shape in SHAPES],
        "grads": [draw(*shape) for shape in SHAPES],
        "steps": torch.full((len(SHAPES),), 6.0),
        "extra": None,
        "index": index(),
        "q": 0.9,
        "grad_scale": None,
        "coefficients": None,
        "rounding": 0,
    }
    codes = [layout_code(torch.empty(size, device="meta")) for size in (70_001, 9)]
    places = torch.tensor([[0, 70_016], [0, 1], [0, 1], codes])
    ties = {"params": [draw(70_001), draw(9)], "grads": [draw(70_001).mul(4).round(), draw(9).sign()], "index": places}
    return {
        "small": plain,
        "in_pieces": plain | ties | {"grads": [draw(70_001), draw(9)], "q": 0.123},
        "ties": plain | ties,
        "largest": plain | {"q": 1.0},
        "prologue": plain | {"grad_scale": torch.tensor(4.0), "coefficients": rows(0)},
    }


def _projected_inputs(op: str) -> Callable[[torch.dtype, str, int], dict[str, Inputs]]:
    usual = step_inputs(PROJECTED[op], _WAYS)

    def inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
        draw, made = drawn(dtype, device, seed), usual(dtype, device, seed)
        plain = made["later_step"]
        shapes = ((3, 40_000), (300, 250), (170_000,))
        starts = (0, 120_000, 195_008)
        codes = [layout_code(torch.empty(shape, device="meta")) for shape in shapes]
        coefficients = plain_rows(1, _WAYS)
        assert coefficients is not None
        pieces = {
            "params": [draw(*shape) for shape in shapes],
            "grads": [draw(*shape) for shape in shapes],
            "states": [draw(365_056).square() for _ in plain["states"]],
            "index": torch.tensor([starts, range(3), range(3), codes]),
            "coefficients": torch.cat([coefficients[:4, :3], torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64)]).to(
                device
            ),
        }
        return {"in_pieces": plain | pieces} | made

    return inputs


CASES = (
    [
        Case(
            name=f"optim_{op}",
            api=run_sums(f"optim_{op}"),
            reference=_sums_truth(op),
            inputs=sums_inputs(sums, _STATES_OF_SUMS.get(op, 0)),
            tolerance={"sums": Tolerance(5, worst=2.79), "states": Tolerance(2, worst=0.81)},
            main_op=f"optim_{op}",
            ops=(f"optim_{op}",),
            bad_inputs=bad_inputs(f"optim_{op}", sums_inputs(sums, _STATES_OF_SUMS.get(op, 0)), "whole"),
        )
        for op, sums in SUMS.items()
    ]
    + [
        Case(
            name=f"optim_{op}_",
            api=run_step(f"optim_{op}_"),
            reference=truth_of(make_projected_step(rule) if op in PROJECTED else make_step(rule)),
            inputs=_projected_inputs(op) if op in PROJECTED else step_inputs(rule),
            tolerance={
                "params": Tolerance(4, worst=1.19),
                "states": Tolerance(2, worst=0.81),
                "steps": Tolerance(0, worst=0),
            },
            main_op=f"optim_{op}_",
            ops=(f"optim_{op}_",),
            bad_inputs=bad_inputs(f"optim_{op}_", step_inputs(rule), "later_step"),
        )
        for op, rule in (TWO_PHASE | PROJECTED).items()
    ]
    + [
        Case(
            name="optim_quantile",
            api=lambda backend, **given: {
                "quantile": _backend.pick("optim_quantile", given["params"][0].device, backend, main=True)(
                    *given.values()
                )
            },
            reference=lambda **given: {"quantile": quantile(*given.values())},
            inputs=_quantile_inputs,
            tolerance={"quantile": Tolerance(2, worst=0.6)},
            main_op="optim_quantile",
            ops=("optim_quantile",),
            bad_inputs=bad_inputs("optim_quantile", _quantile_inputs, "small"),
        ),
        Case(
            name="optim_scaled_rows_",
            api=run_step("optim_scaled_rows_"),
            reference=truth_of(scaled_rows),
            inputs=_row_inputs,
            tolerance={"params": Tolerance(2, worst=1.19), "steps": Tolerance(0, worst=0)},
            main_op="optim_scaled_rows_",
            ops=("optim_scaled_rows_",),
            bad_inputs=bad_inputs("optim_scaled_rows_", _row_inputs, "plain"),
        ),
    ]
)
