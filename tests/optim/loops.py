"""For tests that write a rule out once more as a plain float64 loop and walk it beside the optimizer."""

import numpy as np
import torch

from .problems import normal

TOLERANCE = 1e-12  # relative to a tensor's largest entry


def scattered(seed=0):
    """Small parameters of every shape and layout."""
    shapes = ((), (0,), (3, 0, 2), (1,), (13,), (5, 7), (1, 9), (6, 1))
    values = [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
    values.append(normal(9, 6, seed=seed + 20).t())
    values.append(normal(4, 3, 5, 4, seed=seed + 21).to(memory_format=torch.channels_last))
    values.append(normal(4, 3, 5, seed=seed + 22).permute(2, 0, 1))
    return [value.requires_grad_() for value in values]


def large(seed=0):
    """Parameters that span several pieces of the kernels' work: long rows, many rows, one dimension."""
    shapes = ((2, 40_000), (300, 130), (4,), (33_000,))
    return [normal(*shape, seed=seed + i).requires_grad_() for i, shape in enumerate(shapes)]


def arrays(tensors):
    return [x.detach().clone().contiguous().numpy() for x in tensors]


def draw(xs, t):
    """Gradients of step t, one for each array."""
    return [normal(*x.shape, seed=1000 * (t + 1) + i).numpy() for i, x in enumerate(xs)]


def hand_over(params, gradients):
    for p, g in zip(params, gradients, strict=True):
        p.grad = None if g is None else torch.empty_like(p).copy_(torch.from_numpy(np.asarray(g)))


def assert_close(found, wanted):
    for i, (p, x) in enumerate(zip(found, wanted, strict=True)):
        p = p.detach().numpy()
        assert p.shape == x.shape
        if x.size:
            np.testing.assert_allclose(p, x, rtol=0, atol=TOLERANCE * np.abs(x).max(), err_msg=f"parameter {i}")


def square(xs):
    return sum(float((x * x).sum()) for x in xs)
