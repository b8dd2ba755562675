"""From what the user passes to the problem that is solved: checked, centred, without empty sides, mass one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import _backend
from .._arrays import is_numpy, to_tensor
from .._checks import reject, require_real, require_same_device
from . import _reference
from ._point_cloud import METRICS, PointCloud

_MASS_MISMATCH = 1e-6
_SAMPLED_ROWS = 64


Source = tuple[Tensor, Tensor | None, int, Tensor | None, Tensor | None]


@dataclass
class Side:
    """One side of the problem: the entries with mass, and how far centring moved the potential."""

    mass: Tensor  # float64, as given (sums to the total mass)
    kept: Tensor | None  # indices of positive masses, in the order of the solve; None for all as they are
    offset: Tensor  # float64, one per kept entry: potential = centred potential + offset

    def gather(self, full: Tensor) -> Tensor:
        """Entries that take part."""
        return full if self.kept is None else full[self.kept]


@dataclass
class Problem:
    """Centred problem in the orientation in which it is solved: n rows with exact marginals, m <= n columns.

    ``source`` is (cost, y, metric, row_shift, col_shift) as the operators take it; ``a`` and ``b`` sum to one.
    """

    source: Source
    a: Tensor
    b: Tensor
    rows: Side
    cols: Side
    transposed: bool
    total_mass: float
    cost_range: float
    numpy: bool
    shift: Tensor | None  # mean of the row points minus mean of the column points, where each cloud was centred alone
    inputs: tuple[Tensor, ...] = field(repr=False)  # as given, for gradients

    @property
    def dtype(self) -> torch.dtype:
        """Dtype in which entries of the plan are computed."""
        return self.source[0].dtype

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self.a.device

    @property
    def is_points(self) -> bool:
        """Whether the cost is computed on the fly."""
        return self.source[2] != _reference.MATRIX

    def precision_floor(self, reg: float) -> float:
        """Marginal error that rounding leaves: about 0.2 u range / reg; float32 keeps what it loses (see the method page)."""
        unit = 1.1e-16 if self.dtype == torch.float64 else 1e-10
        least = 1e-15 if self.dtype == torch.float64 else 2e-8
        return max(least, 0.2 * unit * self.cost_range / reg)


def _checked_cost(operation: str, cost: Any) -> Tensor:
    matrix = to_tensor(operation, "cost", cost)
    require_real(operation, "cost", matrix)
    if matrix.dim() != 2 or 0 in matrix.shape:
        reject(operation, "`cost` of shape (n, m), both at least 1", tuple(matrix.shape))
    if not matrix.is_floating_point():
        return matrix.double()
    return matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix


def _checked_mass(operation: str, name: str, mass: Any, size: int, device: torch.device) -> Tensor:
    if mass is None:
        return torch.full((size,), 1.0 / size, dtype=torch.float64, device=device)
    vector = to_tensor(operation, name, mass)
    require_real(operation, name, vector)
    require_same_device(operation, name, vector, "cost", device)
    if tuple(vector.shape) != (size,):
        reject(operation, f"`{name}` of shape ({size},) to match `cost`", tuple(vector.shape))
    values = vector.double()
    detached = values.detach()
    if not bool(detached.isfinite().all()):
        reject(operation, f"`{name}` to be finite", "NaN or infinity")
    if bool((detached < 0).any()):
        reject(operation, f"`{name}` to be non-negative", float(detached.min()))
    if not float(detached.sum()) > 0:
        reject(operation, f"`{name}` with some mass", "all zeros")
    return values


def _balanced(operation: str, a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    total, other = float(a.sum()), float(b.sum())
    mismatch = abs(total - other) / max(total, other)
    if mismatch > _MASS_MISMATCH:
        reject(
            operation,
            "`a` and `b` of equal mass",
            f"{total:.9g} and {other:.9g} (they differ by {mismatch:.3g}, relative)",
            "Rescale one of them, e.g. b * (a.sum() / b.sum()).",
        )
    return b * (total / other), total


def _side(mass: Tensor) -> Side:
    positive = mass > 0
    kept = None if bool(positive.all()) else positive.nonzero().squeeze(1)
    size = mass.shape[0] if kept is None else kept.shape[0]
    return Side(mass, kept, torch.zeros(size, dtype=torch.float64, device=mass.device))


def _pick_rows(matrix: Tensor, kept: Tensor | None) -> Tensor:
    return matrix if kept is None else matrix[kept]


def _centre_matrix(
    operation: str, cost: Tensor, rows: Side, cols: Side, backend: str | None
) -> tuple[Tensor, Tensor, float]:
    """Row minima, then column minima, of finite costs; returns (row_shift, col_shift, range of what is left)."""
    row_shift, col_shift, largest = _backend.pick("ot_centre", cost.device, backend)(cost)
    if bool(row_shift.isnan().any()):
        reject(operation, "`cost` without NaN", "NaN")
    if bool(row_shift.isneginf().any()):
        reject(operation, "`cost` above -inf", "-inf")
    for shift in (row_shift, col_shift):
        if bool(shift.isposinf().any()):
            line = int(shift.isposinf().nonzero()[0, 0])
            reject(
                operation, "`cost` with a finite entry wherever there is mass", f"only inf in line {line} of one side"
            )
    cost_range = max(0.0, float((largest - col_shift).max()))
    rows.offset, cols.offset = row_shift.double(), col_shift.double()
    return row_shift, col_shift, cost_range


def _in_order(points: Tensor, side: Side) -> Tensor:
    """Points with mass along a Morton curve: neighbours then stand in the same blocks of the plan, or of what is skipped.

    The curve runs through the three coordinates with the largest spread; only the order depends on it, no result.
    """
    points = _pick_rows(points, side.kept)
    spread = points.double().amax(0) - points.double().amin(0)
    picked = spread.argsort(descending=True, stable=True)[:3]
    scaled = (points[:, picked].double() - points[:, picked].double().amin(0)) / spread[picked].clamp_min(1e-300)
    cells = (scaled * 1023).long()
    code = torch.zeros(points.shape[0], dtype=torch.int64, device=points.device)
    for bit in range(10):
        for axis in range(cells.shape[1]):
            code |= ((cells[:, axis] >> bit) & 1) << (bit * cells.shape[1] + axis)
    order = code.argsort(stable=True)
    side.kept = order if side.kept is None else side.kept[order]
    return points[order]


def _centre_points(x: Tensor, y: Tensor, metric: int, rows: Side, cols: Side) -> tuple[Tensor, Tensor, Tensor | None]:
    """Move the clouds to where differences lose least; for squared distances each to its own mean, an exact rewriting.

    ``|x - y|^2 = |x' - y'|^2 + 2 <d, x'> + |d|^2 - 2 <d, y'>`` with x' and y' centred and d the difference of means.
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    if metric != _reference.SQEUCLIDEAN:
        middle = (mean_x + mean_y) / 2
        return x - middle, y - middle, None
    x, y, shift = x - mean_x, y - mean_y, mean_x - mean_y
    rows.offset = 2 * (x @ shift) + shift.square().sum()
    cols.offset = -2 * (y @ shift)
    return x, y, shift


