"""From the arguments of a sliced call to a plan and its clouds, or to the decision for the exact distance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import _backend, _checks
from .._arrays import is_numpy, to_tensor
from . import _directions, _inputs
from ._evaluators import differentiable, evaluator, is_ranked
from ._kernels import Kernel, check_kernel
from ._plan import Plan
from ._sharded import Ranks, gather_shards
from ._slices import Slices, check_law, choose
from ._target import SlicedTarget

_METHODS = ("auto", "sliced", "exact")
_SWITCHES = ("unbiased", "half", "signed", "sharded")
_ROUGH = 0.5  # up to this r the gradient of a slice has infinite variance


@dataclass
class Options:
    """Keyword arguments of ``sliced_mmd`` and ``sliced_mmd_grad``, as given."""

    kernel: Any
    r: Any
    bandwidth: Any
    x_weights: Any
    y_weights: Any
    num_slices: Any
    slices: Any
    directions: Any
    generator: Any
    unbiased: bool
    method: Any
    half: bool
    signed: bool
    process_group: Any
    sharded: bool
    nu: Any
    alpha: Any
    beta: Any
    degree: Any

    @property
    def distributed(self) -> bool:
        """Whether several ranks work together."""
        return self.process_group is not None or self.sharded

    @property
    def asks_for_slices(self) -> bool:
        """Whoever gives slices gets slices."""
        return self.directions is not None or self.num_slices is not None or self.slices != "auto"


@dataclass
class Call:
    """Clouds with one batch axis and how they are compared.

    ``plans`` holds one plan for the whole batch, or one for each of its elements; none where the exact distance is meant,
    or the batch has no elements.
    ``sample`` is what was given (of a target, its points or those of x again).
    """

    sample: _inputs.Sample
    kernel: Kernel
    x: Tensor
    y: Tensor | None
    a: Tensor | None
    b: Tensor | None
    batch: torch.Size
    plans: list[Plan] = field(default_factory=list)


def prepare(operation: str, x: Any, y: Any, given: Options) -> Call:
    """Check a call, and decide how it is computed."""
    for name in _SWITCHES:
        setattr(given, name, _checks.switch(operation, name, getattr(given, name)))
    _checks.one_of(operation, "method", given.method, _METHODS)
    names = ("r", "bandwidth", "nu", "alpha", "beta", "degree", "unbiased")
    kernel = check_kernel(operation, given.kernel, **{name: getattr(given, name) for name in names})
    _check_method(operation, kernel, isinstance(y, SlicedTarget), given)
    if isinstance(y, SlicedTarget):
        return _with_target(operation, x, y, kernel, given)
    call = _checked_clouds(operation, x, y, kernel, given)
    check_law(operation, call.x.shape[-1], given.num_slices, given.slices, given.generator)
    if _exact_is_meant(operation, call, kernel, given):
        return call
    given_dtype = to_tensor(operation, "x", x).dtype
    slices = choose(operation, call.x, given_dtype, given.directions, given.num_slices, given.slices, given.generator)
    if call.batch.numel() == 0:
        return call
    total, ranks = slices.count, None
    if given.distributed:
        ranks = Ranks(operation, given.process_group)
        slices, total = ranks.divide(slices, given.directions is not None, given.sharded)
    sample = [call.x.detach(), call.y.detach()] if call.y is not None else [call.x.detach()]
    if given.sharded and ranks is not None:
        call.a, call.b, sample = gather_shards(operation, call, ranks, given)
    call.plans = [_plan(operation, slices, known, call, given, total, ranks) for known in _kernels(kernel, sample)]
    return call


def _checked_clouds(operation: str, x: Any, y: Any, kernel: Kernel, given: Options) -> Call:
    apart = given.sharded  # totals, and counts of points, are compared when those of all ranks are known
    sample = _inputs.check_sample(
        operation,
        x,
        y,
        given.x_weights,
        given.y_weights,
        unbiased=given.unbiased and not apart,
        signed=given.signed or apart,
    )
    return Call(sample, kernel, *sample.flat(), sample.batch)


def _plan(
    operation: str, slices: Slices, kernel: Kernel, call: Call, given: Options, total: int, ranks: Ranks | None
) -> Plan:
    unbiased, backend, dtype = given.unbiased, _backend.forced(None), call.x.dtype
    evaluate, constant = evaluator(kernel, slices.dimension, unbiased, dtype, call.x.device, backend)
    return Plan(
        operation=operation,
        slices=slices,
        evaluate=evaluate,
        factor=constant * (1.0 if given.half else 2.0),
        total=total,
        backend=backend,
        ranks=ranks,
        sharded=given.sharded,
        second=None if given.distributed else differentiable(kernel, slices.dimension, unbiased, dtype),
    )


def _kernels(kernel: Kernel, sample: list[Tensor]) -> list[Kernel]:
    """The kernel for the whole batch, or one for each element where the bandwidth is that of the sample."""
    if kernel.bandwidth is not None:
        return [kernel]
    return [kernel.of_sample(*clouds) for clouds in zip(*sample, strict=True)]


def _check_method(operation: str, kernel: Kernel, target: bool, given: Options) -> None:
    for name, present in (
        ("directions", given.directions is not None),
        ("process_group", given.distributed),
        ("y, a SlicedTarget,", target),
    ):
        wants_slices = f"no `{name}`" if name[0] != "y" else "no SlicedTarget for `y`"
        if present and given.method == "exact":
            _checks.reject(operation, f'{wants_slices} with method="exact"', "one", 'Use method="sliced".')
        if present and kernel.name == "polynomial":
            remedy = "It is no radial kernel and has no slices: leave them out."
            _checks.reject(operation, f'{wants_slices} with the kernel "polynomial"', "one", remedy)
    if kernel.name == "polynomial" and given.method != "exact":
        remedy = 'It is no radial kernel and has no slices; use method="exact".'
        if given.method == "sliced":
            _checks.reject(operation, '`method` "exact" or "auto" with the kernel "polynomial"', '"sliced"', remedy)
        if given.asks_for_slices:
            _checks.reject(operation, 'no `num_slices` or `slices` with the kernel "polynomial"', "one", remedy)


def _exact_is_meant(operation: str, call: Call, kernel: Kernel, given: Options) -> bool:
    if given.method == "exact" or kernel.name == "polynomial":
        return True
    if given.method == "sliced" or given.asks_for_slices or given.distributed or call.y is None:
        return False
    d = call.x.shape[-1]
    default = _directions.default_num_slices(d, _directions.resolve(operation, d, "auto"))
    return call.x.shape[1] + call.y.shape[1] <= 2 * default


def _with_target(operation: str, x: Any, target: SlicedTarget, kernel: Kernel, given: Options) -> Call:
    for name in ("directions", "num_slices", "y_weights", "process_group"):
        if getattr(given, name) is not None:
            remedy = "It brings its own, or none; give it to SlicedTarget." if name != "process_group" else ""
            _checks.reject(operation, f"no `{name}` with a SlicedTarget", "one", remedy)
    for name, off in (("slices", "auto"), ("sharded", False)):
        if getattr(given, name) != off:
            _checks.reject(operation, f"no `{name}` with a SlicedTarget", repr(getattr(given, name)))
    points, a = target.check(operation, x, given.x_weights, given.unbiased, given.signed)
    batch = points.shape[:-2] if a is None else torch.broadcast_shapes(points.shape[:-2], a.shape[:-1])
    flat = points.expand(*batch, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    flat_a = None if a is None else a.expand(*batch, a.shape[-1]).reshape(-1, a.shape[-1])
    sample = _inputs.Sample(points, points, a, a, is_numpy(x))
    if is_ranked(kernel):
        plan = target.plan(operation, given.unbiased, 1.0 if given.half else 2.0, _backend.forced(None))
        return Call(sample, kernel, flat, None, flat_a, None, batch, [plan] * flat.shape[0])
    y, b = target.cloud(operation, kernel.name)
    flat_y = y.expand(flat.shape[0], *y.shape)
    flat_b = None if b is None else b.expand(flat.shape[0], *b.shape)
    if flat_a is not None and flat_b is None:
        flat_b = torch.full(flat_y.shape[:2], 1.0 / y.shape[0], dtype=torch.float64, device=y.device)
    elif flat_b is not None and flat_a is None:
        flat_a = torch.full(flat.shape[:2], 1.0 / flat.shape[1], dtype=torch.float64, device=y.device)
    call = Call(sample, kernel, flat, flat_y, flat_a, flat_b, batch)
    for known in _kernels(kernel, [flat.detach(), flat_y]):
        call.plans.append(_plan(operation, target.slices, known, call, given, target.slices.count, None))
    return call


def warn_if_rough(operation: str, given: Options) -> None:
    """Say so where the gradient in the points is asked for and its slices have infinite variance."""
    if given.kernel == "log" or (given.kernel == "riesz" and float(given.r) <= _ROUGH):
        what = "the kernel 'log'" if given.kernel == "log" else f"r = {given.r} <= 1/2"
        warnings.warn(
            f"{operation}: the gradient in the points of slices with {what} has infinite variance, however many there are;"
            ' use a larger r, or method="exact"',
            UserWarning,
            stacklevel=_checks.users_line(),
        )
