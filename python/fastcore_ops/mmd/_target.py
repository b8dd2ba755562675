"""``SlicedTarget``: a fixed cloud, or the standard normal law, seen along a fixed pool of directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _backend, _checks
from .._arrays import to_tensor
from . import _inputs, _walk
from ._directions import slicing_constant
from ._plan import Plan
from ._reference_rank import GRAD_X, POTENTIAL_X, VALUE
from ._slices import Slices, choose

_X_OUTPUTS = GRAD_X | VALUE | POTENTIAL_X
_OPERATION = "SlicedTarget"
_NO_SECOND = (
    "second derivatives through the slices of a target are not given: with the kernel's kink, the Hessian of a fixed set of"
    " slices is zero almost everywhere and says nothing of that of the distance. Give the points of the target themselves,"
    ' with method="exact"'
)


class SlicedTarget:
    """A target that stays: its points are projected and sorted once, along a fixed pool of directions.

    Stands for ``y`` in ``sliced_mmd``, ``sliced_mmd_grad`` and ``MMDFlow``, and brings its directions: only ``x`` is
    projected and ranked then. Memory is that of the sorted projections, num_slices times M.

    Parameters
    ----------
    y : tensor or array, shape (M, d)
        Points; detached. Half precision is computed in float32.
    directions : tensor or array, shape (P, d), optional
        The pool, as for ``sliced_mmd``.
    num_slices : int, optional
        Size of the pool where it is drawn; default 1 for d = 1, else max(128, d) (d padded for "hadamard").
    slices : str, default "auto"
        Law of the pool, as for ``sliced_mmd``.
    generator : torch.Generator, optional
        Source of the pool; the global one is left alone where it is given.
    y_weights : tensor or array, shape (M,), optional
        Masses of the points, uniform when absent.

    Attributes
    ----------
    slices : Slices
        The pool.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what was expected and what came.

    References
    ----------
    J. Hertrich, C. Wald, F. Altekrüger, P. Hagemann, "Generative Sliced MMD Flows with Riesz Kernels", ICLR 2024,
    arXiv:2305.11463.

    Examples
    --------
    >>> import fastcore_ops as fo, torch
    >>> target = fo.mmd.SlicedTarget(torch.randn(2000, 20), num_slices=200)
    >>> value = fo.sliced_mmd(torch.randn(500, 20), target)
    """

    slices: Slices

    def __init__(
        self,
        y: Any,
        directions: Any = None,
        *,
        num_slices: int | None = None,
        slices: str = "auto",
        generator: torch.Generator | None = None,
        y_weights: Any = None,
    ) -> None:
        given = to_tensor(_OPERATION, "y", y)
        points = _inputs.check_points(_OPERATION, "y", given).detach()
        if points.dim() != 2:
            remedy = "A target is one cloud: make one for each of a batch."
            _checks.reject(_OPERATION, "`y` of shape (points, dimensions)", tuple(points.shape), remedy)
        self._weights, self._tolerance = None, 0.0
        if y_weights is not None:
            weights = _inputs.check_weights(_OPERATION, "y_weights", y_weights, points, torch.Size()).detach()
            self._weights, self._tolerance = weights, _inputs.totals_tolerance(points, y_weights)
        self.slices = choose(_OPERATION, points, given.dtype, directions, num_slices, slices, generator)
        self._dimension, self._dtype, self._device = points.shape[1], points.dtype, points.device
        self._given_dtype: torch.dtype | None = given.dtype
        self._points: Tensor | None = points
        self._spread: Tensor | None = None  # of the standard normal law along each direction
        self._shift = None if points.shape[1] == 1 else _walk.centre(points)
        self._sort(points)

    @classmethod
    def standard_normal(
        cls,
        d: int,
        directions: Any = None,
        *,
        num_slices: int | None = None,
        slices: str = "auto",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SlicedTarget:
        """The law N(0, I) of R^d, without a sample of it: E|t - Z| = t (2 Phi(t) - 1) + 2 phi(t). Riesz r = 1 only.

        Parameters
        ----------
        d : int
            Dimension.
        directions, num_slices, slices, generator
            The pool, as for a sample.
        dtype : torch.dtype, optional
            Of the points that will be compared, float32 or float64; default torch's default dtype.
        device : torch.device, optional
            Theirs; default the CPU.

        Returns
        -------
        SlicedTarget

        Examples
        --------
        >>> import fastcore_ops as fo, torch
        >>> normal = fo.mmd.SlicedTarget.standard_normal(5)
        >>> small = fo.sliced_mmd(torch.randn(1000, 5), normal)
        """
        operation = f"{_OPERATION}.standard_normal"
        d = _checks.count(operation, "d", d, 1)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            _checks.reject(operation, "`dtype` to be float32 or float64", dtype, kind=TypeError)
        target = cls.__new__(cls)
        like = torch.empty(1, d, dtype=dtype, device=device)
        target.slices = choose(operation, like, dtype, directions, num_slices, slices, generator)
        target._dimension, target._dtype, target._device = d, dtype, like.device
        target._given_dtype = None  # no points were given: half ones meet float32
        target._points = target._weights = target._shift = target._sorted = target._cumulative = None
        target._tolerance = 0.0
        rows = target.slices.explicit(d)  # padded ones are shorter than 1 in R^d
        target._spread = rows.double().norm(dim=1)
        return target

    @property
    def num_slices(self) -> int:
        """Size of the pool."""
        return self.slices.count

    def __repr__(self) -> str:
        what = "standard normal" if self._points is None else f"{self._points.shape[0]} points"
        return f"SlicedTarget({what} in R^{self._dimension}, {self.num_slices} slices)"

    def _sort(self, points: Tensor) -> None:
        sort = _backend.pick("mmd_sort", points.device, _backend.forced(None), main=True)
        found: list[tuple[Tensor, Tensor]] = []

        def visit(start: int, stop: int, tx: Tensor, ty: Tensor | None) -> tuple[None, None]:
            found.append(sort(tx, self._weights))
            return None, None

        with torch.no_grad():
            _walk.walk(
                self.slices, points.contiguous(), None, self._shift, visit, (False, False), _backend.forced(None)
            )
        self._sorted: Tensor | None = torch.cat([part[0] for part in found])
        self._cumulative: Tensor | None = None
        if self._weights is not None:
            self._cumulative = torch.cat([part[1] for part in found])

    # What the calls need of a target -----------------------------------------------------------------------------

    def check(
        self, operation: str, x: Any, x_weights: Any, unbiased: bool, signed: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Points and weights that are compared with the target."""
        given = to_tensor(operation, "x", x)
        points = _inputs.check_points(operation, "x", given)
        _checks.require_same_device(operation, "x", points, "the target", self._device)
        mine, theirs = (points.dtype, self._dtype) if self._given_dtype is None else (given.dtype, self._given_dtype)
        if mine != theirs:
            _checks.reject(
                operation, f"`x` of the target's dtype ({theirs})", given.dtype, "Convert one of them.", TypeError
            )
        if points.shape[-1] != self._dimension:
            _checks.reject(operation, f"`x` in the target's dimension ({self._dimension})", points.shape[-1])
        if unbiased:
            like = points if self._points is None else self._points
            _inputs.check_unbiased(operation, points, like, x_weights, self._weights)
        if x_weights is None and self._weights is None:
            return points, None
        if x_weights is None:
            a = torch.full(points.shape[-2:-1], 1.0 / points.shape[-2], dtype=torch.float64, device=points.device)
        else:
            a = _inputs.check_weights(operation, "x_weights", x_weights, points, points.shape[:-2])
        if not signed:
            b = torch.ones(1, dtype=torch.float64, device=points.device) if self._weights is None else self._weights
            tolerance = max(self._tolerance, _inputs.totals_tolerance(points, x_weights))
            _inputs.check_totals(operation, a, b, tolerance)
        return points, a

    def cloud(self, operation: str, kernel: str) -> tuple[Tensor, Tensor | None]:
        """Points and weights, for kernels that do not sort."""
        if self._points is None:
            remedy = "Draw a sample of it for other kernels."
            _checks.reject(
                operation, "the kernel 'riesz' with r = 1 for the standard normal target", repr(kernel), remedy
            )
        return self._points, self._weights

    def plan(
        self, operation: str, unbiased: bool, factor: float, backend: str | None, index: Tensor | None = None
    ) -> Plan:
        """Comparison with the whole pool, or with the slices that ``index`` lists (ascending)."""
        slices = self.slices if index is None else self.slices.select(index)
        op = _backend.pick("mmd_rank_sorted", self._device, backend, main=True)

        def rows(whole: Tensor, start: int, stop: int, folds: int) -> Tensor:
            part = whole[start:stop] if index is None else whole[index[start:stop]]
            return part if folds == 1 else part.repeat_interleave(folds, 0)

        evaluate = (
            self._against_points(op, unbiased, rows) if self._spread is None else self._normal(op, unbiased, rows)
        )
        constant = slicing_constant(slices.dimension, 1.0)
        return Plan(
            operation=operation,
            slices=slices,
            evaluate=evaluate,
            factor=constant * factor,
            total=slices.count,
            backend=backend,
            shift=self._shift,
            centred=False,
            no_second=_NO_SECOND,
        )

    def _against_points(
        self, op: Callable[..., Any], unbiased: bool, rows: Callable[..., Tensor]
    ) -> Callable[..., Any]:
        def evaluate(
            start: int, stop: int, tx: Tensor, ty: None, a: Tensor | None, b: None, outputs: int
        ) -> tuple[Tensor, ...]:
            assert self._sorted is not None
            folds = tx.shape[0] // (stop - start)
            sorted_rows, cumulative = rows(self._sorted, start, stop, folds), None
            if self._cumulative is not None:
                cumulative = rows(self._cumulative, start, stop, folds)
            elif a is not None:
                count = sorted_rows.shape[1]
                even = torch.arange(count + 1, dtype=torch.float64, device=tx.device) / count
                cumulative = even.expand(tx.shape[0], -1).contiguous()
            grad, value, potential = op(tx, sorted_rows, a, cumulative, unbiased, outputs & _X_OUTPUTS)
            return grad, tx.new_empty(0), value, potential, value.new_empty(0)

        return evaluate

    def _normal(self, op: Callable[..., Any], unbiased: bool, rows: Callable[..., Tensor]) -> Callable[..., Any]:
        """N(0, s^2) on each slice: the distance from points at 0, and what differs of it.

        With u = t/s, E|t - sZ| = |t| + 2 s (phi(u) - |u| Phi(-|u|)), so each distance grows by the second term, whose slope
        is -sign(t) erfc(|u| / sqrt 2); and E|sZ - sZ'| / 2 = s / sqrt pi.
        """

        def evaluate(
            start: int, stop: int, tx: Tensor, ty: None, a: Tensor | None, b: None, outputs: int
        ) -> tuple[Tensor, ...]:
            assert self._spread is not None
            s = rows(self._spread, start, stop, tx.shape[0] // (stop - start))[:, None]
            at_zero = torch.zeros(tx.shape[0], 2, dtype=tx.dtype, device=tx.device)
            cumulative = None if a is None else at_zero.new_tensor([0.0, 0.5, 1.0], dtype=torch.float64)
            cumulative = None if cumulative is None else cumulative.expand(tx.shape[0], -1).contiguous()
            grad, value, potential = op(tx, at_zero, a, cumulative, unbiased, outputs & _X_OUTPUTS)
            t = tx.double()
            u = (t / s).abs()
            mass: Any = 1.0 / tx.shape[1] if a is None else a
            tail = torch.erfc(u / math.sqrt(2))
            farther = s * (math.sqrt(2 / math.pi) * torch.exp(-u * u / 2) - u * tail)
            if outputs & GRAD_X:
                grad = (grad.double() - mass * t.sign() * tail).to(tx.dtype)
            if outputs & VALUE:
                value = value + (mass * farther).sum(1) - s[:, 0] / math.sqrt(math.pi)
            if outputs & POTENTIAL_X:
                potential = potential + farther
            return grad, tx.new_empty(0), value, potential, value.new_empty(0)

        return evaluate


def pool_draw(target: SlicedTarget, count: int, generator: torch.Generator | None) -> Tensor:
    """Indices of ``count`` different slices of a pool, ascending."""
    source = target._device if generator is None else generator.device
    drawn = torch.randperm(target.num_slices, generator=generator, device=source)[:count]
    return drawn.sort().values.to(target._device)
