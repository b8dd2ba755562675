"""Checks that GCC vectorises the CPU loops that must be.

A loop in a .inc file is marked by `// gate: vectorised` on the pragma before its `for`, or on a line of its
own (`// gate: vectorised x2`: two instances, say float and double). Such loops are compiled once per
instruction set; the instance for AVX2 is known by its 32-byte vectors: vectorised epilogues, which would
use the next smaller width, are off here. The loop's own line must be in the compiler's report.
"""

from __future__ import annotations

import os
import re
import shlex
import sys

import native_build as nb

MARK = re.compile(r"//\s*gate: vectorised(?: x(\d+))?\s*$")
LOOP = re.compile(r"\bfor\s*\(")
REPORT = re.compile(r"([\w./+-]+):(\d+):\d+: optimized:\s+loop vectorized using 32 byte vectors")


def marked_loops() -> list[tuple[str, int, int]]:
    """(file, line of the `for`, instances) of each mark."""
    loops = []
    for file in sorted(nb.CSRC.rglob("*.inc")):
        lines = file.read_text().splitlines()
        for at, text in enumerate(lines):
            if mark := MARK.search(text):
                ahead = [n for n, line in enumerate(lines[at + 1 : at + 4], at + 2) if LOOP.search(line)]
                if not ahead:
                    sys.exit(f"{file}:{at + 1}: `gate: vectorised` is not followed by a loop")
                loops.append((str(file.relative_to(nb.ROOT)), ahead[0], int(mark[1] or 1)))
    return loops


def main() -> int:
    cxx = nb.compiler()
    if "clang" in nb.stdout(*shlex.split(cxx), "--version").lower():
        print(f"vectorisation gate: {cxx} is not GCC; skipped")
        return 0
    instance = ["-DFC_ONLY_V3"] if os.uname().machine == "x86_64" else []
    flags = [*nb.OPTIMISE, *nb.ABI, *instance, "-fopt-info-vec-optimized", "--param", "vect-epilogues-nomask=0"]
    jobs = [nb.compile_cpp(s, "vectorised", flags) for s in nb.cpp_sources() if s.name.endswith("_cpu.cpp")]
    nb.run_jobs(jobs)
    seen: dict[tuple[str, int], int] = {}
    for job in jobs:
        for file, line in REPORT.findall(job.output.with_suffix(".log").read_text()):
            place = os.path.normpath(file), int(line)  # csrc/ot/../common/x.inc is csrc/common/x.inc
            seen[place] = seen.get(place, 0) + 1
    loops, failures = marked_loops(), 0
    for file, line, wanted in loops:
        if (found := seen.get((file, line), 0)) < wanted:
            failures += 1
            print(f"{file}:{line}: loop not vectorised for AVX2 ({found} of {wanted} instances)")
    print(f"vectorisation gate: {len(loops)} marked loops, {failures} not vectorised")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