def _range_of_points(x: Tensor, y: Tensor, metric: int) -> float:
    """Range of the cost over evenly spaced rows: it sets the scale of the annealing, nothing else."""
    picked = torch.linspace(0, x.shape[0] - 1, min(_SAMPLED_ROWS, x.shape[0]), device=x.device).long()
    low, high = float("inf"), 0.0
    for rows in x[picked].split(8):
        sample = _reference.cost_rows(rows, y.t(), metric, None, None)
        low, high = min(low, float(sample.min())), max(high, float(sample.max()))
    return high - low


def prepare(
    operation: str, cost: Any, a: Any, b: Any, backend: str | None = None, may_transpose: bool = True
) -> Problem:
    """Check the arguments of a transport solver and return the centred problem."""
    points = cost if isinstance(cost, PointCloud) else None
    matrix = points.x if points is not None else _checked_cost(operation, cost)
    device = matrix.device
    n, m = points.shape if points is not None else matrix.shape
    a_given = _checked_mass(operation, "a", a, n, device)
    b_given = _checked_mass(operation, "b", b, m, device)
    inputs = (points.x, points.y, a_given, b_given) if points is not None else (matrix, a_given, b_given)
    numpy = points.numpy if points is not None else is_numpy(cost)
    with torch.no_grad():
        b_scaled, total = _balanced(operation, a_given.detach(), b_given.detach())
        rows, cols = _side(a_given.detach()), _side(b_scaled)
        transposed = may_transpose and cols.offset.shape[0] > rows.offset.shape[0]
        shift: Tensor | None = None
        source: Source
        if transposed:
            rows, cols = cols, rows
        if points is not None:
            metric = METRICS.index(points.metric) + 1
            x, y = (points.y, points.x) if transposed else (points.x, points.y)
            x, y = _in_order(x.detach(), rows), _in_order(y.detach(), cols)
            x, y, shift = _centre_points(x, y, metric, rows, cols)
            cost_range = _range_of_points(x, y, metric)
            dtype = points.x.dtype
            source = (x.to(dtype).contiguous(), y.t().to(dtype).contiguous(), metric, None, None)
        else:
            dense = matrix.detach().t() if transposed else matrix.detach()
            dense = _pick_rows(dense, rows.kept)
            dense = dense if cols.kept is None else dense[:, cols.kept]
            dense = dense.contiguous()
            row_shift, col_shift, cost_range = _centre_matrix(operation, dense, rows, cols, backend)
            source = (dense, None, _reference.MATRIX, row_shift, col_shift)
        return Problem(
            source=source,
            a=rows.gather(rows.mass) / total,
            b=cols.gather(cols.mass) / total,
            rows=rows,
            cols=cols,
            transposed=transposed,
            total_mass=total,
            cost_range=cost_range,
            numpy=numpy,
            shift=shift,
            inputs=inputs,
        )
