"""AdEMAMix."""

from __future__ import annotations

import warnings
from typing import Any, Unpack

import torch
from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class AdEMAMix(FusedOptimizer):
    """AdEMAMix: Adam with a second, slow average of the gradient.

    ``p -= lr * ((m1 / bc1 + alpha * m2) / (sqrt(v) / sqrt(bc2) + eps) + weight_decay * p)``; the slow average ``m2``
    has no bias
    correction. In 16 bits and rounded to nearest it would stall: keep it in float32, or use ``rounding="stochastic"``.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 3 floats, default (0.9, 0.999, 0.9999)
        Decay of the fast average, of the average of squares and of the slow average. A first beta of 0 keeps no fast one.
    alpha : float, default 2
        Weight of the slow average.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0
        Weight decay, decoupled.
    alpha_warmup, beta3_warmup : int, optional
        Steps over which ``alpha`` grows linearly from 0, and the half-life of the slow average from that of the fast
    one.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", 2024, arXiv:2409.03137.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.AdEMAMix(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule(
        "ademamix",
        _reference.ademamix,
        ("lr", "beta1", "beta2", "beta3", "alpha", "eps", "weight_decay", "alpha_warmup", "beta3_warmup"),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        alpha_warmup: int | None = None,
        beta3_warmup: int | None = None,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "alpha_warmup": alpha_warmup,
                "beta3_warmup": beta3_warmup,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        names = ("exp_avg_fast", "exp_avg_slow", "exp_avg_sq")
        return tuple(map(State, names if group["betas"][0] else names[1:]))

    def check_states(self, group: dict[str, Any], dtype: torch.dtype) -> None:
        """Warn of a slow average that 16 bits would stall."""
        if dtype in (torch.bfloat16, torch.float16) and group["rounding"] != "stochastic":
            warnings.warn(
                f"AdEMAMix: the slow average in {dtype} stalls when it is rounded to nearest; "
                'pass state_dtype=torch.float32 or rounding="stochastic"',
                UserWarning,
                stacklevel=2,
            )
