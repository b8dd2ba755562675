"""``mmd_test``: do two samples come from one law? A permutation test with the sliced distance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _backend, _checks
from .._arrays import to_tensor
from . import _inputs, _walk
from ._directions import slicing_constant
from ._kernels import SCALED, Kernel, check_kernel
from ._permuted_modes import permuted_modes
from ._slices import Slices, choose

_OPERATION = "mmd_test"
_KERNELS = ("riesz", *SCALED)
_GROUP_BYTES = 1 << 28  # labellings that are looked at together


@dataclass(frozen=True)
class MMDTestResult:
    """Outcome of ``mmd_test``.

    Attributes
    ----------
    statistic : float
        Squared distance (MMD²) of the samples along the slices.
    p_value : float
        ``(1 + #{null >= statistic}) / (num_permutations + 1)``: never 0. NaN where a point is not finite.
    null : ndarray, shape (num_permutations,)
        The statistic of the permuted samples.
    """

    statistic: float
    p_value: float
    null: np.ndarray = field(repr=False)


def mmd_test(
    x: Any,
    y: Any,
    *,
    num_permutations: int = 999,
    kernel: str = "riesz",
    bandwidth: float | None = None,
    num_slices: int | None = None,
    slices: str = "auto",
    directions: Any = None,
    generator: torch.Generator | None = None,
) -> MMDTestResult:
    """Permutation test of whether two samples come from the same law, by the sliced kernel distance.

    Each slice is sorted once, and all relabellings of the pooled sample are swept over it: time grows with slices times
    points times permutations, memory does not see the square of the number of points.

    Parameters
    ----------
    x, y : tensor or array, shapes (N, d) and (M, d)
        Samples of one floating dtype, on one device.
    num_permutations : int, default 999
        Random relabellings.
    kernel : {"riesz", "gaussian", "laplace", "matern", "rational_quadratic", "imq"}
        "riesz" is the energy distance, r = 1; the others as in ``sliced_mmd``, with its defaults for their numbers.
    bandwidth : float, optional
        Scale of the others; default the median distance of the pooled sample.
    num_slices, slices, directions, generator
        As for ``sliced_mmd``; the generator draws the permutations too. The same slices serve all of them.

    Returns
    -------
    MMDTestResult
        ``statistic``, ``p_value``, ``null``: plain numbers, without gradients.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola, "A Kernel Two-Sample Test", Journal of Machine Learning
    Research 13, 2012.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> result = fo.mmd.mmd_test(torch.randn(100, 5), torch.randn(80, 5) + 1, num_permutations=199)
    >>> result.p_value
    0.005
    """
    count = _checks.count(_OPERATION, "num_permutations", num_permutations, 1)
    name = _checks.one_of(_OPERATION, "kernel", kernel, _KERNELS)
    known = check_kernel(_OPERATION, name, bandwidth=bandwidth)
    with torch.no_grad():
        points_x, points_y = (points.detach() for points in _inputs.check_pair(_OPERATION, x, y))
        for side, points in (("x", points_x), ("y", points_y)):
            if points.dim() != 2:
                remedy = "Test each of a batch by itself."
                _checks.reject(_OPERATION, f"`{side}` of shape (points, dimensions)", tuple(points.shape), remedy)
        dtype = to_tensor(_OPERATION, "x", x).dtype
        chosen = choose(_OPERATION, points_x, dtype, directions, num_slices, slices, generator)
        known = known.of_sample(points_x, points_y)
        pooled, n = torch.cat([points_x, points_y]), points_x.shape[0]
        group = max(64, _GROUP_BYTES // pooled.shape[0] // 64 * 64)
        found = []
        for start in range(0, count + 1, group):  # the first labelling is the one observed
            rows = min(group, count + 1 - start)
            labels = _labellings(rows, n, pooled.shape[0], generator, pooled.device, observed=start == 0)
            found.append(_statistics(chosen, known, pooled, labels))
        values = torch.cat(found).cpu().numpy()
    return _result(values, ranked=name == "riesz", dtype=points_x.dtype)


def _result(values: np.ndarray, ranked: bool, dtype: torch.dtype) -> MMDTestResult:
    statistic, null = float(values[0]), values[1:].copy()
    if not np.isfinite(statistic):
        return MMDTestResult(statistic, float("nan"), null)
    # Ranks give equal labellings equal bits; a product gives the same sums in another order.
    slack = 0.0 if ranked else 64 * torch.finfo(dtype).eps * abs(statistic)
    above = int((null >= statistic - slack).sum())
    return MMDTestResult(statistic, (1 + above) / (null.shape[0] + 1), null)


def _labellings(
    rows: int, n: int, total: int, generator: torch.Generator | None, device: torch.device, observed: bool
) -> Tensor:
    """Rows of n ones among ``total``, at random; where ``observed``, the first has them in front."""
    source = device if generator is None else generator.device
    labels = torch.zeros(rows, total, dtype=torch.uint8, device=source)
    for k, row in enumerate(labels):
        if observed and k == 0:
            row[:n] = 1
        else:
            row[torch.randperm(total, generator=generator, device=source)[:n]] = 1
    return labels.to(device)


def _statistics(slices: Slices, kernel: Kernel, pooled: Tensor, labels: Tensor) -> Tensor:
    """MMD² for each labelling, float64."""
    backend, ranked = _backend.forced(None), kernel.name == "riesz"
    op = _backend.pick("mmd_permutation", pooled.device, backend, main=ranked)
    total = torch.zeros(labels.shape[0], dtype=torch.float64, device=pooled.device)

    def visit(start: int, stop: int, tx: Tensor, ty: Tensor | None) -> tuple[None, None]:
        if ranked:
            total.add_(op(tx, labels).sum(0))
        else:
            total.add_(permuted_modes(kernel, slices.dimension, tx, labels, backend))
        return None, None

    shift = None if pooled.shape[1] == 1 else _walk.centre(pooled)
    _walk.walk(slices, pooled.contiguous(), None, shift, visit, (False, False), backend)
    constant = slicing_constant(slices.dimension, 1.0) if ranked else 1.0
    return total * (2 * constant / slices.count)
