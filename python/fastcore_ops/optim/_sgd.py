"""SGD."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from .._checks import reject
from . import _reference
from ._optimizer import FusedOptimizer
from ._rule import Rule, State
from ._switches import Switches


class SGD(FusedOptimizer):
    """Stochastic gradient descent with momentum; ``torch.optim.SGD`` in one pass over memory.

    ``b = momentum * b + (1 - dampening) * g`` (at the first step ``b = g``), ``p -= lr * b``, or with ``nesterov``
    ``p -= lr * (g + momentum * b)``. Beside the buffer a ``step`` is kept, so that a skipped first step is not taken
    for it.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    momentum : float, default 0
        0 keeps no buffer.
    dampening : float, default 0
        Share of the gradient that does not enter the buffer.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    nesterov : bool, default False
        Look ahead along the buffer; needs momentum and no dampening.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``differentiable``, ``state_dtype``,
        ``rounding``, ``seed``, ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the Importance of Initialization and Momentum in Deep Learning",
    ICML 2013.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    rule = Rule("sgd", _reference.sgd, ("lr", "momentum", "dampening", "weight_decay", "nesterov"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
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
            },
            dict(switches),
        )

    def check_keys(self, group: dict[str, Any]) -> None:
        """Nesterov's momentum needs one, undamped."""
        momentum, dampening = group["momentum"], group["dampening"]
        if group["nesterov"] and (momentum <= 0 or dampening != 0):
            name = type(self).__name__
            reject(name, "`momentum` above 0 and no `dampening` with `nesterov`", f"{momentum} and {dampening}")

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("momentum_buffer"),) if group["momentum"] else ()
