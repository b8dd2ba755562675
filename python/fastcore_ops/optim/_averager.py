"""PolynomialDecayAverager."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from .._checks import reject


class PolynomialDecayAverager:
    """Average of a model's iterates that forgets the early ones, as :class:`fastcore_ops.optim.DoG` wants it.

    ``average = (1 - w) * average + w * model`` with ``w = (1 + gamma) / (t + gamma)``, t from 1: the first call copies.
    Buffers are copied, and so are parameters of integers.

    Parameters
    ----------
    model : torch.nn.Module
        The model that is trained.
    gamma : float, default 8
        How fast early iterates are forgotten; 0 is the plain mean.

    Attributes
    ----------
    averaged_model : torch.nn.Module
        A copy of the model with averaged parameters.

    References
    ----------
    O. Shamir, T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML 2013, section 4, with the setting of
    M. Ivgi, O. Hinder, Y. Carmon, arXiv:2302.12022.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> model = torch.nn.Linear(3, 1)
    >>> averager = fo.optim.PolynomialDecayAverager(model)
    >>> averager.step()
    >>> prediction = averager.averaged_model(torch.ones(1, 3))
    """

    def __init__(self, model: torch.nn.Module, gamma: float = 8.0) -> None:
        if not hasattr(gamma, "__float__"):
            reject(type(self).__name__, "`gamma` to be a number", repr(gamma), kind=TypeError)
        if not gamma >= 0:
            reject(type(self).__name__, "`gamma` of at least 0", gamma)
        self.model, self.gamma, self.t = model, float(gamma), 1
        self.averaged_model = deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def step(self) -> None:
        """Take the model as it is now into the average."""
        averages: list[Tensor] = list(self.averaged_model.parameters())
        iterates: list[Tensor] = list(self.model.parameters())
        pairs = list(zip(averages, iterates, strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point() or pair[0].is_complex()]
        if averaged:
            weight = (1 + self.gamma) / (self.t + self.gamma)
            torch._foreach_lerp_([kept for kept, _ in averaged], [current for _, current in averaged], weight)
        copied = [pair for pair in pairs if not (pair[0].is_floating_point() or pair[0].is_complex())]
        for kept, current in [*copied, *zip(self.averaged_model.buffers(), self.model.buffers(), strict=True)]:
            kept.copy_(current)
        self.t += 1

    def reset(self) -> None:
        """Begin a new average with the next step."""
        self.t = 1

    def state_dict(self) -> dict[str, Any]:
        """The average and its length."""
        return {"t": self.t, "gamma": self.gamma, "averaged_model": self.averaged_model.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a saved average."""
        self.t, self.gamma = int(state_dict["t"]), float(state_dict["gamma"])
        self.averaged_model.load_state_dict(state_dict["averaged_model"])
