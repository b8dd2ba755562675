"""SGDP."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference_two_phase
from ._projected import ProjectedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class SGDP(ProjectedOptimizer):
    """SGDP: SGD with momentum that does not let the weights before a normalisation grow.

    ``b = momentum * b + (1 - dampening) * g`` from 0 on; the direction ``b`` (nesterov: ``g + momentum * b``) loses its part
    along the parameter under the same test as :class:`AdamP`'s.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor
        Learning rate.
    momentum : float, default 0
        Momentum.
    dampening : float, default 0
        Dampening of the gradient in the buffer, from the first step on.
    weight_decay : float, default 0
        Weight decay, decoupled; divided by ``1 - momentum``.
    nesterov : bool, default False
        Nesterov's momentum.
    eps : float, default 1e-8
        Added to norms.
    delta : float, default 0.1
        Threshold of the cosine, times the root of the length.
    wd_ratio : float, default 0.1
        Weight decay of projected parameters, as a share of the others'.
    legacy_inplace_projection : bool, default False
        Project the buffer itself where there is no nesterov, as the release does; the paper does not.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``state_dtype``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` is refused.

    References
    ----------
    B. Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights", ICLR 2021,
    arXiv:2006.08217.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.SGDP(model.parameters(), lr=0.1, momentum=0.9)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule(
        "sgdp",
        _reference_two_phase.sgdp,
        ("lr", "momentum", "dampening", "eps", "weight_decay", "wd_ratio", "nesterov", "projects_momentum"),
        numbers=1,
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        legacy_inplace_projection: bool = False,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "eps": eps,
                "delta": delta,
                "wd_ratio": wd_ratio,
                "legacy_inplace_projection": legacy_inplace_projection,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("momentum"),)

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"projects_momentum": group["legacy_inplace_projection"]})
