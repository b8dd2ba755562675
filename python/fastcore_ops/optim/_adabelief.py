"""AdaBelief."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class AdaBelief(FusedOptimizer):
    """AdaBelief: Adam whose denominator is the deviation of the gradient from its average.

    ``v`` averages ``(g - m) ** 2`` and keeps the ``eps`` that is added to it, as the release does; the step is RAdam's.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default 1e-16
        Added to the variance, where it stays, and to the denominator.
    weight_decay : float, default 0
        Weight decay, decoupled unless ``weight_decouple`` is False.
    amsgrad : bool, default False
        Divide by the largest variance so far (where the step is not rectified).
    weight_decouple : bool, default True
        Decay the parameter instead of adding to its gradient.
    fixed_decay : bool, default False
        Do not multiply the decoupled decay by ``lr``.
    rectify : bool, default True
        Rectify the step as RAdam does.
    degenerated_to_sgd : bool, default True
        While RAdam's step is not adaptive, take its plain one; else none.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    J. Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", NeurIPS 2020,
    arXiv:2010.07468.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.AdaBelief(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule(
        "adabelief",
        _reference.adabelief,
        ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled", "fixed_decay", "rectify", "degenerated_to_sgd"),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        weight_decouple: bool = True,
        fixed_decay: bool = False,
        rectify: bool = True,
        degenerated_to_sgd: bool = True,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "weight_decouple": weight_decouple,
                "fixed_decay": fixed_decay,
                "rectify": rectify,
                "degenerated_to_sgd": degenerated_to_sgd,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        names = ("exp_avg", "exp_avg_var", "max_exp_avg_var")
        return tuple(map(State, names if group["amsgrad"] else names[:2]))

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"decoupled": group["weight_decouple"]})
