"""SANIA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from .._checks import reject
from . import _reference_two_phase
from ._call import Call, Scaling, total
from ._optimizer import FusedOptimizer
from ._rule import Rule, State, Sums, factor
from ._switches import Switches

PRECONDITIONERS = ("adagrad_sqr", "adam_sqr")
SUMS = Sums("sania_sums", _reference_two_phase.sania_sums, ("lr", "beta2", "eps", "is_sqrt"))


class SANIA(FusedOptimizer):
    """SANIA: preconditioned Polyak steps whose size comes from the loss; no rate to tune, no scale to choose.

    With ``n = <g, B^-1 g>`` over all parameters and the loss ``f`` (its lower bound being 0), ``s = 1 - sqrt(1 - 2 f / n)``
    where ``2 f <= n``, else 1; ``p -= lr * s * B^-1 g``. ``B = max(S, eps)`` with ``S`` the sum of squared gradients
    ("adagrad_sqr"), or their bias-corrected average ("adam_sqr").

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1
        Factor of the step, to be left alone.
    preconditioner : {"adagrad_sqr", "adam_sqr"}, default "adagrad_sqr"
        What B is made of.
    eps : float, default 0.1
        Least entry of B. 0 is legal: nothing moves where no gradient has been.
    beta2 : float, default 0.999
        Decay of the average ("adam_sqr").
    is_sqrt : bool, default False
        Use the root of B: the geometry of AdaGrad and Adam.
    **switches : Switches
        What every optimizer here takes: ``fused``, ``capturable``, ``state_dtype``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``maximize`` and ``differentiable`` are
        refused.

    References
    ----------
    F. Abdukhakimov, C. Xiang, D. Kamzolov, R. Gower, M. Takac, "SANIA: Polyak-Type Optimization Framework Leads to Scale
    Invariant Stochastic Algorithms", 2023, arXiv:2312.17369.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.SANIA(model.parameters())
    >>> loss = model(torch.ones(1, 3)).square().sum()
    >>> loss.backward()
    >>> optimizer.step(loss=loss)
    """

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False
    _loss: Tensor | float | None = None  # of the step that runs
    rule = Rule("sania", _reference_two_phase.sania, ("lr", "beta2", "eps", "is_sqrt"), numbers=1)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        preconditioner: Literal["adagrad_sqr", "adam_sqr"] = "adagrad_sqr",
        eps: float = 0.1,
        beta2: float = 0.999,
        *,
        is_sqrt: bool = False,
        **switches: Unpack[Switches],
    ) -> None:
        defaults = {"lr": lr, "preconditioner": preconditioner, "eps": eps, "beta2": beta2, "is_sqrt": is_sqrt}
        super().__init__(params, defaults, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order."""
        return (State("sum" if group["preconditioner"] == "adagrad_sqr" else "exp_avg_sq"),)

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula; a decay of 1 sums."""
        return super().hyper(group | ({"beta2": 1.0} if group["preconditioner"] == "adagrad_sqr" else {}))

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """The step's size is one for all."""
        return "the rule"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its states begin here."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        name = type(self).__name__
        if group["preconditioner"] not in PRECONDITIONERS or group["maximize"]:
            self.param_groups.pop()
        if group["preconditioner"] not in PRECONDITIONERS:
            reject(name, '`preconditioner` "adagrad_sqr" or "adam_sqr"', repr(group["preconditioner"]))
        if group["maximize"]:
            reject(name, "`maximize=False`", "True", "The step solves for a loss that falls to 0.")
        self.begin_states(group)

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:
        """Make one step.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss; runs with gradients enabled.
        loss : Tensor or float, optional
            The loss whose gradients the parameters hold, less its lower bound; needed without a closure. A CUDA graph reads
            a tensor on the GPU anew at each replay, and goes on with a number as it was.

        Returns
        -------
        object
            The closure's loss, or the loss given.
        """
        if closure is None and loss is None:
            reject("SANIA.step", "the loss: `step(loss=loss)` or a closure", "neither")
        if closure is not None and loss is not None:
            reject("SANIA.step", "`loss` or a closure", "both")
        if loss is not None:
            self._loss = _number("SANIA.step", loss)
            super().step()
            return loss

        def watched() -> Any:
            assert closure is not None
            found = closure()
            self._loss = _number("SANIA.step", found)
            return found

        return super().step(watched)

    @torch.no_grad()
    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """The size of the step, from the loss and the preconditioned norm of all gradients."""
        assert self._loss is not None
        device = calls[0].device
        for call in calls:
            call.sums = call.measure(SUMS.op, scaling, self.hyper(call.group), call.flat.states)
        size = step_size(_on_device(self._loss, device), total(calls, device)[0])
        for call in calls:
            made = (factor(call.group["lr"], device) * size).to(call.device, torch.float64)
            call.numbers = made.expand(1, len(call.params))
        self._loss = None


def step_size(loss: Tensor, n: Tensor) -> Tensor:
    """``1 - sqrt(1 - 2 f / n)`` without cancellation, 1 where no root exists; Abdukhakimov et al. 2023, eq. (12)."""
    ratio = 2 * loss.clamp_min(0.0) / torch.where(n == 0, torch.ones_like(n), n)
    size = ratio / (1 + (1 - ratio).clamp_min(0.0).sqrt())
    return torch.where(ratio > 1, torch.ones_like(size), size)


def _number(operation: str, loss: Any) -> Tensor | float:
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            reject(operation, "the loss to be one number", f"a tensor of shape {tuple(loss.shape)}")
        return loss.detach().double().reshape(())
    if isinstance(loss, int | float):
        return float(loss)
    reject(operation, "the loss to be a number or a tensor", type(loss).__name__, kind=TypeError)


def _on_device(loss: Tensor | float, device: torch.device) -> Tensor:
    """The loss where the parameters are; the host does not wait for a number's copy, which a GPU fills in itself."""
    if isinstance(loss, Tensor):
        return loss.to(device, non_blocking=loss.device.type == "cpu")
    return torch.full((), loss, dtype=torch.float64, device=device)
