# Two commands are all a bare machine with git, make and python3 needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2

.PHONY: demo scaling-demo test doors test-all test-upstream faults check format bench pages dist wheel clean

demo: $(INSTALLED)
	$(RUN) scripts/demo.py --output_dir demo

scaling-demo: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) scripts/sweep.py scripts/grids/laptop.yaml demo/scaling --workers $(WORKERS)
	$(RUN) scripts/fit_scaling.py demo/scaling/runs.jsonl demo/scaling/report

test: $(INSTALLED)
	$(PYTEST)

# Types and runs every command that README, docs and docstrings show.
doors: $(INSTALLED)
	$(PYTEST) tests/doors -m "not gpu and not network"

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
	$(RUN) -m codespell_lib src tests scripts dataset_scripts benchmarks docs model_cards README.md CHANGELOG.md \
		CONTRIBUTING.md

format: $(INSTALLED)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED)
	for script in benchmarks/*.py; do OMP_NUM_THREADS=1 $(RUN) $$script || exit 1; done

pages: $(INSTALLED)
	$(RUN) scripts/describe.py

dist: $(INSTALLED)
	rm -rf dist
	$(RUN) -m build --outdir dist .
	$(RUN) -m twine check --strict dist/*

# Installs the wheel into an environment of its own, with the core dependencies alone, and uses it outside the checkout.
wheel: dist
	rm -rf build/clean
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && clean/bin/ecg-hf --help && clean/bin/python ../tests/support/readme_example.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[io,eval,viz,jobs,dev]"
	touch $@

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
