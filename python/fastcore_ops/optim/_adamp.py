"""AdamP."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference_two_phase
from ._projected import ProjectedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class AdamP(ProjectedOptimizer):
    """AdamP: Adam that does not let the weights before a normalisation grow.

    Adam's direction ``u``; where the gradient stands almost at right angles to every row of the parameter (``|cos| <
    delta / sqrt(n)``, n elements in a row), or else to the whole parameter, the part of ``u`` along that row or parameter
    is taken out, and weight decay is weakened by ``wd_ratio``. Parameters of fewer than two dimensions are never
    projected.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default 1e-8
        Added to the denominators.
    weight_decay : float, default 0
        Weight decay, decoupled.
    delta : float, default 0.1
        Threshold of the cosine, times the root of the length.
    wd_ratio : float, default 0.1
        Weight decay of projected parameters, as a share of the others'.
    nesterov : bool, default False
        Nesterov's momentum.
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
    >>> optimizer = fo.optim.AdamP(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule(
        "adamp",
        _reference_two_phase.adamp,
        ("lr", "beta1", "beta2", "eps", "weight_decay", "wd_ratio", "nesterov"),
        numbers=1,
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "delta": delta,
                "wd_ratio": wd_ratio,
                "nesterov": nesterov,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return State("exp_avg"), State("exp_avg_sq")
