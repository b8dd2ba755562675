"""Regularised minimal polynomial extrapolation, in tensor operations that never ask the device for a number."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS, _SQUARINGS = 5, 4  # so many powers of two in all; between the rounds numbers are brought back to order 1


def extrapolation(gram: Tensor, known: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights of past gradients in the forecast of the next; Wang et al. 2021, algorithm 3.

    With U the differences of neighbouring gradients, ``(U' U / |U' U| + ridge I) z = 1`` and ``c = z / sum(z)``.

    Parameters
    ----------
    gram : Tensor of float64, shape (h, h)
        Inner products of the gradients, oldest first.
    known : Tensor of int64, shape ()
        How many of them, the last ones, there are.
    ridge : float
        Regularisation.

    Returns
    -------
    weights : Tensor of float64, shape (h,)
        0 for the newest gradient.
    found : Tensor of bool, shape ()
        Whether there is a combination: gradients are finite, and not all equal.
    """
    count = len(gram) - 1
    there = torch.arange(count, device=gram.device) >= len(gram) - known
    squares = gram.diff(dim=0).diff(dim=1).masked_fill(~(there & there[:, None]), 0.0)
    system = squares / largest_eigenvalue(squares) + ridge * torch.eye(count, dtype=gram.dtype, device=gram.device)
    z = _solve(system, there.to(gram.dtype))
    found = squares.isfinite().all() & squares.any()
    return torch.cat([z / z.sum(), z.new_zeros(1)]), found


def largest_eigenvalue(matrix: Tensor) -> Tensor:
    """Of a positive semidefinite matrix A: ``tr(A^(m+1)) / tr(A^m)``, ``m = 2^20``.

    To rounding, but for eigenvalues within about 1e-5 of the largest: with those to at least 1e-6 (n = 4). The ridge is a
    multiple of it. A decomposition on a GPU would have the host wait for its success.
    """
    power = matrix
    for _ in range(_ROUNDS if len(matrix) > 1 else 0):
        power = power / power.trace()
        for _ in range(_SQUARINGS):
            power = (power[:, :, None] * power).sum(1)
    return (power * matrix).sum() / power.trace()


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Gauss-Jordan elimination of a positive definite matrix: such a one needs no pivoting."""
    count = len(matrix)
    rows = torch.cat([matrix, right[:, None]], 1)
    pivots = torch.eye(count, dtype=torch.bool, device=matrix.device)
    for i in range(count):
        row = rows[i] / rows[i, i]
        rows = torch.where(pivots[i][:, None], row, rows - rows[:, i : i + 1] * row)
    return rows[:, count]
