#!/bin/sh
# Makes .venv with pinned torch and tools, and the package installed as editable. Called by the Makefile.
set -eu

need() { echo "fastcore_ops: $1 is missing. On Debian/Ubuntu: apt-get install $2" >&2; exit 1; }
command -v "$PYTHON" >/dev/null || need "$PYTHON" "python3 (or set PYTHON=)"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || need "Python >= 3.11 ($("$PYTHON" -V) found)" "a newer python3 and set PYTHON="
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || need "Python's venv module" python3-venv
if [ "${FASTCORE_NATIVE:-1}" != 0 ]; then
    command -v "${CXX:-g++}" >/dev/null || need "a C++ compiler (g++)" "g++ (or set FASTCORE_NATIVE=0 for the pure-Python package)"
    "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
        || need "Python.h" python3-dev
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
echo "fastcore_ops: installing torch and tools into .venv (some minutes the first time)"
# The build tools come first: the package is then built without isolation, which would bring a second torch.
pip install -q $PIP_ARGS -c constraints.txt setuptools wheel
# Without native code here: `make build` compiles it, incrementally.
FASTCORE_NATIVE=0 pip install -q $PIP_ARGS -c constraints.txt --no-build-isolation -e '.[dev,demo]'

if [ "$(uname -sm)" = "Linux x86_64" ] && ! .venv/bin/python -c 'import triton' 2>/dev/null; then
    pip install -q $PIP_ARGS --no-deps "triton==$TRITON" || echo "fastcore_ops: no triton; its tests will be skipped"
fi
