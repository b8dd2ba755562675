"""Points, slices and truths of the kernel distances' races. D² is half of MMD² throughout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import exp, lgamma, pi, sqrt

import torch
from torch import Tensor

SHIFT = 0.3  # of y's mean in every coordinate


def slicing_constant(d: int) -> float:
    """|v| is this times the mean of |<xi, v>| over directions xi."""
    return sqrt(pi) * exp(lgamma((d + 1) / 2) - lgamma(d / 2))


@dataclass(frozen=True)
class Problem:
    n: int
    d: int
    slices: int = 0
    clipped: bool = False  # at zero, as features of a network are

    @cached_property
    def x(self) -> Tensor:
        x = torch.randn(self.n, self.d, generator=torch.Generator().manual_seed(0))
        return x.clamp_min_(0) if self.clipped else x

    @cached_property
    def y(self) -> Tensor:
        y = torch.randn(self.n, self.d, generator=torch.Generator().manual_seed(1)) + SHIFT
        return y.clamp_min_(0) if self.clipped else y

    @cached_property
    def directions(self) -> Tensor:
        return self.draw(2)

    def draw(self, seed: int) -> Tensor:
        """Independent directions."""
        generator = torch.Generator().manual_seed(seed)
        return torch.nn.functional.normalize(torch.randn(self.slices, self.d, generator=generator))

    @cached_property
    def projected(self) -> tuple[Tensor, Tensor]:
        return self.directions @ self.x.T, self.directions @ self.y.T


def energy_gradient(x: Tensor, y: Tensor, rows: int) -> Tensor:
    """The exact gradient of D² at the first `rows` points of x, in float64 from direct differences."""
    n, m = len(x), len(y)
    x64, y64 = x.double(), y.double()
    return torch.stack([_unit_sum(p, y64) / (n * m) - _unit_sum(p, x64) / (n * n) for p in x64[:rows]])


def _unit_sum(point: Tensor, others: Tensor) -> Tensor:
    difference = point - others
    return torch.nn.functional.normalize(difference, dim=1, eps=1e-300).sum(0)


def energy_value(x: Tensor, y: Tensor, rows: int = 64) -> float:
    """D² in float64 from direct differences."""

    def mean(u: Tensor, v: Tensor) -> float:
        blocks = u.double().split(rows)
        exact = "donot_use_mm_for_euclid_dist"
        return sum(float(torch.cdist(b, v.double(), compute_mode=exact).sum()) for b in blocks) / (len(u) * len(v))

    return mean(x, y) - 0.5 * mean(x, x) - 0.5 * mean(y, y)


def kid_value(x: Tensor, y: Tensor) -> float:
    """The unbiased MMD² of the whole sets under (<u, v> / d + 1)³, in float64."""
    x, y = x.double(), y.double()

    def gram(u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T / u.shape[1] + 1) ** 3

    def off_diagonal(u: Tensor) -> float:
        k = gram(u, u)
        return float(k.sum() - k.diagonal().sum()) / (len(u) * (len(u) - 1))

    return off_diagonal(x) + off_diagonal(y) - 2 * float(gram(x, y).mean())
