"""Inputs of the ranking operators' Cases: small samples that reach every branch of the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..testing.cases import Inputs
from . import _reference_rank as reference

EVERYTHING = 31


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _samples(
    dtype: torch.dtype, device: str, seed: int, slices: int, n: int, m: int, law: str
) -> tuple[Tensor, Tensor]:
    """Two samples of a law: a shift apart, or with many ties, or where buckets of equal width fail."""
    generator = _generator(seed + 1000 * n + m)

    def draw(count: int, shift: float) -> Tensor:
        z = torch.randn(slices, count, generator=generator, dtype=torch.float64)
        u = torch.rand(slices, count, generator=generator, dtype=torch.float64)
        made = {
            "normal": z + shift,
            "ties": (3 * (z + shift)).round() / 4,
            "cauchy": z / (u - 0.5) + shift,
            "clusters": 1e-3 * (z + shift) + 1e4 * (u < 0.5),
            "signed_zeros": torch.where(u < 0.4, torch.copysign(torch.zeros_like(u), u - 0.2), (u > 0.8).double()),
            "huge": 3e38 * (2 * u - 1),
            "tiny": 1e-41 * z,
        }[law]
        return made.to(device, dtype)

    return draw(n, 0.0), draw(m, 0.3)


def _weights(seed: int, device: str, signed: bool, *shape: int) -> Tensor:
    drawn = torch.rand(*shape, generator=_generator(seed + shape[-1]), dtype=torch.float64).to(device) + 0.1
    drawn = drawn / drawn.sum(-1, keepdim=True)
    return drawn * 1.5 - 0.8 / shape[-1] if signed else drawn


def rank_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    def problem(n: int, m: int, law: str = "normal", unbiased: bool = False, outputs: int = EVERYTHING) -> Inputs:
        x, y = _samples(dtype, device, seed, 3, n, m, law)
        weights = {"x_weights": None, "y_weights": None}
        return {"x": x, "y": y, **weights, "unbiased": unbiased, "outputs": outputs}

    points = reference.GRAD_X | reference.GRAD_Y | reference.VALUE  # what the ranking without a sort gives
    found = {
        "1x1": problem(1, 1),
        "small": problem(9, 14),
        "more_y": problem(5, 600, outputs=points),
        "buckets": problem(413, 370, outputs=points),
        "buckets_unbiased": problem(300, 451, unbiased=True, outputs=points),
        "x_alone": problem(260, 290, outputs=reference.GRAD_X),
        "value_alone": problem(260, 290, outputs=reference.VALUE),
        "unbiased": problem(70, 55, unbiased=True),
        "sorted": problem(3100, 3100),  # wide digits
    }
    for law in ("ties", "cauchy", "clusters", "signed_zeros", "huge", "tiny"):
        found[law] = problem(170, 210, law, outputs=points)
    constant = problem(90, 80, outputs=points)
    found["constant"] = {**constant, **{name: torch.full_like(constant[name], 1.25) for name in ("x", "y")}}
    same = problem(150, 150, "ties")
    order = torch.randperm(150, generator=_generator(seed)).to(device)
    found["identical"] = {**same, "y": same["x"][:, order].contiguous()}
    weighted = problem(80, 130, "ties")
    shapes = {"weighted": ((80,), (130,)), "weighted_rows": ((3, 80), (3, 130))}
    for name, (shape_x, shape_y) in shapes.items():
        signed = name == "weighted_rows"
        found[name] = {
            **weighted,
            "x_weights": _weights(seed, device, signed, *shape_x),
            "y_weights": _weights(seed + 1, device, signed, *shape_y),
        }
    odd = problem(40, 30)
    odd["x"][0, 7], odd["y"][2, 29] = -torch.inf, torch.inf
    return {**found, "not_finite": odd, "last": problem(33, 47, outputs=points)}


def sort_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, shared in rank_inputs(dtype, device, seed).items():
        if name not in ("huge", "not_finite", "signed_zeros"):
            found[name] = {"y": shared["y"], "y_weights": shared["y_weights"]}
    return found


def rank_sorted_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, shared in rank_inputs(dtype, device, seed).items():
        points, cumulative = reference.sort(shared["y"], shared["y_weights"])
        weights = {"x_weights": shared["x_weights"], "cumulative": None if shared["x_weights"] is None else cumulative}
        wanted = shared["outputs"] & ~(reference.GRAD_Y | reference.POTENTIAL_Y)
        found[name] = {"x": shared["x"], "sorted": points, **weights, "unbiased": shared["unbiased"], "outputs": wanted}
    return found


def permutation_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    sizes = {"two": (1, 1, 3, "normal"), "small": (5, 9, 7, "ties"), "many": (40, 57, 150, "normal")}
    for name, (n, m, rows, law) in {**sizes, "not_finite": (6, 8, 3, "normal"), "last": (12, 8, 65, "cauchy")}.items():
        z = torch.cat(_samples(dtype, device, seed, 3, n, m, law), 1)
        if name == "not_finite":
            z[1, 3] = -torch.inf
        generator = _generator(seed)
        order = torch.stack([torch.randperm(n + m, generator=generator) for _ in range(rows)])
        found[name] = {"z": z, "labels": (order < n).to(device, torch.uint8)}
    return found


def wasserstein_inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    for name, (n, m, p, law) in {
        "1x1": (1, 1, 2.0, "normal"),
        "equal": (140, 140, 2.0, "normal"),
        "city": (90, 90, 1.0, "normal"),
        "power": (70, 70, 2.5, "normal"),
        "unequal": (120, 75, 2.0, "normal"),
        "coprime": (31, 47, 1.0, "normal"),
        "unequal_power": (12, 100, 3.0, "cauchy"),
        "last": (33, 66, 1.5, "clusters"),
    }.items():
        x, y = _samples(dtype, device, seed, 3, n, m, law)
        found[name] = {"x": x, "y": y, "p": p, "outputs": 7}
    odd = {**found["unequal"], "x": found["unequal"]["x"].clone()}
    odd["x"][1, 5] = torch.inf
    return {"not_finite": odd, **found}
