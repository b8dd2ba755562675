"""How each side of an optimizer's race is made. A package that is missing raises ImportError where it is asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any

import torch

import fastcore_ops

from . import optim_loops

# rule -> distribution, module and class that its authors released; DiffGrad's is torch-optimizer's copy of the authors' file
RELEASES = {
    "AdaBelief": ("adabelief-pytorch", "adabelief_pytorch", "AdaBelief"),
    "AdamP": ("adamp", "adamp", "AdamP"),
    "SGDP": ("adamp", "adamp", "SGDP"),
    "DiffGrad": ("torch-optimizer", "torch_optimizer", "DiffGrad"),
    "DoG": ("dog-optimizer", "dog", "DoG"),
    "Grams": ("grams-pytorch", "grams", "Grams"),
    "LDoG": ("dog-optimizer", "dog", "LDoG"),
    "MADGRAD": ("madgrad", "madgrad", "MADGRAD"),
    "MirrorMADGRAD": ("madgrad", "madgrad", "MirrorMADGRAD"),
}
PACKAGES = sorted({release[0] for release in RELEASES.values()} | {"pytorch_optimizer"})


def found() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the peers' packages, and those that are missing."""
    versions, missing = {}, {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing[package] = "not installed"
    return versions, missing


def _quietly(make: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # AdaBelief prints its settings
        return make()


def _release(params: Sequence[Any], rule: str, options: dict[str, Any]) -> Any:
    _, module, name = RELEASES[rule]
    kind = getattr(_quietly(lambda: importlib.import_module(module)), name)
    return _quietly(lambda: kind(params, **options))


def _pytorch_optimizer(params: Sequence[Any], rule: str, options: dict[str, Any], path: str) -> Any:
    kind = getattr(importlib.import_module("pytorch_optimizer"), rule)
    optimizer = kind(params, foreach=path != "loop", **options)
    if path == "compiled":  # what its create_optimizer(compile=True) does
        _before_compiling()
        optimizer._compile_foreach()
    return optimizer


def _before_compiling() -> None:
    """Nothing that was compiled before counts against this one, and falling back to eager is an error."""
    from torch._inductor import config

    torch._dynamo.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    config.cpp.threads = torch.get_num_threads()


def _compiled_step(params: Sequence[Any], rule: str, options: dict[str, Any]) -> Callable[[], Any]:
    """torch's own optimizer with foreach=True, its step compiled."""
    _before_compiling()
    optimizer = getattr(torch.optim, rule)(params, **options | {"foreach": True})
    return torch.compile(lambda: optimizer.step(), fullgraph=False)


def make_step(side: dict[str, Any], params: Sequence[Any]) -> Callable[[], Any]:
    """The `step` of a side: `package`, `rule`, `options`, and `path` where the package has several."""
    package, rule, options = side["package"], side["rule"], dict(side.get("options", {}))
    if "state_dtype" in options:
        options["state_dtype"] = getattr(torch, options["state_dtype"])
    if package == "torch compiled":
        return _compiled_step(params, rule, options)
    makers: dict[str, Callable[[], Any]] = {
        "ours": lambda: getattr(fastcore_ops.optim, rule)(params, **options),
        "torch": lambda: getattr(torch.optim, rule)(params, **options),
        "loops": lambda: getattr(optim_loops, rule)(params, **options),
        "release": lambda: _release(params, rule, options),
        "pytorch_optimizer": lambda: _pytorch_optimizer(params, rule, options, side["path"]),
    }
    step: Callable[..., Any] = makers[package]().step
    return partial(step, loss=1.0) if rule == "SANIA" else step  # its step solves for a loss


def graphs() -> int:
    """How many graphs have been compiled: one more while a race runs is a compilation in the middle of it."""
    dynamo = sys.modules.get("torch._dynamo")
    return int(dynamo.utils.counters["stats"]["unique_graphs"]) if dynamo else 0
