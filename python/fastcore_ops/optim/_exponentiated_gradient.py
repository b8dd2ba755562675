"""ExponentiatedGradient."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from .._checks import reject
from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches

SGD_FORM = Rule(
    "exponentiated_sgd",
    _reference.exponentiated_sgd,
    ("lr", "momentum", "dampening", "weight_decay", "nesterov", "min_magnitude"),
)
ADAMW_FORM = Rule(
    "exponentiated_adamw",
    _reference.exponentiated_adamw,
    ("lr", "beta1", "beta2", "eps", "weight_decay", "min_magnitude"),
)


class ExponentiatedGradient(FusedOptimizer):
    """Exponentiated gradient under Dale's law: parameters grow or shrink by a factor and never change their sign.

    ``form="sgd"``: ``p *= exp(-sign(p) * lr * b)`` with the buffer ``b`` of SGD on ``g + weight_decay * sign(p)``.
    ``form="adamw"``: ``p *= 1 - lr * weight_decay``, then ``p *= exp(-sign(p) * u)`` with AdamW's update ``u``.
    Exponents are kept
    within 80. An exact zero stays zero: draw initial values from a log-normal times a sign, and split each bias in two.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    form : {"sgd", "adamw"}, default "sgd"
        Which optimizer's update stands in the exponent.
    momentum, dampening, nesterov : float, float, bool, default 0, 0, False
        Of the form of SGD.
    betas, eps : tuple of 2 floats, float, default (0.9, 0.999), 1e-8
        Of the form of AdamW.
    weight_decay : float, optional
        Default 0 for SGD's form, 1e-2 for AdamW's.
    min_magnitude : float, optional
        Size that parameters keep when they would fall below it; else what underflows stays 0.
    **switches : Switches
        What every optimizer here takes; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    J. Cornford et al., "Brain-like learning with exponentiated gradients", 2024, bioRxiv 2024.10.25.620272.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> weight = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    >>> optimizer = fo.optim.ExponentiatedGradient([weight], lr=0.1)
    >>> weight.sum().backward()
    >>> optimizer.step()
    """

    takes_complex = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        form: Literal["sgd", "adamw"] = "sgd",
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        min_magnitude: float | None = None,
        **switches: Unpack[Switches],
    ) -> None:
        if form not in ("sgd", "adamw"):
            reject("ExponentiatedGradient", '`form` to be "sgd" or "adamw"', repr(form))
        decay = weight_decay if weight_decay is not None else 0.0 if form == "sgd" else 1e-2
        defaults: dict[str, Any] = {"lr": lr, "form": form, "weight_decay": decay, "min_magnitude": min_magnitude}
        if form == "sgd":
            defaults |= {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        else:
            defaults |= {"betas": betas, "eps": eps}
        super().__init__(params, defaults, dict(switches))

    def check_keys(self, group: dict[str, Any]) -> None:
        """All groups have one form."""
        if group["form"] != self.defaults["form"]:
            reject(type(self).__name__, f"one `form` for all groups ({self.defaults['form']!r})", repr(group["form"]))

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, if what was saved is of the same form."""
        form = self.defaults["form"]
        for group in state_dict["param_groups"]:
            if group.get("form", form) != form:
                name = f"{type(self).__name__}.load_state_dict"
                reject(name, f"parameter groups of `form` {form!r}", repr(group["form"]))
        super().load_state_dict(state_dict)

    @property
    def rule(self) -> Rule:  # type: ignore[override]
        """The rule of the form."""
        return SGD_FORM if self.defaults["form"] == "sgd" else ADAMW_FORM

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        if self.defaults["form"] == "adamw":
            return State("exp_avg"), State("exp_avg_sq")
        return (State("momentum_buffer"),) if group["momentum"] else ()
