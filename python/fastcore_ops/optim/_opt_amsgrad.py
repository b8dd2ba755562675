"""OPT-AMSGrad."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from .. import _backend
from .._checks import count, reject
from . import _reference_two_phase
from ._call import Call, Scaling
from ._flat import Flat
from ._kernel import GroupKernel
from ._optimizer import FusedOptimizer
from ._rule import Rule, State, Sums
from ._switches import Switches

KEEP = Sums("keep", _reference_two_phase.keep)
_OWN = 6  # states of the rule itself; the past gradients follow


class OPTAMSGrad(FusedOptimizer):
    """OPT-AMSGrad: AMSGrad that steps ahead with a forecast of the next gradient.

    ``theta = beta1 * theta + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * (g - m)^2`` with ``m`` the forecast that
    was made of ``g``, ``v_hat = max(v_hat, v)``, ``w -= lr * theta / sqrt(v_hat)``; then, with the forecast ``m'`` of the next
    gradient, ``p = w - lr * (beta1 * theta + (1 - beta1) * m') / sqrt(v_hat)``. Forecasts are combinations of the last
    gradients, of all parameters together, by regularised minimal polynomial extrapolation.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or groups, as for ``torch.optim``.
    lr : float or Tensor, default 1e-3
        Learning rate.
    betas : tuple of 2 floats, default (0.9, 0.99)
        Decay of the averages of the gradient and of the squared surprise.
    eps : float, default 1e-8
        First and least entry of ``v_hat``.
    history : int, default 5
        Gradients that a forecast is made of; 1 forecasts the last gradient again.
    ridge : float, default 1e-6
        Regularisation of the extrapolation, relative to the norm of its matrix.
    theta : {"current", "previous"}, default "current"
        Which average the step ahead takes; the listing in the paper has that before ``g``.
    **switches : Switches
        What every optimizer here takes: ``maximize``, ``fused``, ``state_dtype``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` and ``capturable`` are
        refused: the extrapolation is solved on the host.

    References
    ----------
    J.-K. Wang, X. Li, B. Karimi, P. Li, "An Optimistic Acceleration of AMSGrad for Nonconvex Optimization", ACML 2021,
    arXiv:1903.01435.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.OPTAMSGrad(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    """

    has_sums: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = False
    takes_distributed: ClassVar[bool] = False  # the past gradients' products are of what lies here
    rule = Rule("opt_amsgrad", _reference_two_phase.opt_amsgrad, ("lr", "beta1", "beta2", "eps", "previous"))

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        *,
        history: int = 5,
        ridge: float = 1e-6,
        theta: Literal["current", "previous"] = "current",
        **switches: Unpack[Switches],
    ) -> None:
        history = count(type(self).__name__, "history", history, 1)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "history": history, "ridge": ridge, "theta": theta}
        super().__init__(params, defaults, dict(switches))

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States in the kernel's order, then the past gradients."""
        own = (
            State("exp_avg"),
            State("exp_avg_sq"),
            State("max_exp_avg_sq", initial=group["eps"]),
            State("half_step", copies_parameter=True),
            State("forecast"),
            State("next_forecast"),
        )
        return (*own, *(State(f"past_gradient_{k}") for k in range(group["history"])))

    def default_state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Float32 beside 16-bit parameters: w goes on from step to step, and parameters are made of it."""
        return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """The hyper-parameters of the formula."""
        return super().hyper(group | {"previous": group["theta"] == "previous"})

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """One extrapolation for all."""
        return "the rule"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; all have one history."""
        super().add_param_group(param_group)
        group, first = self.param_groups[-1], self.param_groups[0]
        try:
            self._check_group(group, first)
        except Exception:
            self.param_groups.pop()
            raise
        group.setdefault("gradients_kept", first.get("gradients_kept", 0))

    def _check_group(self, group: dict[str, Any], first: dict[str, Any]) -> None:
        name = type(self).__name__
        if group["theta"] not in ("current", "previous"):
            reject(name, '`theta` "current" or "previous"', repr(group["theta"]))
        if not group["eps"] > 0:
            reject(f"{name}: Invalid `eps`", "above 0", group["eps"], "The least entry of v_hat is divided by.")
        for key in ("history", "ridge"):
            if group[key] != first[key]:
                reject(name, f"one `{key}` for all groups ({first[key]})", group[key])
        if group["capturable"]:
            raise RuntimeError(f"{name}: `capturable` is not supported: the extrapolation is solved on the host")

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """Keep the gradients, and forecast the next ones."""
        if scaling.found_inf is not None and float(scaling.found_inf) != 0:
            return
        history, kept = int(self.param_groups[0]["history"]), int(self.param_groups[0]["gradients_kept"])
        newest = kept % history
        flats = self._flats()
        for flat in flats:
            flat.states[_OWN + newest].zero_()
        for call in calls:
            call.measure(KEEP.op, scaling, None, [call.flat.states[_OWN + newest]])
        known = min(kept + 1, history)
        order = [(kept + 1 - known + i) % history for i in range(known)]  # oldest first
        weights = extrapolation(_gram(flats, order), float(self.param_groups[0]["ridge"]))
        for flat in flats:
            forecast = flat.states[_OWN - 1].zero_()
            for place, weight in zip(order, weights, strict=True):
                if weight:
                    forecast.add_(flat.states[_OWN + place], alpha=weight)
        for group in self.param_groups:
            group["gradients_kept"] = kept + 1

    def _flats(self) -> list[Flat]:
        """Of all parameters that have past gradients, whether they have one now or not."""
        kernels = [self._kernel(position) for position in range(len(self.param_groups))]
        for kernel in kernels:
            kernel.take_up_states()
        return [flat for kernel in kernels for flat in kernel.flats]

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step, which does not look at the past gradients."""
        operator = _backend.pick(f"optim_{self.rule.op}_", call.device, call.forced)
        call.step(operator, self.hyper(call.group), scaling, call.flat.states[:_OWN])


def _gram(flats: list[Flat], order: list[int]) -> Tensor:
    """Inner products of the past gradients over all parameters, float64."""
    gram = torch.zeros(len(order), len(order), dtype=torch.float64)
    by_id = torch.cat([flat.index[2] for flat in flats]).argsort()  # however they are laid out: the same bits
    for i, left in enumerate(order):
        for j, right in enumerate(order[: i + 1]):
            products = torch.cat([_dots(flat, left, right).cpu() for flat in flats])
            gram[i, j] = gram[j, i] = sum(products[by_id].tolist())
    return gram


def _dots(flat: Flat, left: int, right: int) -> Tensor:
    """Inner products of two past gradients, parameter by parameter."""
    x, y = flat.views[f"past_gradient_{left}"], flat.views[f"past_gradient_{right}"]
    operator = _backend.pick("optim_dots", x[0].device, None)
    sums: Tensor = operator(
        x, y, [], flat.steps, None, flat.index, [0.0], None, None, None, None, False, 0, 0, False
    )  # fmt: skip
    return sums[1]


def extrapolation(gram: Tensor, ridge: float) -> list[float]:
    """Weights of the past gradients in the forecast, oldest first; Wang et al. 2021, algorithm 3.

    With U the differences of neighbouring gradients, ``(U' U / |U' U| + ridge I) z = 1`` and ``c = z / sum(z)``.
    """
    known = len(gram)
    if known == 1:
        return [1.0]
    differences = torch.diff(torch.eye(known, dtype=torch.float64), dim=0)
    squares = differences @ gram @ differences.T
    if not (squares.isfinite().all() and squares.any()):  # gradients that are not finite, or equal ones
        return [0.0] * (known - 1) + [1.0]
    system = squares / torch.linalg.matrix_norm(squares, 2) + ridge * torch.eye(known - 1, dtype=torch.float64)
    z = torch.linalg.solve(system, torch.ones(known - 1, dtype=torch.float64))
    return [*(z / z.sum()).tolist(), 0.0]
