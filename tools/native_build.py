"""Compiles the native modules of fastcore_ops. setup.py and the Makefile both call it.

It needs neither setuptools nor ninja, and finds torch without importing it: a build with nothing
to do takes a tenth of a second, and a GPU machine with torch and a compiler can build in place.

    python tools/native_build.py            _C, and _C_cuda where CUDA is there, beside the Python code

Environment
    FASTCORE_CUDA          auto (default) | 1 (must build) | 0 | compile-only (the gate without a GPU)
    FASTCORE_PROBE=1       also the pybind11 module of the property tests (development only)
    FASTCORE_SANITIZE=1    only _C, with ASAN and UBSAN, in an overlay package under build/sanitize/
    TORCH_CUDA_ARCH_LIST   as for torch: "8.0;9.0+PTX"
    CXX, CUDA_HOME, MAX_JOBS
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
BUILD = ROOT / "build" / "native"
PACKAGE = ROOT / "python" / "fastcore_ops"

WHEEL_ARCHS = "8.0 8.6 8.9 9.0 10.0 12.0+PTX"
GATE_ARCHS = "8.0 9.0"
# Folders whose CUDA kernels compile without FMA contraction: they are bound by memory and lose nothing,
# and give the bits of the CPU loops (which the compensated sums of float32 rely on).
NO_FMAD_FOLDERS = {"mmd", "optim", "ot"}

ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DPy_LIMITED_API=0x030b0000"]
WARN = ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-psabi"]
# -Wno-psabi: functions that take vectors are always inlined, so that their calling convention does not matter.
# The three -f flags are most of -ffast-math's speed without its liberties; -ffp-contract=off makes
# every ISA give the same bits. Whatever the build machine's CPU, the binary runs on any.
OPTIMISE = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined", "-ffp-contract=off"]  # fmt: skip


class BuildError(SystemExit):
    """A message for the person who builds, without a traceback."""


class Job(NamedTuple):
    """One compile or link: run when an input, or the command itself, has changed."""

    output: Path
    command: list[str]
    inputs: list[Path]
    key: str = ""  # what else the output depends on: compiler and torch version


# --- running jobs ---------------------------------------------------------------------------------


def _dependencies(job: Job) -> list[Path]:
    depfile = job.output.with_suffix(".d")
    if not depfile.exists():
        return job.inputs
    words = depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    return job.inputs + [ROOT / w for w in words]


def _fingerprint(job: Job) -> str:
    return hashlib.sha256("\0".join([*job.command, job.key]).encode()).hexdigest()


def _is_fresh(job: Job) -> bool:
    stamp = job.output.with_suffix(".stamp")
    if not (job.output.exists() and stamp.exists()) or stamp.read_text() != _fingerprint(job):
        return False
    built = job.output.stat().st_mtime_ns
    return all(p.exists() and p.stat().st_mtime_ns <= built for p in _dependencies(job))


def _run(job: Job) -> None:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    stamp = job.output.with_suffix(".stamp")
    stamp.unlink(missing_ok=True)
    print(f"  {Path(job.command[0]).name:5} {job.output.relative_to(ROOT)}", flush=True)
    done = subprocess.run(job.command, cwd=ROOT, capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode:
        raise BuildError(f"{log}\nfailed: {shlex.join(job.command)}")
    job.output.with_suffix(".log").write_text(log)  # warnings, ptxas figures, vectoriser reports
    if "warning:" in log:
        print(log, file=sys.stderr, flush=True)
    stamp.write_text(_fingerprint(job))


def run_jobs(jobs: list[Job]) -> bool:
    """Runs the stale jobs in parallel; True if there was one."""
    stale = [job for job in jobs if not _is_fresh(job)]
    workers = int(os.environ.get("MAX_JOBS") or min(os.cpu_count() or 1, 16))
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_run, stale))
    return bool(stale)


# --- what is on this machine ----------------------------------------------------------------------


def torch_dir() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise BuildError(
            "fastcore_ops: building the native code needs torch >= 2.10 in this Python. Install torch "
            "first, then build with --no-build-isolation; or set FASTCORE_NATIVE=0 for pure Python."
        )
    return Path(spec.origin).parent


def torch_version() -> tuple[str, str | None]:
    """(version, CUDA version or None), read from torch's file: importing torch takes seconds."""
    text = (torch_dir() / "version.py").read_text()
    version = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"^cuda[^=]*= '([^']+)'", text, re.M)
    return version[1] if version else "unknown", cuda[1] if cuda else None


