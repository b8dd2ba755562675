"""Rules of the house that a text search or a look at the disk can check."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "fastcore_ops"
CSRC = ROOT / "csrc"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    # rglob does not follow the symlink to triton_kernels, so that one is looked at by itself
    folders = {init.parent for init in PACKAGE.rglob("__init__.py")}
    folders |= {p for p in PACKAGE.iterdir() if p.is_symlink() and (p / "__init__.py").exists()}
    return {".".join(folder.relative_to(ROOT / "python").parts) for folder in folders}


def families() -> set[str]:
    return {f"fastcore_ops.{ops.parent.name}" for ops in PACKAGE.glob("*/_ops.py")}


def offenders(files: list[Path], pattern: str) -> list[str]:
    """Places that match, comments left out."""
    found = []
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = re.split(r"//|(?<!\w)#(?!\s*(?:include|pragma))", line)[0]
            if re.search(pattern, code):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def python_files(*folders: Path) -> list[Path]:
    return [p for folder in folders for p in sorted(folder.rglob("*.py"))]


def native_files(*suffixes: str) -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in suffixes)


def test_package_list_equals_disk():
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_triton_kernels_is_a_symlink_to_the_top():
    link = PACKAGE / "triton_kernels"
    if not (ROOT / ".git").exists():
        pytest.skip("an sdist holds the files themselves")
    assert link.is_symlink()
    assert link.resolve() == ROOT / "triton_kernels"


def test_every_family_is_in_the_import_contract():
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    (independent,) = [c["modules"] for c in contracts if c["type"] == "independence"]
    assert set(independent) == families()


def test_import_loads_nothing_heavy():
    code = (
        "import sys, fastcore_ops\n"
        "heavy = {'triton', 'scipy', 'sklearn', 'matplotlib', 'tqdm', 'fastcore_ops.triton_kernels',\n"
        " 'torch.distributed.tensor'}\n"
        "import torch\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    # torch itself may import some of them where they are installed
    torch_alone = code.replace(", fastcore_ops", "")
    loaded = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
        for text in (code, torch_alone)
    ]
    assert loaded[0] == loaded[1]


def test_only_native_touches_torch_ops():
    files = [p for p in python_files(PACKAGE) if p.name != "_native.py" and "triton_kernels" not in p.parts]
    assert not offenders(files, r"torch\.ops\b")


def test_triton_kernels_do_not_know_the_package():
    assert not offenders(python_files(ROOT / "triton_kernels"), r"^\s*(from|import)\s+(fastcore_ops|\.\.)")


def test_nobody_imports_top_level_triton_kernels():
    files = [p for p in python_files(PACKAGE, ROOT / "tests", ROOT / "bench") if p != Path(__file__)]
    assert not offenders(files, r"^\s*(from|import)\s+triton_kernels\b")


def test_no_unstable_torch_headers():
    files = native_files(".h", ".cuh", ".cpp", ".cu", ".inc")
    unstable = r"(ATen/|c10/|torch/extension\.h|torch/torch\.h|torch/library\.h)"
    assert not offenders(files, r"#\s*include\s*[<\"]" + unstable)


def test_kernel_files_know_nothing_of_cuda():
    apart = {"launch.cuh", "block.cuh"}
    files = [p for p in native_files(".cu", ".cuh") if p.name not in apart]
    assert not offenders(files, r"#\s*include\s*[<\"](cuda|cub/|thrust/|cooperative_groups|device_)")
    assert not offenders(files, r"<<<|__CUDACC__|__activemask|cooperative_groups|\basm\b")


def test_formula_headers_are_free_of_torch_and_cuda():
    families_folders = {p.parent for p in CSRC.glob("*/*_cpu.cpp")} - {CSRC / "common"}
    files = [p for folder in families_folders for p in sorted(folder.glob("*.h"))]
    files += [CSRC / "common" / "hd.h", CSRC / "common" / "math.h"]
    assert not offenders(files, r"#\s*include\s*[<\"](torch/|cuda|cub/|thread|omp\.h|Python\.h)")


def test_no_flags_that_tie_to_a_machine_or_loosen_arithmetic():
    texts = [ROOT / "tools" / "native_build.py", ROOT / "setup.py"]
    texts += native_files(".h", ".cpp", ".cu", ".inc", ".cuh")
    assert not offenders(texts, r"-march=native|[\"\s]-ffast-math|use_fast_math")


def test_no_fused_multiply_add_in_vector_loops():
    # on the baseline std::fma and nearbyint are library calls
    assert not offenders(native_files(".inc"), r"\b(std::)?(fma|nearbyint|rint)f?\s*\(")
