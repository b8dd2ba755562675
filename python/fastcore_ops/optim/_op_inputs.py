"""Inputs of the optimizers' operators for their Cases, and what a step has written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Inputs, Outputs
from ._flat import layout_code
from ._rule import Rule, Sums

SHAPES = ((3, 7), (70,), (), (0,), (2, 3, 5))
STARTS = (0, 64, 192, 256, 256)  # the second parameter is longer than a cache line's worth of elements
TOTAL = 320

# Hyper-parameters by name for the cases, and those that differ from rule to rule.
HYPER = {
    "lr": 0.01, "beta1": 0.9, "beta2": 0.99, "beta3": 0.999, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9,
    "dampening": 0.1, "nesterov": 0.0, "alpha": 2.0, "alpha_warmup": 10.0, "beta3_warmup": 10.0, "lr_decay": 0.1,
    "decoupled": 1.0, "fixed_decay": 0.0, "rectify": 1.0, "degenerated_to_sgd": 1.0, "correct_bias": 1.0,
    "momentum_decay": 4e-3, "min_magnitude": 0.0, "wd_ratio": 0.1, "projects_momentum": 0.0, "is_sqrt": 0.0, "prox": 0.3,
    "previous": 0.0,
}  # fmt: skip
_STATES = {
    "sgd": 1,
    "lion": 1,
    "adagrad": 1,
    "ademamix": 3,
    "diffgrad": 3,
    "madgrad": 3,
    "exponentiated_sgd": 1,
    "scaled": 0,
    "sania": 1,
    "opt_amsgrad": 6,
    "sgdp": 1,
}  # the others: two


# A factor, scale and share along the parameter, limit; then the rule's number.
ROWS = [[0.5], [1.25], [0.3], [0.8]]


def rows(numbers: int, value: float | list[float] = 0.7) -> Tensor:
    """Coefficients of every parameter."""
    made = torch.tensor(ROWS, dtype=torch.float64).expand(4, len(SHAPES))
    return torch.cat([made, torch.tensor(value, dtype=torch.float64).expand(numbers, len(SHAPES))])


def plain_rows(numbers: int, value: float | list[float] = 0.7) -> Tensor | None:
    """Coefficients that leave gradients alone; None where the rule needs none."""
    if not numbers:
        return None
    made = rows(numbers, value)
    made[:4] = torch.tensor([[1.0], [1.0], [0.0], [torch.inf]])
    return made


def placed(tensor: Tensor | None, device: str) -> Tensor | None:
    """The tensor on a device, if there is one."""
    return None if tensor is None else tensor.to(device)


def drawn(dtype: torch.dtype, device: str, seed: int) -> Callable[..., Tensor]:
    """Normal numbers by shape."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def filled(value: float, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number for each parameter."""
    return torch.full((len(SHAPES),), value, dtype=dtype, device=device)


def index() -> Tensor:
    """Places of the parameters in the flat tensors."""
    codes = [layout_code(torch.empty(shape)) for shape in SHAPES]
    return torch.tensor([STARTS, range(len(SHAPES)), range(len(SHAPES)), codes])


def step_inputs(rule: Rule, number: float | list[float] = 0.7) -> Callable[[torch.dtype, str, int], dict[str, Inputs]]:
    def inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
        draw = drawn(dtype, device, seed)
        states = [draw(TOTAL).square() for _ in range(_STATES.get(rule.op, 2))]
        plain: Inputs = {
            "params": [draw(*shape) for shape in SHAPES],
            "grads": [draw(*shape) for shape in SHAPES],
            "states": states,
            "steps": filled(6.0, device),
            "products": filled(0.4, device, torch.float64) if rule.has_product else None,
            "extra": None,
            "index": index(),
            "hyper": [HYPER[name] for name in rule.hyper],
            "lr": None,
            "grad_scale": None,
            "found_inf": None,
            "coefficients": placed(plain_rows(rule.numbers, number), device),
            "maximize": False,
            "rounding": 0,
            "seed": 0,
        }
        fresh = {"steps": filled(0.0, device)}
        if rule.has_product:
            fresh["products"] = filled(1.0, device, torch.float64)
        scaled = {
            "grad_scale": torch.tensor(4.0, device=device),
            "found_inf": torch.tensor(0.0, device=device),
            "lr": torch.tensor(0.02, device=device),
            "maximize": True,
        }
        return {
            "first_step": plain | fresh,
            "later_step": plain,
            "prologue": plain | scaled | {"coefficients": rows(rule.numbers, number).to(device)},
            "skipped": plain | {"found_inf": torch.tensor(1.0, device=device)},
        }

    return inputs


