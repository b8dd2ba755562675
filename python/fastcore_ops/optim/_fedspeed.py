"""FedSpeed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from . import _reference_two_phase
from ._call import Call, Scaling, total
from ._optimizer import FusedOptimizer
from ._rule import Rule, State, Sums

_HYPER = ("lr", "prox", "weight_decay", "momentum")
SUMS = Sums("fedspeed_sums", _reference_two_phase.fedspeed_sums, _HYPER)


class FedSpeed(FusedOptimizer):
    """FedSpeed's local step on a client: SGD pulled to the weights that the server sent, corrected for past drift.

    ``d = g + (weight_decay + prox) * p + prox * (correction - anchor)``, shortened to ``max_norm`` over all groups, then SGD
    with momentum. Call :meth:`start_round` when the weights have come, :meth:`end_round` before they are sent back. The
    gradient is to be the caller's: that at ``p`` or, as in the paper, at a point ascended to from there.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor
        Learning rate.
    prox : float, default 0.1
        Strength of the pull.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    max_norm : float, optional, default 10
        Norm that ``d``, of all groups together, is shortened to.
    momentum : float, default 0
        Momentum.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``state_dtype``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` is refused.

    References
    ----------
    Y. Sun et al., "FedSpeed: Larger Local Interval, Less Communication Round, and Higher Generalization Accuracy", ICLR
    2023, arXiv:2302.10429.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.FedSpeed(model.parameters(), lr=0.1)
    >>> optimizer.start_round()
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.end_round()
    """

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False
    clips_gradient: ClassVar[bool] = False  # `max_norm` is about the pulled gradient
    rule = Rule("fedspeed", _reference_two_phase.fedspeed, _HYPER, numbers=1)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        *,
        prox: float = 0.1,
        weight_decay: float = 0.0,
        max_norm: float | None = 10.0,
        momentum: float = 0.0,
        **switches: Any,
    ) -> None:
        defaults = {"lr": lr, "prox": prox, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults, {**switches, "max_norm": max_norm})

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        received = (State("correction"), State("anchor", like_parameter=True, copies_parameter=True))
        return (*received, State("momentum_buffer")) if group["momentum"] else received

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its parameters as they are now are the anchors."""
        super().add_param_group(param_group)
        self.begin_states(self.param_groups[-1])

    @torch.no_grad()
    def start_round(self) -> None:
        """Take the parameters as they are now for those that the server sent."""
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["anchor"].copy_(p)

    @torch.no_grad()
    def end_round(self) -> None:
        """Add the way that was gone in this round to the corrections."""
        for group in self.param_groups:
            for p in group["params"]:
                entry = self.state[p]
                entry["correction"] += p.to(entry["correction"].dtype) - entry["anchor"].to(entry["correction"].dtype)

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """The factor that shortens the pulled gradient."""
        device = calls[0].device
        clips = any(call.group["max_norm"] is not None for call in calls)
        if clips:
            for call in calls:
                call.sums = call.measure(SUMS.op, scaling, self.hyper(call.group), call.flat.states[:2])
            squares = total(calls, device)[0]
        for call in calls:
            factor = torch.ones((), dtype=torch.float64, device=call.device)
            if call.group["max_norm"] is not None:
                factor = (call.group["max_norm"] / (squares.sqrt().to(call.device) + 1e-6)).clamp(max=1.0)
            call.numbers = factor.expand(1, len(call.params))
