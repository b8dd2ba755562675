"""The journey of a release: sdist, wheel from the sdist, import in an environment without this checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = [sys.executable, "-m", "build", "--no-isolation"]

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="needs the package `build`"),
]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FASTCORE_", "PYTHON"))} | env
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def sdist(folder) -> Path:
    run(*BUILD, "--sdist", "--outdir", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def source(sdist, folder) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (p for p in folder.glob("fastcore_ops-*") if p.is_dir())
    return unpacked


@pytest.fixture(scope="module")
def wheel(source, folder) -> Path:
    run(*BUILD, "--wheel", "--outdir", folder, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def clean_python(folder: Path, wheel: Path) -> Path:
    """An environment that sees this one's torch and numpy, but not its editable install of the checkout."""
    home = folder / wheel.stem
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_sdist_holds_every_source(source):
    wanted = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".h", ".cuh", ".cu", ".cpp", ".inc"}]
    missing = [p.name for p in wanted if not (source / p.relative_to(ROOT)).exists()]
    assert not missing


def test_wheel_is_abi3_and_holds_what_it_should(wheel):
    assert "-cp311-abi3-linux_" in wheel.name
    names = contents(wheel)
    assert "fastcore_ops/_C.abi3.so" in names
    assert "fastcore_ops/py.typed" in names
    assert any(n.startswith("fastcore_ops/triton_kernels/") for n in names)
    assert not [n for n in names if "_probe" in n]
    assert not [n for n in names if not n.startswith("fastcore_ops/") and ".dist-info/" not in n]


def test_wheel_works_in_a_clean_environment(wheel, folder):
    python = clean_python(folder, wheel)
    where = run(python, "-c", "import fastcore_ops; print(fastcore_ops.__file__)", cwd=folder)
    assert where.startswith(str(folder))
    run(python, "-m", "fastcore_ops", "--check", cwd=folder)


def test_pure_python_wheel(source, folder):
    out = folder / "pure"
    run(*BUILD, "--wheel", "--outdir", out, cwd=source, FASTCORE_NATIVE="0")
    (wheel,) = out.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [n for n in contents(wheel) if n.endswith(".so")]
    python = clean_python(out, wheel)
    run(python, "-m", "fastcore_ops", "--check", cwd=folder)


def test_no_compiler_names_the_way_out(source, folder):
    """Without a compiler the build stops with one readable sentence."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=source, env=os.environ | {"CXX": "no-such-compiler"}, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "FASTCORE_NATIVE=0" in done.stderr
    assert "Traceback" not in done.stderr