def written(inputs: Inputs) -> Outputs:
    """What a step has written, each kind in one vector."""
    kinds = [name for name in ("params", "states") if inputs.get(name)]
    made = {name: torch.cat([t.reshape(-1) for t in inputs[name]]) for name in kinds}
    return made | {"steps": inputs["steps"].double()}


def run_step(name: str) -> Callable[..., Outputs]:
    def api(backend: str, **inputs: Any) -> Outputs:
        _backend.pick(name, inputs["params"][0].device, backend, main=True)(*inputs.values())
        return written(inputs)

    return api


def truth_of(step: Callable[..., None]) -> Callable[..., Outputs]:
    def reference(**inputs: Any) -> Outputs:
        step(*inputs.values())
        return written(inputs)

    return reference


def sums_inputs(sums: Sums, states: int) -> Callable[[torch.dtype, str, int], dict[str, Inputs]]:
    """Inputs of an operator of sums."""

    def inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
        draw = drawn(dtype, device, seed)
        plain: Inputs = {
            "params": [draw(*shape) for shape in SHAPES],
            "grads": [draw(*shape) for shape in SHAPES],
            "states": [draw(TOTAL).square() for _ in range(states)],
            "steps": filled(6.0, device),
            "extra": None,
            "index": index(),
            "hyper": [HYPER[name] for name in sums.hyper or ("lr",)],
            "lr": None,
            "grad_scale": None,
            "found_inf": None,
            "coefficients": None,
            "maximize": False,
            "rounding": 0,
            "seed": 0,
            "by_row": False,
        }
        large: Inputs = plain | {
            "params": [draw(70_001)],
            "grads": [draw(70_001)],
            "states": [draw(70_080).square() for _ in range(states)],
            "index": torch.tensor([[0], [0], [0], [layout_code(torch.empty(70_001, device="meta"))]]),
        }
        prologue = {
            "grad_scale": torch.tensor(4.0, device=device),
            "coefficients": rows(0).to(device),
            "maximize": True,
        }
        return {
            "whole": plain,
            "in_pieces": large,
            "skipped": plain | {"found_inf": torch.tensor(1.0, device=device)},
            "by_row": plain | {"by_row": True},
            "prologue": plain | prologue,
        }

    return inputs


def run_sums(name: str) -> Callable[..., Outputs]:
    """The call of an operator of sums, with the states that it has written."""

    def api(backend: str, **inputs: Any) -> Outputs:
        found = _backend.pick(name, inputs["params"][0].device, backend, main=True)(*inputs.values())
        return {"sums": found} | {k: v for k, v in written(inputs).items() if k == "states"}

    return api


def bad_inputs(
    name: str, inputs_of: Callable[[torch.dtype, str, int], dict[str, Inputs]], variant: str
) -> Callable[[], list[BadInput]]:
    """What every operator of this family refuses."""
    changes: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "grads_short": ("grads", lambda grads: grads[1:]),
        "state_short": ("states", lambda states: [state[:100].clone() for state in states]),
        "state_integer": ("states", lambda states: [state.long() for state in states]),
        "steps_matrix": ("steps", lambda steps: steps[None]),
        "index_short": ("index", lambda index: index[:, 1:].contiguous()),
        "slot_outside": ("index", lambda index: index + 1),
        "gradient_strided": ("grads", lambda grads: [grads[0].t().contiguous().t(), *grads[1:]]),
        "parameter_expanded": ("params", lambda params: [params[0][:, :1].expand(3, 7), *params[1:]]),
        "coefficients_float32": ("coefficients", lambda rows: torch.ones(4, len(SHAPES))),
        "extra_without_mode": ("extra", lambda extra: torch.zeros(TOTAL)),
        "lr_of_two": ("lr", lambda lr: torch.ones(2)),
    }

    def bad(argument: str, change: Callable[[Any], Any]) -> Callable[[], Any]:
        def call() -> Any:
            inputs = inputs_of(torch.float64, "cpu", 0)[variant]
            inputs[argument] = change(inputs[argument])
            return _backend.pick(name, torch.device("cpu"))(*inputs.values())

        return call

    given = inputs_of(torch.float64, "cpu", 0)[variant]
    left = {label: change for label, change in changes.items() if given.get(change[0]) != [] and change[0] in given}
    return lambda: [BadInput(label, bad(*change), RuntimeError, (name,)) for label, change in left.items()]
