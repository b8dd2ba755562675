"""What an optimizer's class tells the engine about its rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ._reference import Formula

Factors = Callable[
    [Tensor, Tensor, tuple[Tensor, ...], Any, float], tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, ...]]
]


@dataclass(frozen=True)
class State:
    """One state of a parameter, of its shape and memory layout."""

    name: str
    like_parameter: bool = False  # in the parameter's dtype: a copy of it or of its gradient
    copies_parameter: bool = False  # starts as the parameter, else as `initial`
    initial: float = 0.0


@dataclass(frozen=True)
class Scalar:
    """One float64 number that is kept for each parameter, or for each of its rows."""

    name: str
    initial: float = 0.0
    by_row: bool = False


@dataclass(frozen=True)
class Rule:
    """A formula, its operator and the order of its hyper-parameters, the learning rate first."""

    op: str
    formula: Formula
    hyper: tuple[str, ...]
    next_product: Callable[[Any, float], float] | None = None  # of a running product kept beside the step, after step t
    numbers: int = 0  # of each parameter's own, made of sums

    @property
    def has_product(self) -> bool:
        """Whether the rule keeps a running product."""
        return self.next_product is not None

    def advance_product(self, named: Any, t: float) -> float:
        """The running product after step t."""
        assert self.next_product is not None
        return self.next_product(named, t)

    def named(self, hyper: list[float], product: float = 1.0, number: float = 0.0) -> Any:
        """Hyper-parameters by name, as the formulas want them."""
        return named(self.hyper, hyper, product, number)


@dataclass(frozen=True)
class Sums:
    """Sums over parameters or rows: the two factors of each, element by element, and what the states become."""

    op: str
    factors: Factors
    hyper: tuple[str, ...] = ()


def named(names: tuple[str, ...], hyper: list[float], product: float = 1.0, number: float = 0.0) -> Any:
    """Hyper-parameters by name."""
    values = dict(zip(names, hyper, strict=True))
    without_decay = SimpleNamespace(**(values | {"weight_decay": 0.0}))
    return SimpleNamespace(**values, product=product, number=number, without_decay=without_decay)


def beside(number: Tensor, device: torch.device) -> Tensor:
    """A number where an operator of ``device`` reads it: there, or on the host; from elsewhere it is copied, as torch does."""
    if number.device == device or number.device.type == "cpu":
        return number
    return number.to(device, non_blocking=device.type != "cpu")


def factor(lr: float | Tensor, device: torch.device) -> float | Tensor:
    """A learning rate as a factor of sums there: what a tensor holds, in float64 and without dimensions."""
    return beside(lr, device).double().reshape(()) if isinstance(lr, Tensor) else lr


def number(value: float | bool | Tensor | None) -> float:
    """A hyper-parameter as a float: None is 0, a tensor its item."""
    return 0.0 if value is None else float(value)
