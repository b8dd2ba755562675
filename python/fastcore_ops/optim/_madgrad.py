"""MADGRAD."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class MADGRAD(FusedOptimizer):
    """MADGRAD: dual averaging with a cube-root denominator and momentum.

    ``w = (lr + eps) * sqrt(t)``, ``G += w * g * g``, ``s += w * g``, ``z = x0 - s / (cbrt(G) + eps)``,
    ``p = momentum * p + (1 - momentum) * z`` from the first parameter ``x0`` on.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-2
        Learning rate.
    momentum : float, default 0.9
        0 keeps no ``x0``.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    eps : float, default 1e-6
        Added to the denominator, and to a learning rate that is not 0.
    decouple_decay : bool, default False
        Decay the parameter instead of adding to its gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    A. Defazio, S. Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient Method for
    Stochastic Optimization", JMLR 2022, arXiv:2101.11075.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.MADGRAD(model.parameters(), lr=1e-2)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("madgrad", _reference.madgrad, ("lr", "momentum", "weight_decay", "eps", "decoupled"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        *,
        decouple_decay: bool = False,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "eps": eps,
                "decouple_decay": decouple_decay,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        sums = (State("grad_sum_sq"), State("s"))
        return (*sums, State("x0", like_parameter=True, copies_parameter=True)) if group["momentum"] else sums

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"decoupled": group["decouple_decay"]})

    def default_state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Float32 beside 16-bit parameters, as released: the sums only grow."""
        return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
