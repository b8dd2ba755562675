"""Inputs of the optimal-transport benchmarks: synthetic costs, photographs, digits, densities.

A case carries only what is small (points, masses, a seed); each process computes the cost
matrix itself, so that nothing of size n x m travels through a pipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """One transport problem. `group` chooses the bar a row sets for it."""

    name: str
    group: str  # "random", "densities_2d" or "other"
    a: Array
    b: Array
    metric: str = "sqeuclidean"
    x: Array | None = None
    y: Array | None = None
    seed: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.a), len(self.b)

    def cost(self) -> Array:
        """The dense float64 cost, C-ordered."""
        if self.seed is not None:
            return np.random.default_rng(self.seed).random(self.shape)
        assert self.x is not None and self.y is not None
        cost = np.zeros(self.shape)
        for xk, yk in zip(self.x.T, self.y.T, strict=True):
            diff = xk[:, None] - yk[None, :]
            cost += np.abs(diff) if self.metric == "cityblock" else diff * diff
        return cost


def marginal_error(cost: Array, a: Array, b: Array, reg: float, f: Array, g: Array) -> float:
    """(|P1 - a|_1 + |P'1 - b|_1) / total mass, in float64, for P = exp((f + g - cost) / reg).

    `f` and `g` are absolute potentials: the masses are already inside them. Anything that
    is not finite counts as an infinite error.
    """
    columns = np.zeros(len(b))
    row_error = 0.0
    block = max(1, 2_000_000 // len(b))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(a), block):
            rows = slice(start, start + block)
            plan = np.exp((f[rows, None] + g[None, :] - cost[rows]) / reg)
            row_error += float(np.abs(plan.sum(1) - a[rows]).sum())
            columns += plan.sum(0)
        error = (row_error + float(np.abs(columns - b).sum())) / float(a.sum())
    return error if np.isfinite(error) else float("inf")


def random_assignment(n: int) -> Case:
    uniform = np.full(n, 1.0 / n)
    return Case(f"random_{n}", "random", uniform, uniform, "none", seed=n)


def _square_grid(k: int) -> Array:
    line = np.linspace(0.0, 1.0, k)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def _normalised(mass: Array) -> Array:
    flat = np.asarray(mass, dtype=np.float64).ravel()
    return flat / flat.sum()


@cache
def _photographs() -> tuple[Array, Array]:
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg"), load_sample_image("flower.jpg")


def _resize(image: Array, mode: str) -> Array:
    import torch.nn.functional as F
    from torch import from_numpy

    options = {"align_corners": False} if mode == "bilinear" else {}
    resized = F.interpolate(from_numpy(image)[None, None], (28, 28), mode=mode, **options)
    return resized[0, 0].numpy()


def _centre_square(image: Array) -> Array:
    side = min(image.shape)
    top, left = ((length - side) // 2 for length in image.shape)
    return image[top : top + side, left : left + side]


def photos(metric: str) -> Case:
    a, b = (_normalised(_resize(_centre_square(photo.mean(2)), "area")) for photo in _photographs())
    grid = _square_grid(28)
    return Case(f"photos_{_short(metric)}", "other", a, b, metric, grid, grid)


def digits(metric: str) -> Case:
    from sklearn.datasets import load_digits

    images = load_digits().images
    a, b = (_normalised(_normalised(_resize(images[k].astype(np.float64), "bilinear")) + 1e-6) for k in (0, 7))
    grid = _square_grid(28)
    return Case(f"digits_{_short(metric)}", "other", a, b, metric, grid, grid)


def palettes(n: int) -> Case:
    rng = np.random.default_rng(0)
    pixels = (photo.reshape(-1, 3) for photo in _photographs())
    x, y = (p[rng.choice(len(p), n, replace=False)] / 255.0 for p in pixels)
    uniform = np.full(n, 1.0 / n)
    return Case(f"rgb_{n}", "other", uniform, uniform, "sqeuclidean", x, y)


def densities_1d(n: int = 1000) -> Case:
    t = np.linspace(0.0, 1.0, n)

    def bump(centre: float, width: float) -> Array:
        return np.exp(-((t - centre) ** 2) / (2 * width**2))

    a = _normalised(bump(0.25, 0.08) + 0.02)
    b = _normalised(0.6 * bump(0.5, 0.05) + 0.4 * bump(0.8, 0.06) + 0.02)
    return Case(f"densities_1d_{n}", "other", a, b, "sqeuclidean", t[:, None], t[:, None])


def densities_2d(k: int) -> Case:
    grid = _square_grid(k)

    def bump(centre: tuple[float, float], width: float) -> Array:
        return np.exp(-((grid - np.array(centre)) ** 2).sum(1) / (2 * width**2))

    a = _normalised(bump((0.3, 0.3), 0.1) + 0.01)
    b = _normalised(bump((0.7, 0.3), 0.08) + bump((0.6, 0.8), 0.1) + 0.01)
    return Case(f"densities_2d_{k}", "densities_2d", a, b, "sqeuclidean", grid, grid)


def _short(metric: str) -> str:
    return {"sqeuclidean": "l2", "cityblock": "l1"}[metric]


CASES: dict[str, Callable[[], Case]] = {
    "random_500": lambda: random_assignment(500),
    "random_1000": lambda: random_assignment(1000),
    "photos_l2": lambda: photos("sqeuclidean"),
    "photos_l1": lambda: photos("cityblock"),
    "digits_l2": lambda: digits("sqeuclidean"),
    "digits_l1": lambda: digits("cityblock"),
    "rgb_1000": lambda: palettes(1000),
    "rgb_4000": lambda: palettes(4000),
    "densities_1d_1000": lambda: densities_1d(1000),
    "densities_2d_32": lambda: densities_2d(32),
    "densities_2d_64": lambda: densities_2d(64),
}
