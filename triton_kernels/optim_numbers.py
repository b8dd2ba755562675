"""The numbers of one step: a row of float64 for each parameter, gradient's prologue first, then its rule's scalars.

Step counters and running products advance here. All in torch operations, on the GPU if anything that a row is made of
is there: nothing is read back.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .optim_scalars import PREPARE, nadam_momentum
from .optim_tables import Arguments, Plan, to_device


def reads_on_host(tensor: Tensor) -> bool:
    """Whether looking at a number costs nothing."""
    return tensor.device.type == "cpu"


def activity(given: Arguments) -> Tensor | bool:
    """Whether the step is taken, or 1.0 or 0.0 beside the counters where nobody may look."""
    found_inf, steps = given.found_inf, given.steps
    if found_inf is None:
        return True
    # Counters on the CPU cannot stand still without the flag being read there.
    if reads_on_host(steps) or reads_on_host(found_inf):
        return float(found_inf) == 0
    return (found_inf.detach().reshape(()) == 0).to(steps.device, torch.float64)


def _advance(plan: Plan, steps: Tensor, active: Tensor | bool) -> Tensor:
    """Count the step, unless it is skipped; the steps of the call's parameters in float64."""
    one = active.to(steps.dtype) if isinstance(active, Tensor) else 1
    if plan.slots is None:
        return steps.add_(one).double()
    advanced = steps[plan.slots] + one
    steps[plan.slots] = advanced
    return advanced.double()


def _advance_product(plan: Plan, products: Tensor, momentum: Tensor, active: Tensor | bool) -> Tensor:
    before = products if plan.slots is None else products[plan.slots]
    product = before * momentum
    if isinstance(active, Tensor):
        product = torch.where(active != 0, product, before)
    if plan.slots is None:
        products.copy_(product)
    else:
        products[plan.slots] = product
    return product


def _number(tensor: Tensor, home: torch.device) -> Tensor:
    return to_device(tensor.detach().reshape(()), home).double()


def _prologue(given: Arguments, home: torch.device) -> list[Any]:
    """Factor, scale and share of what is left beside the parameter's direction, limit."""
    factor: Any = -1.0 if given.maximize else 1.0
    if given.grad_scale is not None:
        factor = factor / _number(given.grad_scale, home)
    if given.coefficients is None:
        return [factor, 1.0, 0.0, float("inf")]
    first, *others = to_device(given.coefficients, home)
    return [factor * first, *others]


def step_numbers(rule: str, plan: Plan, given: Arguments, active: Tensor | bool) -> Tensor:
    """The rows, on the parameters' device."""
    names, prepare = PREPARE[rule]
    h = SimpleNamespace(**dict(zip(names, given.hyper, strict=True)))
    t = _advance(plan, given.steps, active)
    makings = (given.steps, given.lr, given.grad_scale, given.coefficients)
    home = next((x.device for x in makings if x is not None and not reads_on_host(x)), t.device)
    if given.products is not None:
        h.product = to_device(_advance_product(plan, given.products, nadam_momentum(h, t), active), home)
    t = to_device(t, home)
    h.lr = torch.full((), h.lr, dtype=torch.float64, device=home) if given.lr is None else _number(given.lr, home)
    taken = to_device(active, home) if isinstance(active, Tensor) else 1.0
    columns = [*_prologue(given, home), t, taken, *prepare(h, t)]
    numbers = torch.empty(t.numel(), len(columns), dtype=torch.float64, device=home)
    for column, values in zip(numbers.unbind(1), columns, strict=True):
        if isinstance(values, Tensor):
            column.copy_(values)
        else:
            column.fill_(values)
    return to_device(numbers, plan.tensors.device)
