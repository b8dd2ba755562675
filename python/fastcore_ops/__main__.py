"""`python -m fastcore_ops`: what this installation can do here; `--check` also tests it, in seconds."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time

import torch

from . import _backend, _native
from ._version import __version__


def report() -> str:
    """The environment: versions, hardware, and each backend with the reason where one is off."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    optional = [name for name in ("triton", "scipy", "sklearn", "tqdm") if importlib.util.find_spec(name)]
    rows = {
        "fastcore_ops": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "optional": ", ".join(optional) or "none",
        "CPU loops for": _native.cpu_isa(),
        "GPU": gpu,
        "CUDA module for": " ".join(_native.cuda_arch_list()) or "none (not built, or not loaded)",
    }
    lines = [f"{name:16} {value}" for name, value in rows.items()]
    lines.append("\nbackends")
    for row in _backend.report():
        state = "on" if row["available"] else f"off: {row['reason']}"
        lines.append(f"  {row['backend']:14} {state}")
        if row["available"] and row["missing_ops"]:
            lines.append(f"  {'':14} as torch operations: {', '.join(row['missing_ops'])}")
    return "\n".join(lines)


def check() -> bool:
    """Compares every available backend with the fp64 reference on small inputs; True if all agree."""
    from .testing.cases import discover
    from .testing.compare import check_parity

    good = True
    for case in discover():
        for row in _backend.report():
            backend = row["backend"]
            if not row["available"] or backend == "reference":
                continue
            device = "cuda" if backend in ("cuda", "triton") and torch.cuda.is_available() else "cpu"
            for dtype in (torch.float32, torch.float64):
                begun = time.monotonic()
                label = f"{case.name} {backend} {device} {str(dtype).removeprefix('torch.')}"
                try:
                    has_kernel = check_parity(case, backend, dtype, device, 0)
                except AssertionError as error:
                    good = False
                    print(f"FAILED  {label}: {error}")
                else:
                    if has_kernel:
                        print(f"ok      {label}, {time.monotonic() - begun:.2f} s")
    return good


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m fastcore_ops", description=__doc__)
    parser.add_argument("--check", action="store_true", help="also test parity; exit status 1 if it fails")
    arguments = parser.parse_args()
    print(report(), flush=True)
    if not arguments.check:
        return 0
    print("\nparity with the float64 reference")
    return 0 if check() else 1


if __name__ == "__main__":
    sys.exit(main())
