"""Cases of the random Hadamard projections."""

from __future__ import annotations

import torch

from ..testing.cases import Case, Inputs, Tolerance
from . import _reference_hadamard as reference
from ._cases_rank import run, spoilt, truth


def _inputs(dtype: torch.dtype, device: str, seed: int) -> dict[str, Inputs]:
    """Points (n, d), the order D >= d of the transform (or of several) and the number of slices: forward and back."""
    sizes = {
        "one_point": (1, 50, 64, 64),
        "tiles": (137, 64, 64, 64),
        "few_slices": (33, 100, 128, 21),
        "padded": (5, 3, 256, 256),
        "wide": (19, 700, 1024, 1024),
        "two": (3, 2, 2, 2),
        "several": (21, 50, 64, 150),
        "last": (70, 90, 128, 100),
    }
    found: dict[str, Inputs] = {}
    for name, (n, d, depth, size) in sizes.items():
        generator = torch.Generator().manual_seed(seed + depth)
        shape = (3, depth) if size <= depth else (-(-size // depth), 3, depth)
        signs = (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(device, dtype)
        points = torch.randn(n, d, generator=generator, dtype=torch.float64).to(device, dtype)
        slices = torch.randn(size, n, generator=generator, dtype=torch.float64).to(device, dtype)
        found[f"{name}_back"] = {"x": slices, "signs": signs, "size": d, "transpose": True}
        found[name] = {"x": points, "signs": signs, "size": size, "transpose": False}
    return found


HADAMARD_CASES = [
    Case(
        name="mmd_hadamard",
        api=run("mmd_hadamard", ("projected",), ("projected",)),
        reference=truth(reference.hadamard, ("projected",), ("projected",)),
        inputs=_inputs,
        tolerance={"projected": Tolerance(8, worst=2.1)},
        main_op="mmd_hadamard",
        ops=("mmd_hadamard",),
        bad_inputs=spoilt(
            "mmd_hadamard",
            _inputs,
            "padded",
            {
                "x_flat": ("x", lambda x: x[0]),
                "x_wide": ("x", lambda x: x.repeat(1, 100)),
                "x_strided": ("x", lambda x: x.t().contiguous().t()),
                "signs_float32": ("signs", lambda signs: signs.float()),
                "signs_not_a_power": ("signs", lambda signs: signs[:, 1:].contiguous()),
                "signs_two": ("signs", lambda signs: signs[1:].contiguous()),
                "size_above": ("size", lambda size: 257),
                "size_zero": ("size", lambda size: 0),
                "size_of_one_transform": ("signs", lambda signs: torch.stack([signs, signs])),
            },
        ),
    ),
]
