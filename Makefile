# make help lists the targets. Everything happens in .venv; gpu-check alone uses the machine's own Python.
PYTHON  ?= python3
PIP_ARGS ?=
FAMILY  ?= ot
RESULTS ?= bench/results
STAGES  ?=
BENCH_ARGS ?=
# The version that torch in constraints.txt was released with; an unpinned one is too new for it.
TRITON  := 3.7.1

PY := .venv/bin/python
export PYTHON PIP_ARGS TRITON FAMILY RESULTS

.PHONY: help venv build demo test lint bench docs wheel gpu-check clean distclean
help:
	@echo "make demo       transfer the colours of one photograph to another; saves a figure"
	@echo "make test       every gate (STAGES=\"lint cpu\" runs some of them)"
	@echo "make build      compile what has changed into python/fastcore_ops"
	@echo "make lint       ruff, mypy and the import rules"
	@echo "make bench      benchmarks of FAMILY=$(FAMILY) against their peers (BENCH_ARGS=--quick)"
	@echo "make docs       the site, in docs/_build/html"
	@echo "make wheel      dist/*.whl (FASTCORE_NATIVE=0: pure Python)"
	@echo "make gpu-check  on a GPU machine: build, test and benchmark with its own Python and torch"
	@echo "make clean      remove what was built; make distclean removes .venv too"
	@echo "PIP_ARGS= goes to pip: on Linux PyPI's torch brings CUDA; for the small CPU wheel use"
	@echo "  make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'"

.venv/.installed: constraints.txt pyproject.toml tools/make_venv.sh
	@sh tools/make_venv.sh
	@touch $@
.venv/.peers: .venv/.installed
	@$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt "POT" "ott-jax" "geomloss" "pykeops" "regot" \
	  "adabelief-pytorch" "adamp" "dog-optimizer" "grams-pytorch" "madgrad" "pytorch_optimizer" "torch-optimizer" \
	  "torchmetrics" \
	  || echo "bench: some peers could not be installed; the benchmark will say which are missing"
	@touch $@

.venv/.docs: .venv/.installed
	@$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt furo myst-parser sphinx
	@touch $@

venv: .venv/.installed
build: venv
	@$(PY) tools/native_build.py
demo: build
	$(PY) examples/plot_color_transfer.py
test: venv
	@$(PY) tools/run_gates.py $(STAGES)
lint: venv
	@$(PY) tools/run_gates.py lint
bench: build .venv/.peers
	$(PY) -m bench $(FAMILY) $(BENCH_ARGS)
docs: venv .venv/.docs
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"
wheel: venv
	@rm -rf build/lib* build/bdist*
	$(PY) -m pip wheel -q --no-build-isolation --no-deps -w dist .
	@ls dist/*.whl
gpu-check:
	@sh tools/gpu_check.sh

clean:
	rm -rf build dist docs/_build python/fastcore_ops.egg-info python/fastcore_ops/*.so
distclean: clean
	rm -rf .venv
