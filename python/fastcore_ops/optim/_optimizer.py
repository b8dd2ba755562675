"""The class that every optimizer here extends: torch's ``Optimizer`` whose step is one call of an operator per dtype."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from operator import is_
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from .._checks import reject
from ._call import Call, Scaling
from ._differentiable import check_differentiable, check_step, step_group
from ._flat import is_dense, scalar_dtype
from ._kernel import GroupKernel
from ._load import load_state
from ._parameter_checks import check_dtype
from ._prologue import needs_sums, prepare_rows
from ._rule import Rule, Scalar, State, number
from ._switches import DEFAULTS, check_group, check_switches

_BETAS = ("beta1", "beta2", "beta3")


class FusedOptimizer(Optimizer):
    """A rule, applied to all parameters of a group in one pass over memory.

    Subclasses give ``rule``, ``states`` and, where a hyper-parameter of the kernel is not a key of the groups,
    ``hyper``.
    """

    rule: ClassVar[Rule]
    takes_complex: ClassVar[bool] = True
    takes_distributed: ClassVar[bool] = True
    has_sums: ClassVar[bool] = False  # whether a step needs sums over parameters
    clips_gradient: ClassVar[bool] = True  # whether `max_norm` is about the gradient
    _norm_limit: Callable[[Tensor, Scaling], Tensor] | None = None  # set by who wraps this optimizer
    _step_supports_amp_scaling = True

    def __init__(self, params: Any, defaults: dict[str, Any], switches: dict[str, Any]) -> None:
        check_switches(type(self).__name__, switches)
        self._forget()
        super().__init__(params, {**defaults, **DEFAULTS, **switches})

    # What a rule says ----------------------------------------------------------------------------------------------

    def states(self, group: dict[str, Any]) -> tuple[State, ...]:
        """States of a parameter of the group, in the kernel's order."""
        raise NotImplementedError

    def hyper(self, group: dict[str, Any]) -> list[float]:
        """Hyper-parameters in the order of ``rule.hyper``; a learning rate in a tensor, left to the operators, is 0 here."""
        given = dict(group)
        given.update(zip(_BETAS, group.get("betas", ()), strict=False))
        if isinstance(given["lr"], Tensor):
            given["lr"] = 0.0  # nobody waits for a device, and a trace holds no value
        return [number(given[name]) for name in self.rule.hyper]

    def default_state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Dtype of the moments beside a parameter's dtype, if the group does not say."""
        return dtype

    def scalars(self, group: dict[str, Any]) -> tuple[Scalar, ...]:
        """Numbers that are kept for each parameter or row."""
        return (Scalar("mu_product", 1.0),) if self.rule.has_product else ()

    def in_place(self, p: Tensor) -> bool:
        """Whether the operator can step a parameter as it lies in memory; else a contiguous copy is stepped."""
        return is_dense(p)

    def looks_at_all(self, group: dict[str, Any]) -> str | None:
        """The name of what looks at all gradients together, if anything does."""
        return next((f"`{name}`" for name in ("max_norm", "skip_nonfinite") if group[name]), None)

    def sum_up(self, calls: list[Call], scaling: Scaling) -> None:
        """Make the rule's numbers of sums over the parameters."""

    def apply(self, kernel: GroupKernel, call: Call, scaling: Scaling) -> None:
        """The step itself of a call that has been summed up."""
        kernel.run(call, scaling)

    def check_states(self, group: dict[str, Any], dtype: torch.dtype) -> None:
        """Say what is unwise about states of a dtype, when they are made."""

    def check_keys(self, group: dict[str, Any]) -> None:
        """Refuse a group whose keys of the rule's own are wrong."""

    # What torch expects --------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as ``torch.optim.Optimizer`` does, its hyper-parameters checked."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_group(type(self).__name__, group, len({*_BETAS} & {*self.rule.hyper}))
            self.check_keys(group)
            if group["differentiable"]:
                check_differentiable(self, group)
            for p in group["params"]:
                check_dtype(type(self).__name__, group, p)
                if torch._debug_has_internal_overlap(p) == 1:
                    raise RuntimeError(
                        f"{type(self).__name__}: expected parameters whose elements do not overlap in memory, got one of shape "
                        f"{tuple(p.shape)} and strides {p.stride()}. Pass a contiguous copy."
                    )
        except Exception:
            self.param_groups.pop()
            raise

    def _forget(self) -> None:
        """Begin without plans: what is not in state and groups can be made anew."""
        self._kernels: dict[int, GroupKernel] = {}
        self._seen: list[dict[str, Any]] = []  # the dicts in `state` at the end of the last step
        self._places: dict[int, tuple[int, int]] = {}  # group and position in it of a parameter, by its id

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but states keep the dtype they were saved in (or take ``state_dtype``)."""
        load_state(self, state_dict)

    # The step ------------------------------------------------------------------------------------------------------

    def begin_states(self, group: dict[str, Any]) -> None:
        """Make the entries of a group's parameters before their first step."""
        for p in group["params"]:
            dtype = group["state_dtype"] or self.default_state_dtype(p.dtype)
            entry: dict[str, Any] = {"step": torch.zeros((), dtype=scalar_dtype())}
            for kind in self.states(group):
                of = p.dtype if kind.like_parameter else dtype
                entry[kind.name] = (
                    p.detach().to(of, copy=True)
                    if kind.copies_parameter
                    else torch.full_like(p.detach(), kind.initial, dtype=of)
                )
            self.state[p] = entry

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss; runs with gradients enabled.

        Returns
        -------
        object
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work: list[Any] = []
        watched: list[Any] = []  # by autograd
        for position, group in enumerate(self.param_groups):
            params = group["params"]
            grads = [p.grad for p in params]
            if any(map(is_, grads, repeat(None))):
                params, grads = [p for p in params if p.grad is not None], [g for g in grads if g is not None]
            if not params:
                continue
            if group["differentiable"]:
                check_step(self, group, params)
                watched.append((group, params))
            else:
                work.append((self._kernel(position), params, grads))
        with torch.enable_grad():
            for group, params in watched:
                step_group(self, group, params)
        self._look_at_entries()
        self._run(work)
        if len(self._seen) != len(self.state):  # some parameters' first step
            self._seen = list(self.state.values())
        return loss

    def _look_at_entries(self) -> None:
        """See whether dicts in ``state`` have been replaced; that none has is found out without looking parameters up."""
        if not (len(self.state) == len(self._seen) and all(map(is_, self.state.values(), self._seen))):
            for kernel in self._kernels.values():
                kernel.renew_entries()
            self._seen = list(self.state.values())

    def _kernel(self, position: int) -> GroupKernel:
        known = self._kernels.get(position)
        if known is None or known.group is not self.param_groups[position]:  # one may have been replaced or removed
            self._kernels = {at: kernel for at, kernel in self._kernels.items() if at < position}
            first = sum(len(earlier["params"]) for earlier in self.param_groups[:position])
            self._kernels[position] = GroupKernel(self, self.param_groups[position], first)
        return self._kernels[position]

    def _run(self, work: list[tuple[GroupKernel, list[Tensor], list[Any]]]) -> None:
        """Step the groups; where a step needs sums over parameters, those of all groups come first."""
        scaling = Scaling(getattr(self, "grad_scale", None), getattr(self, "found_inf", None))
        if not work:
            return
        if not self.has_sums and self._norm_limit is None and not any(needs_sums(kernel.group) for kernel, *_ in work):
            for kernel, params, grads in work:
                kernel.step(params, grads, scaling)
            return
        loaded = [(kernel, kernel.load(params, grads)) for kernel, params, grads in work]
        calls = [call for _, of_group in loaded for call in of_group]
        scaling = prepare_rows(calls, scaling, self._norm_limit, self.clips_gradient)
        self.sum_up(calls, scaling)
        for kernel, of_group in loaded:
            for call in of_group:
                self.apply(kernel, call, scaling)

    def step_param(self, p: Tensor) -> None:
        """Step one parameter, for a hook that releases gradients early (``register_post_accumulate_grad_hook``).

        Parameters
        ----------
        p : Tensor
            One of the optimizer's parameters; without a gradient nothing happens.
        """
        position = self._position_of(p)
        reason = self.looks_at_all(self.param_groups[position])
        if reason is not None or self._norm_limit is not None:
            raise RuntimeError(
                f"{type(self).__name__}.step_param: {reason or 'a clipping wrapper'} looks at all gradients together. "
                "Use `step`."
            )
        group = self.param_groups[position]
        if p.grad is not None and group["differentiable"]:
            check_step(self, group, [p])
            with torch.enable_grad():
                step_group(self, group, [p])
        elif p.grad is not None:
            with torch.no_grad():
                self._run([(self._kernel(position), [p], [p.grad])])
        self._opt_called = True  # what schedulers look at

    def _position_of(self, p: Tensor) -> int:
        """The position of a parameter's group, found without going through all parameters each time."""
        groups = self.param_groups
        position, i = self._places.get(id(p), (len(groups), 0))
        if not (position < len(groups) and any(p is q for q in groups[position]["params"][i : i + 1])):
            self._places = {id(q): (at, i) for at, group in enumerate(groups) for i, q in enumerate(group["params"])}
        if id(p) not in self._places:
            reject(
                f"{type(self).__name__}.step_param",
                "`p` to be a parameter of this optimizer",
                f"a tensor of shape {tuple(p.shape)}",
            )
        return self._places[id(p)][0]
