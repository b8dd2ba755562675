"""What the machine takes for parts of the same work that nobody gets around, run in the race itself.

Buffers are of a block of slices and used again, as in ours: the bytes of a whole problem would go through memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .mmd_data import Problem

BLOCK = 64  # slices
DIGIT_PASSES = 3  # of eleven bits: a sort of 32-bit keys by their digits
LABELLINGS = 64  # that one word holds, one bit each

Call = Callable[[], Tensor]


def _blocks(problem: Problem) -> list[int]:
    full, rest = divmod(problem.slices, BLOCK)
    return [BLOCK] * full + ([rest] if rest else [])


def gemm(problem: Problem, both: bool = False) -> Call:
    """Projections of x and of y, and the way back of x's gradient (`both`: of y's too)."""
    x, y, directions = problem.x, problem.y, problem.directions
    buffers = [torch.zeros(BLOCK, problem.n) for _ in range(2)]
    gradients = [torch.zeros(problem.n, problem.d) for _ in range(1 + both)]

    def call() -> Tensor:
        first = 0
        for rows in _blocks(problem):
            block = directions[first : first + rows]
            for points, buffer in zip((x, y), buffers, strict=True):
                torch.mm(block, points.T, out=buffer[:rows])
            for gradient, buffer in zip(gradients, buffers, strict=False):
                gradient.addmm_(buffer[:rows].T, block)
            first += rows
        return gradients[0]

    return call


def sort(problem: Problem) -> Call:
    """Key and index of each projected point, read and written once for each digit."""
    keys, other = (torch.zeros(2 * problem.n, dtype=torch.int64) for _ in range(2))

    def call() -> Tensor:
        for _ in range(problem.slices):
            for _ in range(DIGIT_PASSES):
                other.copy_(keys)
        return other

    return call


def numpy_sort(problem: Problem) -> Call:
    """The keys alone, without indices, sorted by NumPy (by its vector instructions where it has some for the machine)."""
    keys = torch.cat(problem.projected, 1).numpy()
    buffer = keys.copy()

    def call() -> Tensor:
        np.copyto(buffer, keys)
        buffer.sort(axis=1)
        return torch.from_numpy(buffer)

    return call


def transfer(problem: Problem, sources: int = 1) -> Call:
    """Projections written and read, gradients of the slices (of x alone, or of both sides) written and read."""
    projections = torch.zeros(BLOCK, 2 * problem.n)
    gradients = torch.zeros(BLOCK, sources * problem.n)

    def call() -> Tensor:
        total = torch.zeros(())
        for rows in _blocks(problem):
            for buffer in (projections[:rows], gradients[:rows]):
                buffer.fill_(0.0)
                total += buffer.sum()
        return total

    return call


def read_write(problem: Problem) -> Call:
    """Projections read once, gradients of x written once."""
    x, y = problem.projected
    gradient = torch.zeros_like(x)
    return lambda: gradient.fill_(0.0)[0, 0] + x.sum() + y.sum()


def differences(problem: Problem) -> Call:
    """As many vector instructions in a product of matrices as differences of pairs, their squares and the way back need.

    For each coordinate two for a distance (subtract, multiply-add) and as many for a gradient, one more where both
    points have one; each pair once: 4 of n² between the clouds, 5 and 2 of n²/2 within x and within y.
    """
    slots = (4 + 3.5) * problem.n**2 * problem.d
    side = 512  # small enough for the caches, deep enough for the product's full speed
    a, b, out = (torch.ones(side, side) for _ in range(3))
    repeats = max(1, round(slots / side**3))

    def call() -> Tensor:
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        return out

    return call


def grams(problem: Problem) -> Call:
    """The three Gram matrices of the whole sets, the symmetric ones by half."""
    side = 1000
    a, b, out = problem.x[:side], problem.y[:side], torch.zeros(min(side, problem.n), min(side, problem.n))
    repeats = max(1, round(2 * problem.n**2 / out.numel()))

    def call() -> Tensor:
        for _ in range(repeats):
            torch.mm(a, b.T, out=out)
        return out

    return call


def labels(problem: Problem, permutations: int = 999) -> Call:
    """Labels read once for each slice, as 64 of them to a word, and a sum kept for each."""
    words = torch.zeros(-(-permutations // LABELLINGS) * 2 * problem.n, dtype=torch.int64)

    def call() -> Tensor:
        total = torch.zeros((), dtype=torch.int64)
        for _ in range(problem.slices):
            total += words.sum()
        return total

    return call


BOUNDS: dict[str, Callable[..., Call]] = {
    function.__name__: function
    for function in (gemm, sort, numpy_sort, transfer, read_write, differences, grams, labels)
}
