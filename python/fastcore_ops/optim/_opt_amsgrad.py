"""OPT-AMSGrad."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
from torch import Tensor

from .. import _backend
from .._checks import count, reject
from . import _reference_two_phase
from ._call import Call, Scaling
from ._dog import move_number, write_number
from ._extrapolation import extrapolation
from ._flat import Flat
from ._kernel import GroupKernel
from ._optimizer import FusedOptimizer
from ._rule import Rule, State, Sums
from ._switches import Switches

KEEP = Sums("keep", _reference_two_phase.keep)
_OWN = 6  # states of the rule itself; the past gradients follow
_WIDE = {torch.bfloat16: torch.float32, torch.float16: torch.float32}


class _Products(NamedTuple):
    """Inner products of the past gradients, and the states that they are of."""

    flats: list[tuple[Flat, int]]
    order: Tensor  # of the sums over parameters
    gram: Tensor


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
        What every optimizer here takes: ``fused``, ``capturable``, ``state_dtype``, ``rounding``, ``seed``,
        ``master_weights`` and more; see :class:`fastcore_ops.optim.Switches`. ``differentiable`` is refused.

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
    _known: _Products | None = None  # of the past gradients, while nothing but steps changes them
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

    def check_states(self, group: dict[str, Any], dtype: torch.dtype) -> None:
        """Warn of a w in 16 bits, which small steps would leave where it is; parameters are made of it."""
        if dtype in _WIDE and group["rounding"] != "stochastic":
            warnings.warn(
                f"OPTAMSGrad: parameters are made of the state `half_step`, in {dtype} now, in which small steps are lost; "
                'pass state_dtype=torch.float32 or rounding="stochastic"',
                UserWarning,
                stacklevel=2,
            )

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
        group.setdefault("gradients_kept", first.get("gradients_kept", torch.zeros((), dtype=torch.int64)))

    def _check_group(self, group: dict[str, Any], first: dict[str, Any]) -> None:
        name = type(self).__name__
        if group["theta"] not in ("current", "previous"):
            reject(name, '`theta` "current" or "previous"', repr(group["theta"]))
        if not group["eps"] > 0:
            reject(f"{name}: Invalid `eps`", "above 0", group["eps"], "The least entry of v_hat is divided by.")
        for key in ("history", "ridge"):
            if group[key] != first[key]:
                reject(name, f"one `{key}` for all groups ({first[key]})", group[key])

    def _forget(self) -> None:
        super()._forget()
        self._known = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # saved apart
            group["gradients_kept"] = torch.as_tensor(self.param_groups[0].get("gradients_kept", 0))

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """Keep the gradients, and forecast the next ones.

        How many steps were skipped is known where the parameters are: which place is the newest gradient's, too.
        """
        history, device, flats = int(self.param_groups[0]["history"]), calls[0].device, self._flats()
        kept = move_number(self.param_groups, "gradients_kept", device)
        places = torch.arange(history, device=device)
        taken = torch.ones((), dtype=torch.bool, device=device)
        if scaling.found_inf is not None:
            taken = scaling.found_inf.to(device).reshape(()) == 0
        newest = (places == kept % history) & taken
        self._keep(calls, flats, scaling, _OWN - 1, taken)  # the forecast, where there is no combination
        for k in [int(kept) % history] if _is_on_host(kept) else range(history):
            self._keep(calls, flats, scaling, _OWN + k, newest[k])
        write_number(self.param_groups, "gradients_kept", kept + taken)
        if history == 1:
            return
        gram, kept = self._gram(flats, newest), self.param_groups[0]["gradients_kept"]
        order = (kept + places) % history  # oldest first
        ordered = gram.index_select(0, order).index_select(1, order)
        weights, found = extrapolation(ordered, kept.clamp(max=history), float(self.param_groups[0]["ridge"]))
        weights, found = weights.index_select(0, (places - kept) % history), found & taken
        for flat in flats:
            _combine(flat.states[_OWN - 1], flat.states[_OWN:], weights.to(flat.device), found.to(flat.device))

    def _keep(self, calls: list[Call], flats: list[Flat], scaling: Scaling, place: int, wanted: Tensor) -> None:
        """Write the gradients, 0 where there are none, to a state; nothing unless ``wanted``."""
        covered = {id(call.flat) for call in calls if call.whole}
        for flat in flats:
            if id(flat) not in covered:
                flat.states[place].masked_fill_(wanted.to(flat.device), 0.0)
        for call in calls:
            unwanted = (~wanted).to(call.device, torch.float32)
            call.measure(KEEP.op, Scaling(scaling.grad_scale, unwanted), None, [call.flat.states[place]])

    def _flats(self) -> list[Flat]:
        """Of all parameters that have past gradients, whether they have one now or not."""
        kernels = [self._kernel(position) for position in range(len(self.param_groups))]
        for kernel in kernels:
            kernel.take_up_states()
        return [flat for kernel in kernels for flat in kernel.flats]

    def _gram(self, flats: list[Flat], newest: Tensor) -> Tensor:
        """Inner products of the past gradients over all parameters, float64; those of the newest are made at each step."""
        known, now = self._known, [(flat, flat.adopted) for flat in flats]
        if known is None or known.gram.shape != newest.shape * 2 or not _same(known.flats, now):
            order = self._order(flats).to(newest.device)
            rows = [self._products(flats, order, f"past_gradient_{k}") for k in range(len(newest))]
            known = _Products(now, order, torch.stack(rows))
            if not torch.compiler.is_compiling():
                self._known = known
            return known.gram
        row = self._products(flats, known.order, "next_forecast")
        gram = torch.where(newest[:, None], row, torch.where(newest, row[:, None], known.gram))
        return known.gram.copy_(gram)

    def _products(self, flats: list[Flat], order: Tensor, name: str) -> Tensor:
        """Inner products of a state with the past gradients, (history,)."""
        history = int(self.param_groups[0]["history"])
        found = [torch.stack([_dots(flat, name, k) for k in range(history)]).to(order.device) for flat in flats]
        none = torch.zeros(history, 1, dtype=torch.float64, device=order.device)
        return torch.cat([none, *found], 1).index_select(1, order).sum(1)

    def _order(self, flats: list[Flat]) -> Tensor:
        """Places, from 1, of all groups' parameters among those of the flats; 0: nothing is known of it.

        Without the empty ones: however they are laid out, a sum in this order has the same bits.
        """
        places = {id(p): 1 + i for i, p in enumerate(p for flat in flats for p in flat.params)}
        ids = dict.fromkeys(id(p) for group in self.param_groups for p in group["params"] if p.numel())
        return torch.tensor([places.get(key, 0) for key in ids], dtype=torch.int64)

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step, which does not look at the past gradients."""
        operator = _backend.pick(f"optim_{self.rule.op}_", call.device, call.forced)
        call.step(operator, self.hyper(call.group), scaling, call.flat.states[:_OWN])