def compiler() -> str:
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(shlex.split(cxx)[0]) is None:
        raise BuildError(
            f"fastcore_ops: no C++ compiler (`{cxx}`) found. Install one (Debian/Ubuntu: apt-get install "
            "g++), set CXX, or set FASTCORE_NATIVE=0 for the pure-Python package (reference and Triton)."
        )
    return cxx


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and (Path(home) / "bin" / "nvcc").exists():
        return str(Path(home) / "bin" / "nvcc")
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def stdout(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def cuda_decision() -> tuple[bool, str]:
    """Whether _C_cuda is to be built, and why (not). Looks at torch and the toolkit, never at a GPU."""
    mode = os.environ.get("FASTCORE_CUDA", "auto")
    if mode not in ("auto", "1", "0", "compile-only"):
        raise BuildError(f"fastcore_ops: FASTCORE_CUDA must be auto, 1, 0 or compile-only, got {mode!r}")
    if mode in ("0", "compile-only"):
        return False, f"FASTCORE_CUDA={mode}"
    version, cuda = torch_version()
    nvcc = find_nvcc()
    why = ""
    if cuda is None:
        why = f"torch {version} was built without CUDA"
    elif nvcc is None:
        why = "no CUDA toolkit found (nvcc is neither in CUDA_HOME nor on PATH)"
    else:
        release = re.search(r"release (\d+)\.", stdout(nvcc, "--version"))
        if release is None or release[1] != cuda.split(".")[0]:
            why = f"torch uses CUDA {cuda}, {nvcc} is of CUDA {release[1] if release else 'unknown'}"
    if why and mode == "1":
        raise BuildError(f"fastcore_ops: FASTCORE_CUDA=1, but {why}")
    return not why, why or f"torch {version} with CUDA {cuda}, {nvcc}"


def arch_list(in_place: bool) -> str:
    """The architectures to compile for, in torch's notation."""
    if chosen := os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").strip():
        return chosen
    if os.environ.get("FASTCORE_CUDA") == "compile-only":
        return GATE_ARCHS
    if in_place:
        present = stdout("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader").split()
        if present and all(re.fullmatch(r"\d+\.\d", p) for p in present):
            return " ".join(sorted(set(present)))
    known = stdout(find_nvcc() or "nvcc", "--list-gpu-arch")
    archs = [a for a in WHEEL_ARCHS.split() if f"compute_{_digits(a)}\n" in known]
    if not archs:
        raise BuildError(f"fastcore_ops: nvcc knows none of {WHEEL_ARCHS}; set TORCH_CUDA_ARCH_LIST")
    return " ".join([*archs[:-1], archs[-1].removesuffix("+PTX") + "+PTX"])


def _digits(arch: str) -> str:
    return arch.removesuffix("+PTX").replace(".", "")


def _gencode(archs: str) -> list[str]:
    flags = []
    for arch in archs.split():
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", arch):
            raise BuildError(f"fastcore_ops: TORCH_CUDA_ARCH_LIST: expected 9.0 or 9.0+PTX, got {arch!r}")
        n = _digits(arch)
        flags.append(f"-gencode=arch=compute_{n},code=sm_{n}")
        if arch.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{n},code=compute_{n}")
    return flags


# --- commands -------------------------------------------------------------------------------------


def cpp_sources() -> list[Path]:
    apart = {"probe.cpp", "module_cuda.cpp"}
    return sorted(p for p in CSRC.rglob("*.cpp") if p.name not in apart and "_cuda" not in p.name)


def cuda_sources() -> list[Path]:
    return [*sorted(CSRC.rglob("*.cu")), CSRC / "module_cuda.cpp"]


def cpu_isas() -> list[str]:
    """The instruction sets of this CPU, the best last."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split("flags", 1)[-1].split("\n", 1)[0].split()) if info.exists() else set()
    found = ["baseline"]
    if {"avx2", "fma", "bmi2", "f16c"} <= flags:
        found.append("v3")
        if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
            found.append("v4")
    return found


def _includes() -> list[str]:
    # -isystem: warnings are for our own code, and torch's headers stay out of the dependency files
    return ["-Icsrc", "-isystem", str(torch_dir() / "include"), "-isystem", sysconfig.get_path("include")]


def _object(source: Path, folder: str) -> Path:
    return BUILD / folder / source.relative_to(CSRC).with_suffix(source.suffix + ".o")


def _files(source: Path, out: Path) -> list[str]:
    return ["-c", str(source.relative_to(ROOT)), "-o", str(out), "-MMD", "-MF", str(out.with_suffix(".d"))]


def compile_cpp(source: Path, folder: str, flags: list[str]) -> Job:
    cxx, out = shlex.split(compiler()), _object(source, folder)
    command = [*cxx, *_files(source, out), "-std=c++20", "-fPIC", f"-ffile-prefix-map={ROOT}/=",
               *WARN, *flags, *_includes()]  # fmt: skip
    return Job(out, command, [source], key=torch_version()[0] + stdout(*cxx, "--version"))


def compile_cuda(source: Path, folder: str, archs: str) -> Job:
    nvcc, out = find_nvcc() or "nvcc", _object(source, folder)
    fmad = ["--fmad=false"] if source.parent.name in NO_FMAD_FOLDERS else []
    command = [nvcc, *_files(source, out), "-std=c++20", "-O3", "-lineinfo", "--expt-relaxed-constexpr",
               "-Xptxas=-v", *fmad, *_gencode(archs),
               f"-Xcompiler=-fPIC,-Wall,-Wno-unknown-pragmas,-ffile-prefix-map={ROOT}/=",
               "-DUSE_CUDA", f'-DFASTCORE_CUDA_ARCH_LIST="{archs}"', *ABI, *_includes()]  # fmt: skip
    return Job(out, command, [source], key=torch_version()[0] + stdout(nvcc, "--version"))


def _link(name: str, folder: str, objects: list[Path], linker: list[str], libraries: list[str]) -> Path:
    out = BUILD / folder / f"{name}{suffix(name)}"
    out.parent.mkdir(parents=True, exist_ok=True)
    exports = BUILD / folder / "exports.txt"  # nothing but the module's entry point leaves the library
    if not exports.exists():
        exports.write_text("{ global: PyInit_*; local: *; };\n")
    flag = "-Xlinker=" if Path(linker[0]).name == "nvcc" else "-Wl,"
    # --no-as-needed: the symbols of libtorch_cuda come in through libtorch, which as-needed drops
    # where torch has no CUDA; -rpath is not needed, since `import torch` has loaded it
    command = [*linker, "-shared", "-o", str(out), *map(str, objects), f"-L{torch_dir() / 'lib'}",
               f"{flag}--version-script={exports}", f"{flag}--no-as-needed", *libraries]  # fmt: skip
    run_jobs([Job(out, command, objects)])
    return out


def suffix(name: str) -> str:
    return sysconfig.get_config_var("EXT_SUFFIX") if name == "_probe" else ".abi3.so"


def _install(built: Path, target: Path) -> None:
    if target.exists() and target.stat().st_mtime_ns == built.stat().st_mtime_ns:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    shutil.copy2(built, fresh)
    os.replace(fresh, target)  # a process that has the old file mapped keeps it


# --- the modules ----------------------------------------------------------------------------------


def build_cpp(target: Path) -> None:
    """_C: schemas and CPU kernels."""
    jobs = [compile_cpp(s, "cpp", [*OPTIMISE, *ABI]) for s in cpp_sources()]
    run_jobs(jobs)
    objects = [j.output for j in jobs]
    _install(_link("_C", "cpp", objects, shlex.split(compiler()), ["-ltorch", "-ltorch_cpu"]), target)


def build_cuda(target: Path, in_place: bool) -> None:
    """_C_cuda: CUDA kernels. Compiles and links against a CPU-only torch too; loads only on a CUDA torch."""
    archs = arch_list(in_place)
    jobs = [compile_cuda(s, "cuda", archs) for s in cuda_sources()]
    run_jobs(jobs)
    objects = [j.output for j in jobs]
    _install(_link("_C_cuda", "cuda", objects, [find_nvcc() or "nvcc"], ["-ltorch"]), target)


def build_probe(target: Path) -> None:
    """_probe: the formula headers as NumPy functions, for property tests; pybind11, so not abi3."""
    import pybind11

    flags = ["-O2", "-ffp-contract=off", "-isystem", pybind11.get_include()]
    job = compile_cpp(CSRC / "probe.cpp", "probe", flags)
    run_jobs([job])
    _install(_link("_probe", "probe", [job.output], shlex.split(compiler()), []), target)


def build_sanitized() -> Path:
    """_C under ASAN and UBSAN, in a package that PYTHONPATH=build/sanitize puts before the real one.

    Of the loops only the instance that this CPU runs: the others are the same source, and half of the compilation.
    """
    best = cpu_isas()[-1]
    only = [] if best == "baseline" else [f"-DFC_ONLY_{best.upper()}"]
    jobs = [compile_cpp(s, "sanitize", [*SANITIZE, *only, *ABI]) for s in cpp_sources()]
    run_jobs(jobs)
    overlay = ROOT / "build" / "sanitize" / "fastcore_ops"
    overlay.mkdir(parents=True, exist_ok=True)
    for old in overlay.iterdir():
        if old.is_symlink():
            old.unlink()
    for entry in PACKAGE.iterdir():
        if entry.name != "__pycache__" and not entry.name.startswith("_C"):
            (overlay / entry.name).symlink_to(entry)
    linker = [*shlex.split(compiler()), "-fsanitize=address,undefined"]
    _install(_link("_C", "sanitize", [j.output for j in jobs], linker, ["-ltorch", "-ltorch_cpu"]),
             overlay / f"_C{suffix('_C')}")  # fmt: skip
    return overlay.parent


def gate_cuda() -> None:
    """FASTCORE_CUDA=compile-only: compile, link, and check that the kernels marked for it do not spill."""
    from gate_spills import check_spills

    if find_nvcc() is None:
        raise BuildError("fastcore_ops: FASTCORE_CUDA=compile-only needs nvcc (CUDA_HOME or PATH)")
    jobs = [compile_cuda(s, "cuda-gate", arch_list(in_place=False)) for s in cuda_sources()]
    run_jobs(jobs)
    _link("_C_cuda", "cuda-gate", [j.output for j in jobs], [find_nvcc() or "nvcc"], ["-ltorch"])
    if problems := check_spills({j.inputs[0]: j.output.with_suffix(".log").read_text() for j in jobs}):
        raise BuildError("\n".join(problems))


def main() -> None:
    """Builds in place whatever the environment asks for."""
    if os.environ.get("FASTCORE_SANITIZE") == "1":
        build_sanitized()
        return
    if os.environ.get("FASTCORE_CUDA") == "compile-only":
        gate_cuda()
        return
    if os.environ.get("FASTCORE_NATIVE") == "0":
        print("fastcore_ops: FASTCORE_NATIVE=0, no native code is built")
        return
    build_cpp(PACKAGE / f"_C{suffix('_C')}")
    with_cuda, why = cuda_decision()
    print(f"fastcore_ops: CUDA module {'on' if with_cuda else 'off'}: {why}", flush=True)
    if with_cuda:
        build_cuda(PACKAGE / f"_C_cuda{suffix('_C_cuda')}", in_place=True)
    if os.environ.get("FASTCORE_PROBE") == "1" and (CSRC / "probe.cpp").exists():
        build_probe(PACKAGE / f"_probe{suffix('_probe')}")


if __name__ == "__main__":
    main()
