"""Glue between setuptools and tools/native_build.py, which finds the sources and compiles them.

FASTCORE_NATIVE=0 makes a pure-Python package (reference and Triton backends); so do systems other than Linux.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import native_build


class NativeBuild(build_ext):
    def run(self):
        if os.environ.get("FASTCORE_CUDA") == "compile-only":
            native_build.gate_cuda()
            return
        super().run()
        if self.inplace and os.environ.get("FASTCORE_PROBE") == "1":  # development only: never in a wheel
            native_build.build_probe(native_build.PACKAGE / f"_probe{native_build.suffix('_probe')}")

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name))
        if ext.name.endswith("_C_cuda"):
            native_build.build_cuda(target, in_place=bool(self.inplace or self.editable_mode))
        else:
            native_build.build_cpp(target)


def extensions():
    if os.environ.get("FASTCORE_NATIVE", "1") == "0":
        return []
    if sys.platform != "linux":
        print(f"fastcore_ops: native code is for Linux; {sys.platform} gets the pure-Python package")
        return []
    if not {"build_ext", "bdist_wheel", "editable_wheel", "develop", "install"} & set(sys.argv):
        return []  # sdist, egg_info: nothing is compiled, so neither torch nor a compiler is asked for
    native_build.compiler()
    with_cuda, why = native_build.cuda_decision()
    print(f"fastcore_ops: CUDA module {'on' if with_cuda else 'off'}: {why}")
    names = ["_C", "_C_cuda"] if with_cuda else ["_C"]
    return [Extension(f"fastcore_ops.{name}", sources=[], py_limited_api=True) for name in names]


modules = extensions()
setup(
    ext_modules=modules,
    cmdclass={"build_ext": NativeBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if modules else {},
)
