"""``MMDFlow``: particles that fall, with momentum, in the energy distance to a target."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend, _checks, _loop
from .._arrays import is_numpy, to_numpy, to_tensor
from . import _directions, _inputs, _plan, _walk
from ._evaluators import evaluator
from ._kernels import Kernel
from ._plan import Plan
from ._reference_rank import GRAD_X, VALUE
from ._slices import draw
from ._target import SlicedTarget, pool_draw

_OPERATION = "MMDFlow"


class MMDFlow:
    """Momentum flow of particles in the sliced energy distance.

    ``v <- grad D²(x) + momentum v``; ``x <- x - step_size N v``, with fresh slices at each step. ``D²`` is half of the MMD²
    with the kernel ``-|u - v|``, the convention of the published flows.

    Parameters
    ----------
    x : tensor or array, shape (N, d)
        Where the particles start; copied.
    target : tensor, array or SlicedTarget
        Points (M, d) where they should go. Of a ``SlicedTarget`` each step draws ``num_slices`` directions of the pool.
    momentum : float, default 0.0
        From 0 up to but not 1. Independent slices fail at 0.9; orthogonal ones do not.
    step_size : float, default 1.0
        1 is the published setting.
    num_slices, slices
        Of each step, as for ``sliced_mmd``. With a ``SlicedTarget``, ``num_slices`` is by default its whole pool.
    generator : torch.Generator, optional
        Source of the slices; by default one of the flow's own, seeded by the global one.
    callback : callable, optional
        ``callback(record)`` after each step; returning True ends the run.
    progress : bool, default False
        Show a tqdm bar.

    Attributes
    ----------
    points : Tensor or ndarray, shape (N, d)
        The particles now; an array where ``x`` is one.
    history : list of dict
        A record for each step: ``step`` (from 1), ``value`` (D² along the slices of the step, before it), ``seconds``.
    status : str
        How the last run ended: "finished", "stopped" (by the callback) or "interrupted" (Ctrl-C).

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    Notes
    -----
    What is left at the end is the noise of the slices, about ``step_size / (1 - momentum) sqrt(d / num_slices)``: more
    momentum needs more, or orthogonal, slices.

    References
    ----------
    J. Hertrich, C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024,
    arXiv:2305.11463.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> flow = fo.mmd.MMDFlow(torch.rand(200, 8), torch.randn(300, 8), momentum=0.7, num_slices=64)
    >>> points = flow.run(20)
    >>> len(flow.history)
    20
    """

    def __init__(
        self,
        x: Any,
        target: Any,
        *,
        momentum: float = 0.0,
        step_size: float = 1.0,
        num_slices: int | None = None,
        slices: str = "auto",
        generator: torch.Generator | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        progress: bool = False,
    ) -> None:
        self.momentum = _momentum(momentum)
        self.step_size = _checks.positive_float(_OPERATION, "step_size", step_size)
        if callback is not None and not callable(callback):
            _checks.reject(_OPERATION, "`callback` to be callable", repr(callback), kind=TypeError)
        _directions.check_generator(_OPERATION, generator)
        self._callback, self._progress = callback, _checks.switch(_OPERATION, "progress", progress)
        self._numpy, self._given_dtype = is_numpy(x), to_tensor(_OPERATION, "x", x).dtype
        start = self._check_target(x, target)
        self._choose_slices(num_slices, slices)
        self._points = start.detach().clone(memory_format=torch.contiguous_format)
        self._velocity = torch.zeros_like(self._points)
        self._generator = _own_generator() if generator is None else generator
        self.history: list[dict[str, Any]] = []
        self.status = "finished"
        self._step = 0

    def _check_target(self, x: Any, target: Any) -> Tensor:
        self._target: SlicedTarget | None = None
        self._y: Tensor | None = None
        self._shift: Tensor | None = None
        self._masses: Tensor | None = None  # of the particles, where those of the target are weighted
        if isinstance(target, SlicedTarget):
            self._target = target
            points, self._masses = target.check(_OPERATION, x, None, False, False)
        else:
            points, y = _inputs.check_pair(_OPERATION, x, target, second="target")
            _one_cloud("target", y)
            self._shift = None if y.shape[1] == 1 else _walk.centre(y.detach())
            self._y = y.detach() if self._shift is None else y.detach() - self._shift
        _one_cloud("x", points)
        return points

    def _choose_slices(self, num_slices: Any, slices: Any) -> None:
        if num_slices is not None:
            num_slices = _checks.count(_OPERATION, "num_slices", num_slices, 1)
        if self._target is not None:
            pool = self._target.num_slices
            if slices != "auto":
                _checks.reject(_OPERATION, "no `slices` with a SlicedTarget", repr(slices), "It brings its own.")
            if num_slices is not None and num_slices > pool:
                remedy = "Make a larger pool, or leave it out."
                _checks.reject(_OPERATION, f"`num_slices` of at most the target's pool ({pool})", num_slices, remedy)
            self._law, self.num_slices = "pool", num_slices or pool
            return
        assert self._y is not None
        d = self._y.shape[1]
        self._law = _directions.resolve(_OPERATION, d, slices)
        self.num_slices = num_slices or _directions.default_num_slices(d, self._law)

    @property
    def points(self) -> Any:
        """The particles now."""
        points = self._points.to(self._given_dtype)
        return to_numpy(points).copy() if self._numpy else points.clone() if points is self._points else points

    def run(self, steps: int) -> Any:
        """Take ``steps`` steps from where the particles stand, and return them.

        Parameters
        ----------
        steps : int
            At least 0.

        Returns
        -------
        Tensor or ndarray, shape (N, d)
            ``points``. After Ctrl-C (a warning says so) or a callback that returned True, those of the last whole step.
        """
        last = self._step + _checks.count(_OPERATION, "steps", steps, 0)
        if self._step == last:
            return self.points

        def step() -> tuple[dict[str, Any], str | None]:
            record = self._advance()
            self.history.append(record)
            return record, "finished" if self._step == last else None

        with torch.no_grad():
            self.status, _ = _loop.run(
                step, title=_OPERATION, callback=self._callback, progress=self._progress, figure="value", counter="step"
            )
        if self.status == "interrupted":
            warnings.warn(
                f"{_OPERATION}: interrupted from the keyboard after step {self._step}", UserWarning, stacklevel=2
            )
        return self.points

    def _advance(self) -> dict[str, Any]:
        began = time.perf_counter()
        here = self._points if self._shift is None else self._points - self._shift
        y = None if self._y is None else self._y[None]
        a = None if self._masses is None else self._masses[None]
        found = _plan.run(self._plan(), here[None], y, a, None, GRAD_X | VALUE)
        assert found.grad_x is not None and found.value is not None
        self._velocity.mul_(self.momentum).add_(found.grad_x[0])
        self._points.add_(self._velocity, alpha=-self.step_size * self._points.shape[0])
        self._step += 1
        return {"step": self._step, "value": float(found.value), "seconds": time.perf_counter() - began}

    def _plan(self) -> Plan:
        backend = _backend.forced(None)
        if self._target is not None:
            index = None
            if self.num_slices < self._target.num_slices:
                index = pool_draw(self._target, self.num_slices, self._generator)
            return self._target.plan(_OPERATION, False, 1.0, backend, index)
        like = self._points
        slices = draw(like.shape[1], self.num_slices, self._law, self._generator, like.dtype, like.device)
        evaluate, constant = evaluator(
            Kernel("riesz", 1.0, 1.0), slices.dimension, False, like.dtype, like.device, backend
        )
        return Plan(
            operation=_OPERATION,
            slices=slices,
            evaluate=evaluate,
            factor=constant,
            total=slices.count,
            backend=backend,
            centred=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed flow needs to go on with the same bits: points, velocity, step, generator, history.

        Returns
        -------
        dict
            Copies, which ``torch.save`` takes.
        """
        return {
            "points": self._points.clone(),
            "velocity": self._velocity.clone(),
            "step": self._step,
            "generator": self._generator.get_state(),
            "history": [dict(record) for record in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of a flow with the same target and settings.

        Parameters
        ----------
        state : dict
            As ``state_dict`` returned it.

        Raises
        ------
        ValueError, TypeError
            An entry is missing, or the particles have another shape or dtype.
        """
        operation, entries = f"{_OPERATION}.load_state_dict", ("points", "velocity", "step", "generator", "history")
        if not isinstance(state, dict):
            _checks.reject(operation, "`state` to be a dict", type(state).__name__, kind=TypeError)
        missing = [name for name in entries if name not in state]
        if missing:
            _checks.reject(operation, f"`state` with {', '.join(entries)}", f"one without {', '.join(missing)}")
        for name, tensor in (("points", self._points), ("velocity", self._velocity)):
            found = state[name]
            if found.shape != tensor.shape:
                _checks.reject(operation, f"`{name}` of shape {tuple(tensor.shape)}", tuple(found.shape))
            if found.dtype != tensor.dtype:
                remedy = "Make the flow with particles of that dtype."
                _checks.reject(operation, f"`{name}` of dtype {tensor.dtype}", found.dtype, remedy, TypeError)
        with torch.no_grad():
            self._points.copy_(state["points"])
            self._velocity.copy_(state["velocity"])
        self._step = int(state["step"])
        self._generator.set_state(state["generator"])
        self.history = [dict(record) for record in state["history"]]


def _momentum(value: Any) -> float:
    momentum = _checks.plain_float(_OPERATION, "momentum", value)
    if not 0 <= momentum < 1:
        _checks.reject(_OPERATION, "`momentum` of at least 0 and below 1", value)
    return momentum


def _one_cloud(name: str, points: Tensor) -> None:
    if points.dim() != 2:
        remedy = "Run a flow for each of a batch."
        _checks.reject(_OPERATION, f"`{name}` of shape (points, dimensions)", tuple(points.shape), remedy)


def _own_generator() -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
