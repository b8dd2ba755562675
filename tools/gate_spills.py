"""Reads ptxas's figures: a kernel marked `// gate: no spills` must keep everything in registers.

The mark stands on the line before the kernel's declaration (before `template <…>`, if there is one), in the source or in a
`.cuh` file beside it that it includes.
"""

from __future__ import annotations

import re
from pathlib import Path

MARK = re.compile(
    r"// gate: no spills\n(?:\s*template[^\n]*\n)?"
    r"\s*__global__[^;{]*?(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\("
)
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads", re.S
)


def with_headers(source: Path) -> str:
    """The text of a source and of the `.cuh` files of its folder that it includes."""
    texts, left = {}, [source]
    while left:
        file = left.pop()
        texts[file] = file.read_text()
        included = [file.parent / name for name in re.findall(r'#include "([\w.]+\.cuh)"', texts[file])]
        left += [header for header in included if header not in texts]
    return "\n".join(texts.values())


def check_spills(logs: dict[Path, str]) -> list[str]:
    """The complaints about the marked kernels of each source, given the compiler's output for it."""
    problems, checked = [], 0
    for source, log in logs.items():
        entries = ENTRY.findall(log)
        text = with_headers(source)
        marked = MARK.findall(text)
        if len(marked) != text.count("// gate: no spills"):
            problems.append(f"{source.name}: a `// gate: no spills` is not followed by a kernel")
        for kernel in marked:
            # in a mangled name the name's length precedes it
            mine = [entry for entry in entries if f"{len(kernel)}{kernel}" in entry[0]]
            checked += len(mine)
            if not mine:
                problems.append(f"{source.name}: ptxas compiled no {kernel}, a marked kernel")
            for name, arch, stores, loads in mine:
                if stores != "0" or loads != "0":
                    spilled = f"{stores} B stored, {loads} B loaded ({name})"
                    problems.append(f"{source.name}: {kernel} spills on {arch}: {spilled}")
    print(f"spill gate: {checked} marked kernel instances, {len(problems)} problems")
    return problems
