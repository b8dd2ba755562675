"""Grams."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class Grams(FusedOptimizer):
    """Grams: the size of Adam's step, the sign of the gradient.

    ``p -= lr * weight_decay * p``, ``p -= lr * sqrt(bc2) / bc1 * sign(g) * |m| / (sqrt(v) + eps)``; where the
    gradient is 0 nothing
    moves.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default 1e-6
        Added to the denominator.
    weight_decay : float, default 0
        Weight decay, decoupled.
    correct_bias : bool, default True
        Correct the averages for their start at 0.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    Y. Cao, X. Li, Z. Song, "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024, arXiv:2412.17107.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.Grams(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    takes_complex = False
    rule = Rule("grams", _reference.grams, ("lr", "beta1", "beta2", "eps", "weight_decay", "correct_bias"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "correct_bias": correct_bias},
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return State("exp_avg"), State("exp_avg_sq")
