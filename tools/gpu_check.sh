#!/bin/sh
# Builds, tests and benchmarks on a machine with a GPU, with that machine's own Python and torch: no venv, no
# network, development tools may be missing. Parts that fail do not stop the later ones; the exit status tells.
set -u
mkdir -p "$RESULTS"
export PYTHONPATH="$PWD/python:$PWD" PYTHONUNBUFFERED=1
failed=0
started=$(date +%s)
part() { echo; echo "== gpu-check, $(($(date +%s) - started)) s: $*"; }
limit() { if command -v timeout >/dev/null; then timeout -k 10 "$@"; else shift; "$@"; fi; }

part "build for the present GPU"
if ! FASTCORE_CUDA="${FASTCORE_CUDA:-1}" "$PYTHON" tools/native_build.py; then
    failed=1
    echo "The CUDA module was not built; going on with what does not need it."
    FASTCORE_CUDA=0 "$PYTHON" tools/native_build.py || echo "The C++ module was not built either."
fi
"$PYTHON" -m fastcore_ops || failed=1

part "tests"
if "$PYTHON" -c 'import pytest' 2>/dev/null; then
    # -p no:…: the machine's own pytest plugins are not ours to debug
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 limit 420 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests \
        --ignore=tests/cuda_on_cpu --ignore=tests/packaging --junitxml="$RESULTS/gpu_tests_$FAMILY.xml" || failed=1
else
    echo "pytest is not installed; running the short parity test only"
    limit 200 "$PYTHON" -m fastcore_ops --check || failed=1
fi

part "benchmarks"
limit 180 "$PYTHON" -m bench "$FAMILY" --device cuda --results "$RESULTS" || failed=1

part "$([ $failed = 0 ] && echo done || echo "done, with failures")"
ls -l "$RESULTS"
exit $failed
