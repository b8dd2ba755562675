"""DiffGrad."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class DiffGrad(FusedOptimizer):
    """diffGrad: Adam slowed down where the gradient does not change.

    ``p -= lr * sqrt(bc2) / bc1 * xi * m / (sqrt(v) + eps)`` with ``xi = 1 / (1 + exp(-|g_before - g|))``. The
    previous gradient is
    kept in the dtype of the gradient.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    S. R. Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks", IEEE TNNLS 2020,
    arXiv:1909.11015.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.DiffGrad(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("diffgrad", _reference.diffgrad, ("lr", "beta1", "beta2", "eps", "weight_decay"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return State("exp_avg"), State("exp_avg_sq"), State("previous_grad", like_parameter=True)
