"""Small transport problems that the tests share, and a plain Sinkhorn to judge by."""

from __future__ import annotations

import warnings

import torch

import fastcore_ops as fo


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masses(n, seed=0, floor=0.2):
    weights = uniform(n, seed=seed + 17) + floor
    return weights / weights.sum()


def even(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def assignment(n, m=None, seed=0):
    """Costs drawn evenly from [0, 1], uniform masses."""
    m = m or n
    return uniform(n, m, seed=seed), even(n), even(m)


def random_problem(n, m, seed=0):
    return uniform(n, m, seed=seed), masses(n, seed), masses(m, seed + 1)


def grid(k):
    axis = torch.linspace(0, 1, k, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


def image_pair(k, background=1e-6):
    """Two images on a k x k grid: a blob, and two blobs far away; nearly no mass between them."""
    points = grid(k)

    def blob(x, y, width):
        return torch.exp(-(points - torch.tensor([x, y]).double()).square().sum(1) / (2 * width**2))

    first = blob(0.3, 0.3, 0.1) + background
    second = blob(0.7, 0.2, 0.08) + blob(0.6, 0.8, 0.1) + background
    return points, first / first.sum(), second / second.sum()


def l1_grid(k=8):
    """Tied costs: the city-block distance between the pixels of two images."""
    points, a, b = image_pair(k)
    return torch.cdist(points, points, p=1), a, b


def l2_grid(k=8):
    points, a, b = image_pair(k)
    return (points[:, None] - points[None]).square().sum(2), a, b


def far_clouds(n=40, m=30, d=2):
    return uniform(n, d, seed=3), uniform(m, d, seed=4) + 0.5, masses(n, 5), masses(m, 6)


BATTERY = {
    "assignment": assignment(40),
    "random": random_problem(35, 50),
    "l1_grid": l1_grid(),
    "l2_grid": l2_grid(),
}


def quiet(solve, *args, **options):
    """A solve that may warn that it did not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.ConvergenceWarning)
        return solve(*args, **options)


def true_error(result, a, b):
    """The marginal error of the plan that the user sees, recomputed."""
    plan = torch.as_tensor(result.plan()).double()
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return float(((plan.sum(1) - a).abs().sum() + (plan.sum(0) - b).abs().sum()) / a.sum())


def plain_errors(cost, a, b, reg, passes):
    """Error of plain Sinkhorn at the target reg after 1, 2, ... passes: rows exact, columns measured, columns fitted."""
    log_a, log_b = a.log(), b.log()
    g, errors = torch.zeros_like(b), []
    for _ in range(passes):
        f = -reg * torch.logsumexp(log_b + (g - cost) / reg, dim=1)
        log_columns = log_b + torch.logsumexp(log_a[:, None] + (f[:, None] + g - cost) / reg, dim=0)
        errors.append(float((log_columns.exp() - b).abs().sum()))
        g = g + reg * (log_b - log_columns)
    return errors
