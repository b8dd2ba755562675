"""Lion."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class Lion(FusedOptimizer):
    """Lion: the sign of an average of the gradient.

    ``p -= lr * weight_decay * p``, ``p -= lr * sign(beta1 * m + (1 - beta1) * g)``, then ``m = beta2 * m + (1 -
    beta2) * g``.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-4
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.99)
        Weight of the average in the sign, and its decay.
    weight_decay : float, default 0
        Weight decay, decoupled.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    X. Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, arXiv:2302.06675.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.Lion(model.parameters(), lr=1e-4)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    takes_complex = False
    rule = Rule("lion", _reference.lion, ("lr", "beta1", "beta2", "weight_decay"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("exp_avg"),)
