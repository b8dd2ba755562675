"""Prints a hash of every rule's parameters and states: python -m tests.optim.fingerprint THREADS

Run in a process of its own, since the instruction set is chosen once.
"""

from __future__ import annotations

import sys
import warnings

import torch

from fastcore_ops import _native

from .problems import VARIANTS, digest, make, normal, run

MODES = {
    "float64": (torch.float64, {}),
    "float32": (torch.float32, {}),
    "bfloat16": (torch.bfloat16, {}),
    "stochastic": (torch.bfloat16, {"rounding": "stochastic"}),
    "float16_stochastic": (torch.float16, {"rounding": "stochastic", "state_dtype": torch.float32}),
    "kahan": (torch.bfloat16, {"rounding": "kahan", "state_dtype": torch.float32}),
    "split_master": (torch.bfloat16, {"rounding": "split_master", "state_dtype": torch.float32}),
    "master": (torch.float16, {"master_weights": True, "state_dtype": torch.float32}),
    "narrow_states": (torch.float32, {"state_dtype": torch.bfloat16}),
}
SHAPES = ((1,), (31,), (20_001,), (0,), (14_003,), (3, 200))  # two pieces, cut in the middle of a parameter


def fingerprint(threads: int) -> list[str]:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    lines = []
    for variant in VARIANTS:
        for mode, (dtype, switches) in MODES.items():
            params = [normal(*shape, seed=shape[-1], dtype=dtype).requires_grad_() for shape in SHAPES]
            optimizer = make(variant, params, clip_value=2.0, **switches)
            run(optimizer, params, 2)
            entries = [value for p in params for value in (p, *optimizer.state[p].values())]
            lines.append(f"{variant} {mode} {' '.join(map(digest, entries))}")
    return lines


if __name__ == "__main__":
    print("isa", _native.cpu_isa())
    print("\n".join(fingerprint(int(sys.argv[1]))))
