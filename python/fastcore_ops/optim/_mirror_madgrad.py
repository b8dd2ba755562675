"""MirrorMADGRAD."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class MirrorMADGRAD(FusedOptimizer):
    """Mirror MADGRAD: the mirror-descent form of MADGRAD, whose sum of squares forgets.

    ``G = sqrt((t - 1) / t) * G + g * g``, ``z -= (lr + eps) * cbrt(t) * g / (cbrt(G) + eps)``,
    ``p = momentum * p + (1 - momentum) * z``.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-2
        Learning rate.
    momentum : float, default 0.9
        How much of the parameter stays when it is drawn to ``z``.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    eps : float, default 0
        Added to the denominator, and to a learning rate that is not 0.
    decouple_decay : bool, default False
        Decay ``z`` instead of adding to the gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    A. Defazio, S. Jelassi, "Adaptivity without Compromise", JMLR 2022, arXiv:2101.11075, and its release.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.MirrorMADGRAD(model.parameters(), lr=1e-2)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("mirror_madgrad", _reference.mirror_madgrad, ("lr", "momentum", "weight_decay", "eps", "decoupled"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 0.0,
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
        return State("grad_sum_sq"), State("z", copies_parameter=True)

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"decoupled": group["decouple_decay"]})

    def default_state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Float32 beside 16-bit parameters, as released: the sums only grow."""
        return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