def _is_on_host(number: Tensor) -> bool:
    """Whether looking at a number costs nothing."""
    return number.device.type == "cpu" and not torch.compiler.is_compiling()


def _same(left: list[tuple[Flat, int]], right: list[tuple[Flat, int]]) -> bool:
    """Whether the states are the same, and nobody has written others into them."""
    return len(left) == len(right) and all(x is y and m == n for (x, m), (y, n) in zip(left, right, strict=True))


def _dots(flat: Flat, name: str, k: int) -> Tensor:
    """Inner products of a state with a past gradient, parameter by parameter."""
    x, y = flat.views[name], flat.views[f"past_gradient_{k}"]
    operator = _backend.pick("optim_dots", flat.device, None)
    sums: Tensor = operator(
        x, y, [], flat.steps, None, flat.index, [0.0], None, None, None, None, False, 0, 0, False
    )  # fmt: skip
    return sums[1]


def _combine(forecast: Tensor, past: list[Tensor], weights: Tensor, found: Tensor) -> None:
    """Make the forecast, which is the newest gradient, the combination of all past ones, if one was found."""
    made = torch.zeros_like(forecast, dtype=_WIDE.get(forecast.dtype, forecast.dtype))
    for k, gradient in enumerate(past):
        made.addcmul_(gradient.to(made.dtype), weights[k].to(made.dtype))
    torch.where(found, made.to(forecast.dtype), forecast, out=forecast)
