# Two commands are all a bare machine with git, make and python3 needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2

.PHONY: demo scaling-demo test test-all test-upstream faults check format bench cards clean

demo: $(INSTALLED)
	$(RUN) scripts/demo.py --output_dir demo

scaling-demo: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) scripts/sweep.py scripts/grids/laptop.yaml demo/scaling --workers $(WORKERS)
	$(RUN) scripts/fit_scaling.py demo/scaling/runs.jsonl demo/scaling/report

test: $(INSTALLED)
	$(PYTEST)

test-all: $(INSTALLED)
	$(PYTEST) -m "not gpu and not network"

test-upstream: $(INSTALLED)
	$(RUN) tests/upstream/fetch.py
	$(PYTEST) tests/upstream

faults: $(INSTALLED)
	FAULT_REPORT=benchmarks/RELIABILITY.md $(PYTEST) tests/faults -m "not gpu and not network"

check: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m codespell_lib src tests scripts dataset_scripts benchmarks README.md CHANGELOG.md CONTRIBUTING.md

format: $(INSTALLED)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED)
	for script in benchmarks/*.py; do OMP_NUM_THREADS=1 $(RUN) $$script || exit 1; done

cards: $(INSTALLED)
	$(RUN) scripts/describe.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[io,eval,viz,jobs,dev]"
	touch $@

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache
