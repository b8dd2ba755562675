"""Choice of backend. Forced by ``backend=``, then ``use_backend``, then ``FASTCORE_BACKEND``; else the first available."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from . import _native
from ._checks import reject

BACKENDS = ("cpp", "cuda", "triton", "reference")
_TEST_BACKENDS = ("cuda_on_cpu",)
_ORDER = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}
_SERVES = {"cpp": ("cpu",), "cuda": ("cuda",), "triton": ("cuda",), "cuda_on_cpu": ("cpu",)}


@dataclass(frozen=True)
class _Op:
    reference: Callable[..., Any]
    backends: tuple[str, ...]


_ops: dict[str, _Op] = {}
_forced: str | None = None  # a plain global: Dynamo guards it, a ContextVar would break the graph


def register(name: str, reference: Callable[..., Any], backends: tuple[str, ...]) -> None:
    """Add an operator: its torch reference, and the backends that have a kernel for it."""
    _ops[name] = _Op(reference, backends)


def registered() -> dict[str, tuple[str, ...]]:
    """Operators by name, each with the backends that have a kernel for it."""
    return {name: op.backends for name, op in _ops.items()}


def _checked_name(name: str) -> str:
    if name not in BACKENDS + _TEST_BACKENDS:
        reject("backend", f"one of {', '.join(map(repr, BACKENDS))}", repr(name))
    return name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend for the calls inside the ``with`` block.

    Parameters
    ----------
    name : {"cpp", "cuda", "triton", "reference"}
        The call's main operator must have it; further operators without it run as torch on the same device.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> with fo.use_backend("reference"):
    ...     res = fo.sinkhorn_newton(torch.rand(4, 4), reg=0.5)
    """
    global _forced
    before, _forced = _forced, _checked_name(name)
    try:
        yield
    finally:
        _forced = before


def forced(argument: str | None) -> str | None:
    """Return the backend that is forced for a call, if any."""
    if argument is not None:
        return _checked_name(argument)
    if _forced is not None:
        return _forced
    environment = os.environ.get("FASTCORE_BACKEND")
    return _checked_name(environment) if environment else None


def _why_not(op: _Op, backend: str, device: str) -> str | None:
    if backend == "reference":
        return None
    if backend not in op.backends and not (backend == "cuda_on_cpu" and "cuda" in op.backends):
        return "it has no kernel for this operator"
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if device not in _SERVES[backend] and not interpreted:
        return f"it does not serve tensors on {device!r}"
    return _native.why_absent(backend)


def pick(name: str, device: torch.device, backend: str | None = None, main: bool = False) -> Callable[..., Any]:
    """Return the callable that runs operator ``name`` on ``device``.

    ``backend`` is a forced backend (see ``forced``). Where it cannot serve the main operator of a call this raises with
    the reason; any other operator then runs as torch.
    """
    op = _ops[name]
    candidates = _ORDER.get(device.type, ("reference",))
    if backend is not None:
        reason = _why_not(op, backend, device.type)
        if reason is not None and main:
            raise RuntimeError(f"{name}: backend {backend!r} cannot run: {reason}")
        candidates = ("reference",) if reason is not None else (backend,)
    for candidate in candidates:
        if _why_not(op, candidate, device.type) is None:
            return op.reference if candidate == "reference" else _native.handle(name, candidate)
    return op.reference


def available(backend: str) -> bool:
    """Whether a backend can run on this machine."""
    return backend == "reference" or _native.why_absent(backend) is None


def report() -> list[dict[str, Any]]:
    """One row per backend: availability, the reason if it is off, operators with and without a kernel."""
    rows = []
    for backend in BACKENDS:
        served = [name for name, op in _ops.items() if backend == "reference" or backend in op.backends]
        rows.append(
            {
                "backend": backend,
                "available": available(backend),
                "reason": None if backend == "reference" else _native.why_absent(backend),
                "ops": served,
                "missing_ops": [name for name in _ops if name not in served],
            }
        )
    return rows
