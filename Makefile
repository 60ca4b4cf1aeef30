# Everything runs in .venv, which the first target creates with the pinned packages of constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := out/demo
EXTRAS := adapt,c2pa,chinese,dev,faster-whisper,huggingface,lhotse,mos,onnx,ray,recordings,remote,serve,tensorboard

.PHONY: help install lint test test-all demo bench wheelhouse clean

help:            ## show this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

install: $(VENV)/.installed   ## create .venv with pinned dependencies and svae itself

lint: $(VENV)/.installed      ## ruff: errors, imports, docstrings, formatting; mypy: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.installed      ## the default tests: CPU, offline, a few minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(VENV)/.installed  ## also the slow and GPU tests
	$(BIN)/python -m pytest -m ''

demo: $(VENV)/.installed      ## the six commands on the embedded sample; leaves speech and a report in out/demo
	BIN=$(BIN) OUT=$(DEMO) bash recipes/demo.sh

bench: $(VENV)/.installed     ## the CPU benchmarks of docs/benchmarks.md; needs an idle machine for some minutes
	$(BIN)/python benchmarks/vae_cpu.py --repeats 9 --out benchmarks/results/vae_cpu.json
	$(BIN)/python benchmarks/dit_cpu.py --out benchmarks/results/dit_cpu.json
	$(BIN)/python benchmarks/vae_numerics.py --device cpu --out benchmarks/results/vae_numerics_cpu.json

wheelhouse: $(VENV)/.installed ## collect all wheels, for installing on a machine without a network
	mkdir -p wheelhouse
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check -c constraints.txt -w wheelhouse '.[$(EXTRAS)]'
	cp constraints.txt wheelhouse/
	@echo "On the other machine: python3 -m pip install --no-index --find-links wheelhouse -c wheelhouse/constraints.txt 'svae[$(EXTRAS)]'"

clean:           ## remove what make built, not your data or runs
	rm -rf $(VENV) out wheelhouse build dist .pytest_cache .ruff_cache .mypy_cache
