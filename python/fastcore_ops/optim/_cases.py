"""Cases of the optimizers' operators: one for each rule, on a few parameters of odd sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from ..testing.cases import BadInput, Case, Inputs, Outputs, Tolerance
from ._flat import layout_code
from ._ops import RULES
from ._reference_step import dots, make_step
from ._rule import Rule

_SHAPES = ((3, 7), (70,), (), (0,), (2, 3, 5))
_STARTS = (0, 64, 192, 256, 256)  # the second parameter is longer than a cache line's worth of elements
_TOTAL = 320

# Hyper-parameters by name for the cases, and those that differ from rule to rule.
_HYPER = {
    "lr": 0.01, "beta1": 0.9, "beta2": 0.99, "beta3": 0.999, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9,
    "dampening": 0.1, "nesterov": 0.0, "alpha": 2.0, "alpha_warmup": 10.0, "beta3_warmup": 10.0, "lr_decay": 0.1,
    "decoupled": 1.0, "fixed_decay": 0.0, "rectify": 1.0, "degenerated_to_sgd": 1.0, "correct_bias": 1.0,
    "momentum_decay": 4e-3, "min_magnitude": 0.0,
}  # fmt: skip
_STATES = {
    "sgd": 1,
    "lion": 1,
    "adagrad": 1,
    "ademamix": 3,
    "diffgrad": 3,
    "madgrad": 3,
    "exponentiated_sgd": 1,
}  # the others: two

# RAdam's rectification takes 4 from a length that is barely more; MADGRAD divides by a cube root of few squares.
_PARAMS = {"radam": Tolerance(12, worst=6.15), "madgrad": Tolerance(8, worst=4.06)}


def _inputs(rule: Rule) -> Callable[[torch.dtype, str, int], dict[str, Inputs]]:
    def inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        states = [draw(_TOTAL).square() for _ in range(_STATES.get(rule.op, 2))]
        codes = [layout_code(torch.empty(shape)) for shape in _SHAPES]
        index = torch.tensor([_STARTS, range(len(_SHAPES)), range(len(_SHAPES)), codes])

        def filled(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((len(_SHAPES),), value, dtype=dtype, device=device)

        plain: Inputs = {
            "params": [draw(*shape) for shape in _SHAPES],
            "grads": [draw(*shape) for shape in _SHAPES],
            "states": states,
            "steps": filled(6.0),
            "products": filled(0.4, torch.float64) if rule.has_product else None,
            "extra": None,
            "index": index,
            "hyper": [_HYPER[name] for name in rule.hyper],
            "lr": None,
            "grad_scale": None,
            "found_inf": None,
            "coefficients": None,
            "maximize": False,
            "rounding": 0,
            "seed": 0,
        }
        rows = torch.tensor([[0.5], [1.25], [0.3], [0.8]], dtype=torch.float64, device=device)
        rows = rows.expand(4, len(_SHAPES)).contiguous()
        fresh = {"steps": filled(0.0)}
        if rule.has_product:
            fresh["products"] = filled(1.0, torch.float64)
        scaled = {
            "grad_scale": torch.tensor(4.0, device=device),
            "found_inf": torch.tensor(0.0, device=device),
            "lr": torch.tensor(0.02, device=device),
            "maximize": True,
        }
        return {
            "first_step": plain | fresh,
            "later_step": plain,
            "prologue": plain | scaled | {"coefficients": rows},
            "skipped": plain | {"found_inf": torch.tensor(1.0, device=device)},
        }

    return inputs


def _written(inputs: Inputs) -> Outputs:
    """What a step has written, each kind in one vector."""
    written = {name: torch.cat([t.reshape(-1) for t in inputs[name]]) for name in ("params", "states")}
    return written | {"steps": inputs["steps"].double()}


def _run(name: str) -> Callable[..., Outputs]:
    def api(backend: str, **inputs: Any) -> Outputs:
        _backend.pick(name, inputs["params"][0].device, backend, main=True)(*inputs.values())
        return _written(inputs)

    return api


def _truth(rule: Rule) -> Callable[..., Outputs]:
    def reference(**inputs: Any) -> Outputs:
        make_step(rule)(*inputs.values())
        return _written(inputs)

    return reference


def _bad_inputs(rule: Rule, name: str) -> Callable[[], list[BadInput]]:
    changes: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "grads_short": ("grads", lambda grads: grads[1:]),
        "state_short": ("states", lambda states: [state[:100].clone() for state in states]),
        "state_integer": ("states", lambda states: [state.long() for state in states]),
        "steps_matrix": ("steps", lambda steps: steps[None]),
        "index_short": ("index", lambda index: index[:, 1:].contiguous()),
        "slot_outside": ("index", lambda index: index + 1),
        "gradient_strided": ("grads", lambda grads: [grads[0].t().contiguous().t(), *grads[1:]]),
        "parameter_expanded": ("params", lambda params: [params[0][:, :1].expand(3, 7), *params[1:]]),
        "coefficients_float32": ("coefficients", lambda rows: torch.ones(4, len(_SHAPES))),
        "extra_without_mode": ("extra", lambda extra: torch.zeros(_TOTAL)),
        "lr_of_two": ("lr", lambda lr: torch.ones(2)),
    }

    def bad(argument: str, change: Callable[[Any], Any]) -> Callable[[], Any]:
        def call() -> Any:
            inputs = _inputs(rule)(torch.float64, "cpu", 0)["later_step"]
            inputs[argument] = change(inputs[argument])
            return _backend.pick(name, torch.device("cpu"))(*inputs.values())

        return call

    return lambda: [BadInput(label, bad(*change), RuntimeError, (name,)) for label, change in changes.items()]


def _dots_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    like = torch.zeros(0, device=device)
    shapes = {"several": _SHAPES, "in_pieces": ((70_001,), (5,))}
    return {
        name: {"params": [draw(*s) for s in sizes], "grads": [draw(*s) for s in sizes], "like": like}
        for name, sizes in shapes.items()
    }


def _dots(backend: str, **inputs: Any) -> Outputs:
    operator = _backend.pick("optim_dots", inputs["like"].device, backend, main=True)
    return {"dots": operator(*inputs.values())}


def _bad_dots() -> list[BadInput]:
    good = _dots_inputs(torch.float64, "cpu", 0)["several"]
    operator = _backend.pick("optim_dots", torch.device("cpu"))
    changes: dict[str, list[Tensor]] = {
        "grads_short": good["grads"][1:],
        "grads_float32": [g.float() for g in good["grads"]],
        "gradient_strided": [good["grads"][0].t().contiguous().t(), *good["grads"][1:]],
    }

    def call(grads: list[Tensor]) -> Callable[[], Any]:
        return lambda: operator(good["params"], grads, good["like"])

    return [BadInput(label, call(grads), RuntimeError, ("optim_dots",)) for label, grads in changes.items()]


CASES = [
    Case(
        name="optim_dots",
        api=_dots,
        reference=lambda **inputs: {"dots": dots(*inputs.values())},
        inputs=_dots_inputs,
        tolerance={"dots": Tolerance(5, worst=2.79)},
        main_op="optim_dots",
        ops=("optim_dots",),
        bad_inputs=_bad_dots,
    ),
] + [
    Case(
        name=f"optim_{rule.op}_",
        api=_run(f"optim_{rule.op}_"),
        reference=_truth(rule),
        inputs=_inputs(rule),
        tolerance={
            "params": _PARAMS.get(rule.op, Tolerance(2, worst=1.19)),
            "states": Tolerance(2, worst=0.81),
            "steps": Tolerance(0, worst=0),
        },
        main_op=f"optim_{rule.op}_",
        ops=(f"optim_{rule.op}_",),
        bad_inputs=_bad_inputs(rule, f"optim_{rule.op}_"),
    )
    for rule in RULES.values()
]
