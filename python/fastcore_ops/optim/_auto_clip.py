"""AutoClip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .._checks import count, reject
from ._call import Scaling
from ._optimizer import FusedOptimizer

_KEY = "auto_clip"


class AutoClip(Optimizer):
    """Clip gradients to a percentile of the norms seen so far, around any optimizer of this package.

    Every step appends the norm of all gradients to a history, takes the percentile of the whole of it (with linear
    interpolation, this step's norm included), and clips to that. The wrapper is an optimizer over the same groups and
    state; its state dict is the wrapped one's with the history beside it. Norms that are not finite, and those of skipped
    steps, stay out of the history.

    Parameters
    ----------
    optimizer : FusedOptimizer
        The optimizer to be wrapped.
    percentile : float, default 10
        In [0, 100].
    capacity : int, default 100_000
        Norms that are remembered; the oldest go first.

    References
    ----------
    P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source Separation Networks",
    MLSP 2020, arXiv:2007.14469.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fo.optim.AutoClip(fo.optim.AdamW(model.parameters()))
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.history.numel()
    1
    """

    _step_supports_amp_scaling = True

    def __init__(self, optimizer: FusedOptimizer, percentile: float = 10.0, capacity: int = 100_000) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, FusedOptimizer):
            reject(name, "`optimizer` to be one of fastcore_ops.optim", type(optimizer).__name__, kind=TypeError)
        if any(group["differentiable"] for group in optimizer.param_groups):
            raise RuntimeError(f"{name}: `differentiable` is not supported with a clipping wrapper")
        if not 0 <= percentile <= 100:
            reject(name, "`percentile` in [0, 100]", percentile)
        self.optimizer = optimizer
        self.percentile, self.capacity = float(percentile), count(name, "capacity", capacity, 1)
        super().__init__(optimizer.param_groups, {})
        optimizer._norm_limit = self._limit
        device = optimizer.param_groups[0]["params"][0].device
        self._norms = torch.zeros(self.capacity, dtype=torch.float64, device=device)
        self._seen = torch.zeros((), dtype=torch.int64, device=device)
        self._tried = 0  # at least as many as were seen, known without waiting for a device

    # The wrapped optimizer's own, also after it has loaded a state dict or been given others; what torch's constructor
    # would put there is dropped.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The wrapped optimizer's groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, _: list[dict[str, Any]]) -> None:
        pass

    @property
    def state(self) -> Any:
        """The wrapped optimizer's state."""
        return self.optimizer.state

    @state.setter
    def state(self, _: Any) -> None:
        pass

    @property
    def defaults(self) -> dict[str, Any]:
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, _: dict[str, Any]) -> None:
        pass

    @property
    def history(self) -> Tensor:
        """The norms that are remembered, oldest first."""
        seen = int(self._seen)
        if seen <= self.capacity:
            return self._norms[:seen]
        return torch.roll(self._norms, -(seen % self.capacity))

    def _limit(self, norm: Tensor, scaling: Scaling) -> Tensor:
        """Append a norm and return the percentile."""
        norm = norm.to(self._norms.device)
        counts = scaling.taken(norm.isfinite(), torch.zeros_like(norm, dtype=torch.bool))
        place = self._seen % self.capacity
        self._norms.index_put_((place,), torch.where(counts, norm, self._norms[place]))
        self._seen += counts
        self._tried += 1
        # A captured graph goes on counting, but Python does not: there all of them are looked at.
        known = self._norms if self._may_be_captured() else self._norms[: min(self._tried, self.capacity)]
        filled = self._seen.clamp(max=self.capacity)
        unused = torch.arange(known.numel(), device=known.device) >= filled
        ordered = torch.where(unused, torch.inf, known).sort().values
        at = (filled - 1).clamp_min(0).double() * (self.percentile / 100)
        low = at.floor().long()
        high = torch.minimum(low + 1, (filled - 1).clamp_min(0))
        return torch.lerp(ordered[low], ordered[high], at - low)

    def _may_be_captured(self) -> bool:
        captured = self._norms.is_cuda and torch.cuda.is_current_stream_capturing()
        return captured or any(group["capturable"] for group in self.param_groups)

    def step(self, closure: Callable[[], Any] | None = None, **more: Any) -> Any:
        """Make one step of the wrapped optimizer, with its gradients clipped.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.
        **more
            What the wrapped optimizer's ``step`` takes beside it, such as ``loss``.
        """
        passed = [name for name in ("grad_scale", "found_inf") if hasattr(self, name)]
        for name in passed:
            setattr(self.optimizer, name, getattr(self, name))
        try:
            return self.optimizer.step(closure, **more)
        finally:
            for name in passed:
                delattr(self.optimizer, name)

    def step_param(self, p: Tensor) -> None:
        """Refused, as the norm is that of all gradients."""
        raise RuntimeError(
            f"{type(self).__name__}.step_param: a clipping wrapper looks at all gradients together. Use `step`."
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer."""
        if any(param_group is group for group in self.optimizer.param_groups):  # of our own construction
            return
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state dict, with the history."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        kept = {"history": self.history.clone(), "percentile": self.percentile, "capacity": self.capacity}
        made = {**self.optimizer.state_dict(), _KEY: kept}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            made = post_hook(self, made) or made
        return made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the wrapped optimizer's state and, where there is one, the history."""
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = pre_hook(self, state_dict) or state_dict
        kept = state_dict.get(_KEY)
        self.optimizer.load_state_dict({name: value for name, value in state_dict.items() if name != _KEY})
        if kept is not None:
            self.percentile, self.capacity = float(kept["percentile"]), int(kept["capacity"])
            self._remember(kept["history"])
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _remember(self, history: Tensor) -> None:
        device = self._norms.device
        self._norms = torch.zeros(self.capacity, dtype=torch.float64, device=device)
        self._norms[: history.numel()] = history.to(device)
        self._tried = history.numel()
        self._seen = torch.tensor(history.numel(), device=device)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer,
            "percentile": self.percentile,
            "capacity": self.capacity,
            "history": self.history.clone(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["optimizer"], state["percentile"], state["capacity"])  # type: ignore[misc]
        self._remember(state["history"])
