"""What a transport solver returns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._arrays import to_numpy, to_tensor
from .._checks import reject, require_real
from .._result import SolveResult
from . import _reference
from ._envelope import EnvelopeValue, NoGradientYet
from ._evaluation import Evaluator
from ._problem import Problem, Side


@dataclass(repr=False)
class OTResult(SolveResult):
    """Solution of an entropic transport problem.

    Potentials follow the KL convention ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)`` with ``sum_j b_j g_j = 0``; they
    and the values are float64. NumPy in, NumPy out. The result keeps the centred problem, so ``plan()`` and ``value`` are
    right even where an offset of the cost is too large for ``f`` and ``g`` to say.

    Attributes
    ----------
    f, g : tensor, shapes (n,) and (m,)
        Potentials; finite also where there is no mass.
    value : tensor or float
        ``<C, P> + reg * KL(P | a b^T)``. Differentiable in cost, points and masses.
    dual_value : tensor or float
        The dual objective: never above the optimum, and equal to ``value`` at convergence.
    linear_cost : tensor or float
        ``<C, P>``; computed when asked for.
    marginal_error : float
        ``(|P 1 - a|_1 + |P^T 1 - b|_1) / sum(a)``.
    status, converged, history : see ``SolveResult``
        A record of ``history`` holds move, reg, error, alpha, lambda, density, cg, passes, seconds; while the solve
        anneals, reg and error are those of the level.
    n_newton, n_passes, n_cg : int
        Newton steps, reads of all n x m entries, conjugate-gradient iterations.
    """

    reg: float
    problem: Problem = field(repr=False)
    centred_g: Tensor = field(repr=False)
    row_lse: Tensor = field(repr=False)
    col_sum: Tensor = field(repr=False)
    n_newton: int
    n_passes: int
    n_cg: int
    backend: str | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self._f, self._g = self._potentials()
            self._dual, self._primal = self._values()

    # Assembly ------------------------------------------------------------------------------------------------------

    @property
    def evaluator(self) -> Evaluator:
        """Operators on the centred problem."""
        return Evaluator(self.problem, self.backend)

    def spread(self, kept: Tensor, side: Side) -> Tensor:
        """Entries of a side back at their places, zero where there is no mass."""
        if side.kept is None:
            return kept
        full = kept.new_zeros(side.mass.shape[0], *kept.shape[1:])
        full[side.kept] = kept
        return full

    def _potentials(self) -> tuple[Tensor, Tensor]:
        """KL potentials in the user's orientation, gauge <b, g> = 0."""
        p, reg = self.problem, self.reg
        g = self.centred_g - reg * self.evaluator.log(p.b) + p.cols.offset
        f = -reg * self.row_lse + p.rows.offset
        f, g = self._beyond_mass(f, g)
        if p.transposed:
            f, g = g, f
        mass_b = (p.rows if p.transposed else p.cols).mass
        shift = torch.dot(mass_b, g) / p.total_mass
        return f + shift - reg * float(np.log(p.total_mass)), g - shift

    def _beyond_mass(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Soft c-transforms where there is no mass: f_i = -reg log sum_j b_j exp((g_j - C_ij) / reg), and likewise g."""
        p = self.problem
        if p.rows.kept is None and p.cols.kept is None:
            return f, g
        cost = p.inputs[0].detach() if not p.is_points else None
        x, y = (None, None) if cost is not None else (p.inputs[0].detach().double(), p.inputs[1].detach().double())
        if p.transposed:
            cost, x, y = None if cost is None else cost.t(), y, x
        full_f, full_g = self.spread(f, p.rows), self.spread(g, p.cols)
        for potential, side, others, other_side, by_rows in (
            (full_f, p.rows, full_g, p.cols, True),
            (full_g, p.cols, full_f, p.rows, False),
        ):
            if side.kept is None:
                continue
            for i in (side.mass <= 0).nonzero().squeeze(1).tolist():
                if cost is not None:
                    line = cost[i].double() if by_rows else cost[:, i].double()
                else:
                    assert x is not None and y is not None
                    here, there = (x[i : i + 1], y) if by_rows else (y[i : i + 1], x)
                    line = _reference.cost_rows(here, there.t(), p.source[2], None, None)[0]
                has_mass = other_side.mass > 0
                share = other_side.mass[has_mass] / p.total_mass
                soft = torch.logsumexp(share.log() + (others[has_mass] - line[has_mass]) / self.reg, dim=0)
                potential[i] = -self.reg * soft if bool(soft.isfinite()) else 0.0
        return full_f, full_g

    def _values(self) -> tuple[Tensor, Tensor]:
        """Dual and primal value, from the centred problem. With unit mass W = <a, f> + <c, g>, c the column sums of P."""
        p, reg, s = self.problem, self.reg, self.problem.total_mass
        f, g = -reg * self.row_lse, self.centred_g - reg * self.evaluator.log(p.b)
        offsets = torch.dot(p.a, p.rows.offset)
        dual = torch.dot(p.a, f) + torch.dot(p.b, g) + offsets + torch.dot(p.b, p.cols.offset)
        primal = torch.dot(p.a, f) + torch.dot(self.col_sum, g) + offsets + torch.dot(self.col_sum, p.cols.offset)
        extra = reg * (s * s - s - s * float(np.log(s)))
        return s * dual + extra, s * primal + extra

    # Outputs -------------------------------------------------------------------------------------------------------

    def _needs_grad(self, *more: Tensor) -> bool:
        return torch.is_grad_enabled() and any(t.requires_grad for t in (*self.problem.inputs, *more))

    def _guard(self, output: Tensor, name: str, *more: Tensor) -> Any:
        if self.problem.numpy:
            return to_numpy(output)
        return NoGradientYet.apply(output, name, *self.problem.inputs, *more) if self._needs_grad(*more) else output

    def detached_potentials(self) -> tuple[Tensor, Tensor]:
        """F and g as plain tensors."""
        return self._f, self._g

    @property
    def f(self) -> Any:
        """Potential of the rows, float64, shape (n,)."""
        return self._guard(self._f, "f")

    @property
    def g(self) -> Any:
        """Potential of the columns, float64, shape (m,)."""
        return self._guard(self._g, "g")

    @property
    def value(self) -> Any:
        """``<C, P> + reg KL(P | a b^T)``, differentiable by the envelope theorem."""
        if self.problem.numpy:
            return float(self._primal)
        if self._needs_grad():
            return EnvelopeValue.apply(self._primal, self, *self.problem.inputs)
        return self._primal

    @property
    def dual_value(self) -> Any:
        """Dual objective at ``f`` and ``g``."""
        return float(self._dual) if self.problem.numpy else self._guard(self._dual, "dual_value")

    @property
    def linear_cost(self) -> Any:
        """``<C, P>``; one pass over the entries each time it is asked for."""
        with torch.no_grad():
            p = self.problem
            total = torch.dot(p.a, p.rows.offset) + torch.dot(self.col_sum, p.cols.offset)
            for _, centred, _, plan in _reference.plan_rows(*p.source, self.centred_g, p.a, self.reg):
                total = total + (plan * centred.where(plan > 0, torch.zeros_like(centred))).sum()
            total = total * p.total_mass
        return float(total) if p.numpy else self._guard(total, "linear_cost")

    @property
    def marginal_error(self) -> float:
        """``(|P 1 - a|_1 + |P^T 1 - b|_1) / sum(a)``."""
        return self.error

    def dense_plan(self, dtype: torch.dtype) -> Tensor:
        """Dense plan as a plain tensor, in the user's orientation."""
        p = self.problem
        with torch.no_grad():
            plan = self.evaluator.plan(self.centred_g, self.reg)
            plan = self.spread(plan.to(dtype) * p.total_mass, p.rows)
            if p.cols.kept is not None:
                plan = self.spread(plan.t(), p.cols).t()
            return (plan.t() if p.transposed else plan).contiguous()

    def plan(self) -> Any:
        """Dense plan, shape (n, m), in the dtype of the computation; built anew at each call."""
        return self._guard(self.dense_plan(self.problem.dtype), "plan()")

    def plan_sparse(self, threshold: float) -> Any:
        """Entries of the plan above an absolute threshold.

        Parameters
        ----------
        threshold : float
            Entries ``P_ij <= threshold`` are left out.

        Returns
        -------
        torch.Tensor (sparse CSR) or scipy.sparse.csr_array
            Shape (n, m); SciPy's for NumPy input.
        """
        if not threshold >= 0:
            reject(self.operation, "`threshold` to be at least 0", threshold)
        p, rows, cols, values = self.problem, [], [], []
        with torch.no_grad():
            for part, _, _, plan in _reference.plan_rows(*p.source, self.centred_g, p.a, self.reg):
                plan = plan * p.total_mass
                i, j = (plan > threshold).nonzero(as_tuple=True)
                rows.append(i + part.start)
                cols.append(j)
                values.append(plan[i, j].to(p.dtype))
            i, j = torch.cat(rows), torch.cat(cols)
            i = i if p.rows.kept is None else p.rows.kept[i]
            j = j if p.cols.kept is None else p.cols.kept[j]
            if p.transposed:
                i, j = j, i
            shape = (self._f.shape[0], self._g.shape[0])
            order = i.argsort(stable=True)
            indptr = torch.nn.functional.pad(i.bincount(minlength=shape[0]).cumsum(0), (1, 0))
            parts = (indptr, j[order], torch.cat(values)[order])
        if not p.numpy:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch: CSR tensors are in beta state
                matrix = torch.sparse_csr_tensor(*parts, shape, check_invariants=False)
                return self._guard(matrix, "plan_sparse()")
        from scipy.sparse import csr_array

        numpy_indptr, indices, data = (to_numpy(part) for part in parts)
        return csr_array((data, indices, numpy_indptr), shape=shape)

    def apply(self, v: Any, axis: int = 1) -> Any:
        """Product of the plan with vectors, without forming the plan.

        Parameters
        ----------
        v : tensor or array, shape (m,) or (m, k) for ``axis=1``, (n,) or (n, k) for ``axis=0``
            Computed in float64.
        axis : {1, 0}
            1 gives ``P v``, 0 gives ``P^T v``.

        Returns
        -------
        tensor or array
            Float64, shape (n,) or (n, k), respectively (m,) or (m, k).
        """
        if axis not in (0, 1):
            reject(self.operation, "`axis` to be 0 or 1", axis)
        p = self.problem
        given = to_tensor(self.operation, "v", v)
        require_real(self.operation, "v", given)
        vectors = given.detach().to(p.device, torch.float64)
        size = (self._g if axis == 1 else self._f).shape[0]
        if vectors.dim() not in (1, 2) or vectors.shape[0] != size:
            reject(self.operation, f"`v` of shape ({size},) or ({size}, k)", tuple(vectors.shape))
        columns = vectors[:, None] if vectors.dim() == 1 else vectors
        on_columns = (axis == 1) != p.transposed
        with torch.no_grad():
            side, other = (p.cols, p.rows) if on_columns else (p.rows, p.cols)
            picked = side.gather(columns).t().contiguous()
            v_k, w_k = (picked, picked.new_zeros(0, p.a.shape[0])) if on_columns else (None, picked)
            products = self.evaluator.product(self.centred_g, self.reg, v_k, w_k)[0 if on_columns else 1]
            out = self.spread(products.t() * p.total_mass, other)
        out = out[:, 0] if vectors.dim() == 1 else out
        return self._guard(out.contiguous(), "apply()", given)

    def __repr__(self) -> str:
        n, m = self._f.shape[0], self._g.shape[0]
        return (
            f"OTResult({n} x {m}, reg={self.reg:g}, {self.status}, value={float(self._primal):.6g}, "
            f"marginal_error={self.error:.2g}, n_passes={self.n_passes}, n_newton={self.n_newton}, n_cg={self.n_cg})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the graph."""
        state = dict(self.__dict__)
        problem = dict(self.problem.__dict__)
        problem["inputs"] = tuple(t.detach() for t in self.problem.inputs)
        state["problem"] = Problem(**problem)
        return state
