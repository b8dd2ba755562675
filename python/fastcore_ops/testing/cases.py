"""What a family says about its operators and public calls so that generic tests can run them: the class ``Case``."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]  # named arguments of one call, in the order of the signature
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Tolerance:
    """Parity of one output: error <= ``c * eps(dtype) * condition``, error relative to the largest entry of the truth.

    ``worst`` is the largest error seen so far, in the same unit, over backends, dtypes and machines: ``c`` stands above it.
    """

    c: float
    worst: float


@dataclass(frozen=True)
class BadInput:
    """A call that must be refused with ``error``; the message names the argument and the remedy (``words``)."""

    label: str
    call: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Differentiable:
    """A scalar function of float64 tensors, smooth at ``inputs``, whose gradient must pass gradcheck."""

    label: str
    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def _nothing() -> list[Any]:
    return []


def _well_conditioned(inputs: Inputs, dtype: torch.dtype) -> float:
    return 1.0


@dataclass(frozen=True)
class Case:
    """One operator or public call, ready for the contract tests.

    Attributes
    ----------
    name : str
        The one name that the algorithm has everywhere.
    api : callable
        ``api(backend, **inputs) -> dict of named tensors``: the call under test on one backend.
    reference : callable
        ``reference(**inputs) -> dict of named tensors``: the truth, in float64; same names.
    inputs : callable
        ``inputs(dtype, device, seed) -> {variant: named arguments}``.
    tolerance : dict
        ``Tolerance`` of each output. Integer outputs need none: they must be equal.
    main_op : str
        The operator that a backend must have to run the case.
    condition : callable
        ``condition(inputs, dtype) -> float``: how much the problem magnifies rounding.
    bad_inputs : callable
        List of ``BadInput``.
    ops : tuple of str
        Operators that take exactly these inputs: the loops of opcheck, compile and CUDA graphs run them.
    differentiable : callable
        List of ``Differentiable``.
    """

    name: str
    api: Callable[..., Outputs]
    reference: Callable[..., Outputs]
    inputs: Callable[[torch.dtype, str, int], dict[str, Inputs]]
    tolerance: dict[str, Tolerance]
    main_op: str
    condition: Callable[[Inputs, torch.dtype], float] = _well_conditioned
    bad_inputs: Callable[[], list[BadInput]] = _nothing
    ops: tuple[str, ...] = ()
    differentiable: Callable[[], list[Differentiable]] = field(default=_nothing)

    def __repr__(self) -> str:
        return f"Case({self.name})"


def each_tensor(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Inputs with every tensor changed, those in lists too."""

    def changed(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value)
        return [changed(part) for part in value] if isinstance(value, list) else value

    return {name: changed(value) for name, value in inputs.items()}


def as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    """What an operator returns, whether nothing, one tensor or several."""
    return () if outputs is None else (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def copied(inputs: Inputs) -> Inputs:
    """Inputs whose tensors may be written to."""
    return each_tensor(inputs, Tensor.clone)


def discover() -> list[Case]:
    """Cases of all families: the list ``CASES`` in each family's ``_cases.py``."""
    package = importlib.import_module("fastcore_ops")
    cases: list[Case] = []
    for module in pkgutil.iter_modules(package.__path__):
        name = f"fastcore_ops.{module.name}._cases"
        if module.ispkg and module.name not in ("testing", "triton_kernels") and importlib.util.find_spec(name):
            found: Iterable[Case] = importlib.import_module(name).CASES
            cases.extend(found)
    return cases
