"""Prints a hash of every output bit of all Cases on the C++ backend: python -m tests.contract.fingerprint THREADS

Run in a process of its own, since instruction set and thread count are chosen once.
"""

from __future__ import annotations

import hashlib
import sys

import torch

import fastcore_ops as fo
from fastcore_ops import _backend, _native
from fastcore_ops.testing.cases import copied, discover


def digest(tensor: torch.Tensor) -> str:
    data = (
        tensor.detach().contiguous().view(torch.uint8) if tensor.dim() else tensor.detach().reshape(1).view(torch.uint8)
    )
    return hashlib.sha256(data.numpy().tobytes()).hexdigest()[:12]


def large_solves():
    """Solves that are cut into many blocks of rows."""
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(300, 260, generator=generator, dtype=torch.float64)
    x, y = (torch.rand(400, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    for dtype, tol in ((torch.float64, 1e-11), (torch.float32, 1e-6)):
        name = str(dtype).removeprefix("torch.")
        yield f"matrix_{name}", fo.sinkhorn_newton(cost.to(dtype), reg=1e-3, tol=tol)
        yield f"points_{name}", fo.sinkhorn_newton(fo.ot.PointCloud(x.to(dtype), y.to(dtype)), reg=3e-3, tol=tol)
    yield "sinkhorn", fo.sinkhorn(cost, reg=0.05, tol=1e-10)


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    print("isa", _native.cpu_isa())
    for case in discover():
        if "cpp" not in _backend.registered()[case.main_op]:
            continue
        for dtype in (torch.float32, torch.float64):
            for variant, inputs in case.inputs(dtype, "cpu", 0).items():
                for name, output in case.api("cpp", **copied(inputs)).items():
                    print(case.name, variant, dtype, name, digest(output))
    x = torch.linspace(-700, 700, 100_003, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        print("vector_exp", dtype, digest(_native.handle("vector_exp")(x.to(dtype))))
        print("vector_log", dtype, digest(_native.handle("vector_log")(x.abs().to(dtype))))
    for name, result in large_solves():
        print(
            name,
            result.status,
            result.n_passes,
            result.n_newton,
            result.n_cg,
            digest(result.f),
            digest(result.g),
            digest(result.plan()),
        )


if __name__ == "__main__":
    main()
