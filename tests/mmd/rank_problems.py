"""Samples that are hard to rank, and the energy distance by brute force."""

import torch

from fastcore_ops import _backend

LAWS = (
    "normal",
    "ties",
    "cauchy",
    "lognormal",
    "constant",
    "clusters",
    "far_outlier",
    "signed_zeros",
    "range",
    "denormal",
)
ALL = 31


def operator(name, backend="cpp"):
    return _backend.pick(name, torch.device("cpu"), backend)


def sample(law, slices, n, generator, dtype=torch.float32):
    z = torch.randn(slices, n, generator=generator, dtype=torch.float64)
    u = torch.rand(slices, n, generator=generator, dtype=torch.float64)
    drawn = {
        "normal": z,
        "ties": z.round(decimals=1),
        "cauchy": z / (u - 0.5),
        "lognormal": (3 * z).exp(),
        "constant": torch.full_like(z, -0.3),
        "clusters": 1e-3 * z + 1e4 * (u < 0.5),
        "far_outlier": torch.where(u == u.amax(1, keepdim=True), 1e30, z),
        "signed_zeros": torch.where(u < 0.5, torch.copysign(torch.zeros_like(z), z), z.sign()),
        "range": 3.4e38 * (2 * u - 1),
        "denormal": 1e-42 * z,
    }
    return drawn[law].to(dtype)


def hard_slices(n, seed):
    """A slice of each law, and some that are not finite."""
    generator = torch.Generator().manual_seed(seed + n)
    slices = [sample(law, 1, n, generator) for law in (*LAWS, "normal", "normal", "normal")]
    for row, bad in zip(slices[-3:], (torch.nan, torch.inf, -torch.inf), strict=True):
        row[0, n // 2] = bad
    return torch.cat(slices)


def doubled_ranks(at, points):
    """2 #less + #equal by comparison of all pairs."""
    return ((points[:, None] < at[..., None]).sum(2) * 2 + (points[:, None] == at[..., None]).sum(2)).long()


def gradient(x, y):
    """Rounded once from the exact integer numerator."""
    n, m = x.shape[1], y.shape[1]
    numerator = n * doubled_ranks(x, y) - m * doubled_ranks(x, x)
    return numerator.double() / (n * n * m)


def value(x, y, a, b, own_x=1.0, own_y=1.0):
    """D^2 from all distances; ``own_x``, ``own_y`` correct the self terms."""
    cross, within_x, within_y = ((left[:, :, None] - right[:, None]).abs() for left, right in ((x, y), (x, x), (y, y)))
    a, b = a.expand_as(x), b.expand_as(y)
    return (
        torch.einsum("pi,pij,pj->p", a, cross, b)
        - own_x * torch.einsum("pi,pij,pj->p", a, within_x, a) / 2
        - own_y * torch.einsum("pi,pij,pj->p", b, within_y, b) / 2
    )
