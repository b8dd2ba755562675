"""Adam."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class Adam(FusedOptimizer):
    """Adam; ``torch.optim.Adam`` in one pass over memory.

    ``p -= lr / bc1 * m / (sqrt(v) / sqrt(bc2) + eps)`` with the averages ``m`` and ``v`` of the gradient and its
    square and their
    bias corrections; ``weight_decay * p`` is added to the gradient.

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
    amsgrad : bool, default False
        Divide by the largest average of squares so far.
    decoupled_weight_decay : bool, default False
        Decay the parameter instead of adding to its gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. S. J. Reddi, S. Kale, S. Kumar, "On the
    Convergence of Adam and Beyond", ICLR 2018 (``amsgrad``).

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.Adam(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("adam", _reference.adam, ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
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
                "amsgrad": amsgrad,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
            dict(switches),
        )

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        return tuple(map(State, names if group["amsgrad"] else names[:2]))

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"decoupled": group["decoupled_weight_decay"]})
