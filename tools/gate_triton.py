"""Compiles every Triton kernel for sm_90, on any machine: Triton brings its own assembler.

A kernel file lists in COMPILE_GATE what to compile: (kernel, {argument: type}, {constexpr: value}), say
    COMPILE_GATE = [(add_kernel, {"x": "*fp32", "n": "i64"}, {"BLOCK": 128})]
Among the constants `num_warps` may stand too. A kernel `*_kernel` that is in no list fails the gate.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastcore_ops import triton_kernels

TARGET = GPUTarget("cuda", 90, 32)


def compile_one(kernel: triton.JITFunction, arguments: dict, constants: dict) -> str:
    options = {name: constants[name] for name in ("num_warps",) if name in constants}
    constants = {name: value for name, value in constants.items() if name not in options}
    # constexprs belong to the signature too, and all in the order of the parameters
    signature = {name: arguments.get(name, "constexpr") for name in kernel.arg_names}
    begun = time.monotonic()
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=TARGET, options=options)
    return f"{compiled.metadata.shared} B shared, {time.monotonic() - begun:.1f} s"


def main() -> int:
    failures, compiled = [], 0
    for info in pkgutil.iter_modules(triton_kernels.__path__, triton_kernels.__name__ + "."):
        module = importlib.import_module(info.name)
        gate = getattr(module, "COMPILE_GATE", [])
        listed = {kernel.__name__ for kernel, _, _ in gate}
        kernels = {name for name, f in vars(module).items() if isinstance(f, triton.JITFunction)}
        unlisted = sorted(name for name in kernels - listed if name.endswith("_kernel"))
        failures += [f"{info.name}: {name} is not in COMPILE_GATE" for name in unlisted]
        for kernel, arguments, constants in gate:
            compiled += 1
            label = f"{kernel.__name__}({', '.join(f'{k}={v}' for k, v in constants.items())})"
            try:
                print(f"  {label}: {compile_one(kernel, arguments, constants)}", flush=True)
            except Exception as error:
                failures.append(f"{label}: {error}")
    print(*failures, sep="\n")
    print(f"Triton gate: {compiled} kernels for sm_90, {len(failures)} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
