"""Adagrad."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class Adagrad(FusedOptimizer):
    """Adagrad; ``torch.optim.Adagrad`` in one pass over memory.

    ``S += g * g``, ``p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(S) + eps)``.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-2
        Learning rate.
    lr_decay : float, default 0
        Decay of the learning rate with the steps.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    initial_accumulator_value : float, default 0
        What the sum of squares starts from.
    eps : float, default 1e-10
        Added to the denominator.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR 2011.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.Adagrad(model.parameters(), lr=1e-2)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("adagrad", _reference.adagrad, ("lr", "lr_decay", "weight_decay", "eps"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
            },
            dict(switches),
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its states begin here, as torch's do."""
        super().add_param_group(param_group)
        self.begin_states(self.param_groups[-1])

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("sum", initial=group["initial_accumulator_value"]),)
