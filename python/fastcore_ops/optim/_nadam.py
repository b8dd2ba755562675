"""NAdam."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class NAdam(FusedOptimizer):
    """NAdam: Adam with Nesterov momentum; ``torch.optim.NAdam`` in one pass over memory.

    The momentum of step t is ``beta1 * (1 - 0.96 ** (t * momentum_decay) / 2)``; ``mu_product`` in the state is their
    product.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 2e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    momentum_decay : float, default 4e-3
        How fast the momentum grows to ``beta1``.
    decoupled_weight_decay : bool, default False
        Decay the parameter instead of adding to its gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.NAdam(model.parameters(), lr=2e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule(
        "nadam",
        _reference.nadam,
        ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled", "momentum_decay"),
        _reference.nadam_next_product,
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return State("exp_avg"), State("exp_avg_sq")

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"decoupled": group["decoupled_weight_decay"]})
