"""Cases of the split into bfloat16 parts: their sums are the numbers that were split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import Case, Inputs, Outputs, Tolerance
from . import _reference_split as reference


def _inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Float32 whatever the dtype: rows or columns from the middle on, aligned and not, and beyond the end."""
    found: dict[str, Inputs] = {}
    sizes = {
        "aligned": (12, 40, 4, 8),
        "odd": (7, 33, 3, 4),
        "beyond": (6, 20, 4, 8),
        "whole": (5, 5, 0, 5),
        "one": (1, 1, 0, 1),
    }
    for name, (rows, columns, first, count) in sizes.items():
        generator = torch.Generator().manual_seed(seed + rows)
        x = torch.randn(rows, columns, generator=generator).to(device)
        shift = torch.randn(1, columns, generator=generator).to(device)
        where = {"first": first, "count": count}
        found[name] = {"x": x, "shift": shift, **where, "stacked": False, "partner": False}
        found[f"{name}_partner"] = {"x": x, "shift": None, **where, "stacked": False, "partner": True}
        columns_of = {"x": x.t().contiguous(), "shift": None, **where, "stacked": True}
        found[f"{name}_stacked"] = {**columns_of, "partner": False}
        found[f"{name}_stacked_partner"] = {**columns_of, "partner": True}
    return found


def _sums(parts: Tensor, stacked: bool, partner: bool) -> Outputs:
    """What the three parts add up to, and the sum of the three copies of the largest one."""
    order = reference.PARTNER_PARTS if partner else reference.PARTS
    terms = torch.stack(parts.double().chunk(len(order), 0 if stacked else 1))
    largest = torch.tensor([k for k, part in enumerate(order) if part == 0], device=parts.device)
    each = torch.tensor([order.index(part) for part in range(3)], device=parts.device)
    return {"sum": terms[each].sum(0), "copies": terms[largest].sum(0)}


def _api(backend: str, **arguments: Any) -> Outputs:
    split = _backend.pick("mmd_split", arguments["x"].device, backend, main=True)
    return _sums(split(*arguments.values()), arguments["stacked"], arguments["partner"])


def _truth(x: Tensor, shift: Tensor | None, first: int, count: int, stacked: bool, partner: bool) -> Outputs:
    numbers = x.float() if shift is None else x.float() - shift.float()
    rows = (numbers.t() if stacked else numbers)[first : first + count].double()
    whole = torch.cat([rows, rows.new_zeros(count - rows.shape[0], rows.shape[1])])
    whole = whole.t() if stacked else whole
    return {"sum": whole, "copies": 3 * whole.to(torch.bfloat16).double()}


SPLIT_CASES = [
    Case(
        name="mmd_split",
        api=_api,
        reference=_truth,
        inputs=_inputs,
        tolerance={"sum": Tolerance(0.0, worst=0.0), "copies": Tolerance(0.0, worst=0.0)},
        main_op="mmd_split",
        ops=("mmd_split",),
    )
]
