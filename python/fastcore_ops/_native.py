"""The compiled operators: loads the modules, hands out operators, says why one is absent. Alone touches torch.ops."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import torch

_NAMESPACES = {
    "cpp": "fastcore_ops",
    "cuda": "fastcore_ops",
    "triton": "fastcore_triton",
    "cuda_on_cpu": "fastcore_cuda_on_cpu",
}
_TRITON_MODULES = ("sinkhorn_newton", "optim", "mmd_exact", "mmd_fourier")  # those that register operators
_ISA_NAMES = ("baseline", "v3", "v4")
_absent: dict[str, str] = {}
_loaded: set[str] = set()


def _load_module(backend: str, module: str) -> None:
    try:
        importlib.import_module(f"fastcore_ops.{module}")
    except ModuleNotFoundError:
        _absent[backend] = f"the module {module} was not built"
    except (ImportError, OSError) as error:
        _absent[backend] = f"the module {module} does not load: {error}"


def _load_triton() -> None:
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        _absent["triton"] = "needs a GPU, or TRITON_INTERPRET=1 set before the first import"
        return
    try:
        for module in _TRITON_MODULES:
            importlib.import_module(f"fastcore_ops.triton_kernels.{module}")
    except ImportError as error:
        _absent["triton"] = f"triton does not import: {error}"


def _load_cuda_on_cpu() -> None:
    library = os.environ.get("FASTCORE_CUDA_ON_CPU")
    if not library:
        _absent["cuda_on_cpu"] = "test only: FASTCORE_CUDA_ON_CPU names no library"
        return
    torch.ops.load_library(library)


def _load(backend: str) -> None:
    if backend in _loaded:
        return
    _loaded.add(backend)
    if backend == "triton":
        _load_triton()
    elif backend == "cuda_on_cpu":
        _load_cuda_on_cpu()
    elif backend == "cuda":
        _load("cpp")
        if "cpp" in _absent:
            _absent["cuda"] = "the module _C, which defines the operators, is missing"
        elif not torch.cuda.is_available():
            _absent["cuda"] = "no CUDA device is available"
        else:
            _load_module("cuda", "_C_cuda")
    else:
        _load_module("cpp", "_C")


def why_absent(backend: str) -> str | None:
    """Return the reason why a backend cannot run here, or None if it can."""
    _load(backend)
    return _absent.get(backend)


def handle(name: str, backend: str = "cpp") -> Callable[..., Any]:
    """Return the operator ``name`` of a backend; RuntimeError with the reason if it is absent."""
    reason = why_absent(backend)
    if reason is None:
        packet = getattr(getattr(torch.ops, _NAMESPACES[backend]), name, None)
        if packet is not None:
            return packet.default
        reason = "it has no such operator"
    raise RuntimeError(f"{name}: backend {backend!r} is absent: {reason}")


def register_fake(name: str, fake: Callable[..., Any]) -> None:
    """Register the shape function of an operator, if the operator is there."""
    if why_absent("cpp") is not None:
        return
    try:
        torch.library.register_fake(f"fastcore_ops::{name}", fake)
    except RuntimeError as error:
        raise ImportError(
            f"fastcore_ops: the compiled module is older than the package ({error}); run `make build`"
        ) from error


def new_zeros(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros that will be streamed through: on the CPU in large pages, where the system has them."""
    made = torch.empty(size, dtype=dtype, device=device)
    if device.type == "cpu" and why_absent("cpp") is None:
        handle("prefer_huge_pages")(made, made.element_size())
    return made.zero_()


def cpu_isa() -> str:
    """Name of the instruction set that the CPU loops use, or ``"none"`` without the compiled module."""
    return _ISA_NAMES[handle("cpu_isa")()] if why_absent("cpp") is None else "none"


def cuda_arch_list() -> list[str]:
    """Architectures that the CUDA module was built for; empty where it is absent."""
    if why_absent("cuda") is not None:
        return []
    return list(getattr(importlib.import_module("fastcore_ops._C_cuda"), "arch_list", list)())
