"""AdaGradNorm."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from .. import _backend
from .._checks import one_of, reject
from . import _reference_two_phase
from ._call import Call, Scaling, total
from ._dog import SCALED, move_number, write_number
from ._flat import has_rows_in_order, is_dense
from ._kernel import GroupKernel
from ._optimizer import FusedOptimizer
from ._rule import Scalar, State, Sums, factor
from ._switches import Switches

MODES = ("global", "tensor", "row")
SUMS = Sums("gradient_squares", _reference_two_phase.gradient_squares, ("lr", "weight_decay"))


class AdaGradNorm(FusedOptimizer):
    """AdaGrad-Norm: one step size for all, from the sum of squared gradient norms.

    ``b^2 += |g|^2``, ``p -= lr / b * g``; the new ``b`` has this gradient in it.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1
        Learning rate.
    mode : {"global", "tensor", "row"}, default "global"
        What a norm goes over: all parameters of all groups (the paper), a parameter, or what belongs to one index of its
        first dimension.
    b0 : float, default 0.1
        The first b.
    weight_decay : float, default 0
        Weight decay, in the gradient.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``capturable``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` is refused.

    References
    ----------
    R. Ward, X. Wu, L. Bottou, "AdaGrad Stepsizes: Sharp Convergence over Nonconvex Landscapes", ICML 2019, arXiv:1806.01811.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.AdaGradNorm(model.parameters(), lr=1.0)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False
    rule = SCALED

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        mode: Literal["global", "tensor", "row"] = "global",
        b0: float = 0.1,
        weight_decay: float = 0.0,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__(params, {"lr": lr, "mode": mode, "b0": b0, "weight_decay": weight_decay}, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """None of a parameter's shape."""
        return ()

    def scalars(self, group: dict[str, Any]) -> tuple[Scalar, ...]:
        """b^2 of each parameter or row; the global one is the groups'."""
        mode = group["mode"]
        return () if mode == "global" else (Scalar("b_squared", float(group["b0"]) ** 2, by_row=mode == "row"),)

    def in_place(self, p: Tensor) -> bool:
        """Rows must stand one after the other."""
        return has_rows_in_order(p) if self._mode() == "row" else is_dense(p)

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """One b for all."""
        return '`mode="global"`' if group["mode"] == "global" else super().looks_at_all(group)

    def _mode(self) -> str:
        return str(self.param_groups[0]["mode"])

    def check_keys(self, group: dict[str, Any]) -> None:
        """The mode is one that there is."""
        one_of(type(self).__name__, "mode", group["mode"], MODES)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it joins the b of the others."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["mode"] != self._mode():
            self.param_groups.pop()
            reject(type(self).__name__, f"one `mode` for all groups ({self._mode()!r})", repr(group["mode"]))
        if group["mode"] == "global":
            earlier = self.param_groups[0].get("b_squared") if len(self.param_groups) > 1 else None
            start = torch.tensor(float(group["b0"]) ** 2, dtype=torch.float64)
            group["b_squared"] = start if earlier is None else earlier

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.param_groups and self._mode() == "global":
            for group in self.param_groups:  # saved apart, or by an optimizer of other groups
                group["b_squared"] = self.param_groups[0]["b_squared"]

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """b^2 takes the squares in; a step's size is the learning rate over b."""
        mode = self._mode()
        for call in calls:
            call.sums = call.measure(SUMS.op, scaling, self.hyper(call.group), by_row=mode == "row")
        if mode == "global":
            self._sum_up_all(calls, scaling)
            return
        for call in calls:
            assert call.sums is not None
            kept = call.scalar("b_squared").to(call.device)
            b_squared = scaling.taken(kept + call.sums[0], kept)
            call.set_scalar("b_squared", b_squared)
            call.numbers = (factor(call.group["lr"], call.device) / b_squared.sqrt())[None]

    def _sum_up_all(self, calls: list[Call], scaling: Scaling) -> None:
        device = calls[0].device
        kept = move_number(self.param_groups, "b_squared", device)
        write_number(self.param_groups, "b_squared", scaling.taken(kept + total(calls, device)[0], kept))
        b_squared = self.param_groups[0]["b_squared"]
        for call in calls:
            size = (factor(call.group["lr"], device) / b_squared.sqrt()).to(call.device, torch.float64)
            call.numbers = size.expand(1, len(call.params))

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step: one size for each parameter, or for each row."""
        if self._mode() != "row":
            kernel.run(call, scaling)
            return
        operator = _backend.pick("optim_scaled_rows_", call.device, call.forced)
        assert call.numbers is not None
        scaling = scaling.beside(call.device)
        operator(
            call.targets, call.gradients, call.flat.steps, call.flat.extra, call.index, call.numbers[0].contiguous(),
            self.hyper(call.group), scaling.grad_scale, scaling.found_inf, call.rows, call.group["maximize"],
            call.rounding(), call.group["seed"],
        )  # fmt: skip
        call.finish()
