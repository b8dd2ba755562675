"""The CPU twin of the CUDA kernels: every .cu file compiled with g++ against the runtime of this folder.

    python tests/cuda_on_cpu/twin.py [plain asan tsan portable]

Each mode gives build/cuda_on_cpu/MODE/libfastcore_cuda_on_cpu.so, which registers the operators in the
namespace `fastcore_cuda_on_cpu` on CPU tensors, and two programs that need no torch: `planted_bugs` and
`runtime_test`. Only what has changed is compiled.
FASTCORE_CUDA_ON_CPU=<the library> gives the package a backend "cuda_on_cpu".
"""

from __future__ import annotations

import ctypes
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import native_build as native  # noqa: E402

OUT = ROOT / "build" / "cuda_on_cpu"
RUNTIME = sorted((HERE / "runtime").glob("*.cpp"))
ORDERS = ("forward", "reverse", "random")
PROGRAMS = ("planted_bugs", "runtime_test")

# Left out: what ASAN finds anyway and doubles the time to compile.
ASAN = ["-fsanitize=address,undefined", "-fno-sanitize=null,vptr,object-size", "-fno-sanitize-recover=all"]
TSAN = ["-fsanitize=thread"]
# mode: (flags for kernels and for linking, flags for the runtime, which is never instrumented)
MODES = {
    "plain": ([], []),
    "asan": (ASAN, ["-DCUDA_ON_CPU_ASAN"]),
    "tsan": (TSAN, ["-DCUDA_ON_CPU_TSAN"]),
    "portable": ([], ["-DCUDA_ON_CPU_UCONTEXT"]),  # as on other processors than x86-64
}
# Left out under the sanitizers, where they take the longest to compile: more rules for kernels that are checked with others.
MORE_OF_THE_SAME = {"optim_adaptive_cuda.cu", "optim_two_phase_cuda.cu"}
# Contraction off, as the CUDA files are compiled: entries have the same bits in all builds.
FLAGS = ["-std=c++20", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-fno-omit-frame-pointer", "-Wall",
         "-Wextra", "-Wno-unknown-pragmas", f"-ffile-prefix-map={ROOT}/=",
         "-Itests/cuda_on_cpu/runtime"]  # fmt: skip


def _compile(mode: str, source: Path) -> native.Job:
    kernel_flags, runtime_flags = MODES[mode]
    flags = runtime_flags if source in RUNTIME else kernel_flags
    cxx = shlex.split(native.compiler())
    out = OUT / mode / "objects" / (source.name + ".o")
    command = [*cxx, "-x", "c++", "-c", str(source.relative_to(ROOT)), "-o", str(out), "-MMD", "-MF",
               str(out.with_suffix(".d")), *FLAGS, *flags, *native.ABI[:1], *native._includes()]  # fmt: skip
    return native.Job(out, command, [source], key=native.torch_version()[0])


def _link(mode: str, name: str, objects: list[Path], shared: bool) -> native.Job:
    out = OUT / mode / name
    libraries = [f"-L{native.torch_dir() / 'lib'}", "-ltorch_cpu"] if shared else []
    kind = ["-shared"] if shared else []
    command = [*shlex.split(native.compiler()), *MODES[mode][0], *kind, "-o", str(out), *map(str, objects),
               *libraries, "-lpthread"]  # fmt: skip
    return native.Job(out, command, objects)


def _jobs(mode: str) -> tuple[list[native.Job], list[native.Job]]:
    """What is compiled for one mode, and then linked."""
    runtime_only = mode == "portable"
    kernels = [p for p in sorted((ROOT / "csrc").glob("*/*.cu")) if not (MODES[mode][0] and p.name in MORE_OF_THE_SAME)]
    library = [] if runtime_only else [*kernels, HERE / "registration.cpp"]
    programs = [HERE / f"{name}.cu" for name in PROGRAMS if not (runtime_only and name == "planted_bugs")]
    jobs = {source: _compile(mode, source) for source in [*RUNTIME, *library, *programs]}
    runtime = [jobs[source].output for source in RUNTIME]
    links = [_link(mode, p.stem, [*runtime, jobs[p].output], shared=False) for p in programs]
    if library:
        objects = [*runtime, *(jobs[source].output for source in library)]
        links.append(_link(mode, library_path(mode).name, objects, shared=True))
    return list(jobs.values()), links


def build(*modes: str) -> None:
    """Brings everything of these modes up to date: sanitized files first, which take the longest."""
    compiled, linked = zip(*(_jobs(mode) for mode in sorted(modes, key=lambda mode: not MODES[mode][0])), strict=True)
    native.run_jobs([job for jobs in compiled for job in jobs])
    native.run_jobs([job for jobs in linked for job in jobs])


def library_path(mode: str) -> Path:
    return OUT / mode / "libfastcore_cuda_on_cpu.so"


def program_path(mode: str, name: str) -> Path:
    return OUT / mode / name


def _compiler_library(name: str) -> str:
    command = [*shlex.split(native.compiler()), f"-print-file-name={name}"]
    return str(Path(subprocess.run(command, capture_output=True, text=True).stdout.strip()).resolve())


def sanitizer_environment(mode: str) -> dict[str, str]:
    """What a Python process needs to load the library of this mode."""
    preload = {"asan": ("libasan.so", "libubsan.so", "libstdc++.so"), "tsan": ("libtsan.so",)}
    env = {"LD_PRELOAD": ":".join(map(_compiler_library, preload[mode]))} if mode in preload else {}
    if mode == "asan":
        env |= {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    if mode == "tsan":  # torch and Python are not instrumented, and OpenMP's barriers are invisible
        env |= {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 atexit_sleep_ms=0", "OMP_NUM_THREADS": "1"}
    return env


class Twin:
    """The library of one mode, loaded into this process."""

    def __init__(self, mode: str) -> None:
        import torch

        torch.ops.load_library(library_path(mode))
        self.ops = torch.ops.fastcore_cuda_on_cpu
        library = ctypes.CDLL(str(library_path(mode)))
        self._configure = library.cuda_on_cpu_configure
        self._configure.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_long]
        self._keep_on_host = library.cuda_on_cpu_keep_on_host
        self._keep_on_host.argtypes = [ctypes.c_void_p]
        self._capture = library.cuda_on_cpu_capture
        self._capture.argtypes = [ctypes.c_int]

    def configure(self, order: str = "forward", seed: int = 1, sample_blocks: int = 0) -> None:
        """Order of threads and blocks; sample_blocks > 0 runs only the first and last blocks of a launch."""
        self._configure(ORDERS.index(order), seed, sample_blocks)

    @contextmanager
    def host(self, *tensors: Any, capturing: bool = False) -> Iterator[None]:
        """Within it these tensors are taken to be on the host, or a graph is taken to be recorded."""
        for tensor in tensors:
            self._keep_on_host(tensor.data_ptr())
        self._capture(int(capturing))
        try:
            yield
        finally:
            self._keep_on_host(None)
            self._capture(0)


if __name__ == "__main__":
    build(*(sys.argv[1:] or MODES))
