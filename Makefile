# Every target sets up .venv by itself, with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS := --numprocesses 2 --dist worksteal
PACKAGE := pyproject.toml constraints.txt

.PHONY: demo test test-all notebooks lint bench clean

demo: $(VENV)/.base  ## the nano BioGPT study, from nothing to a report page, offline
	$(BIN)/resprout run experiments/nano/biogpt.yaml

test: $(VENV)/.dev  ## the fast suite, offline
	$(BIN)/python -m pytest $(WORKERS)

test-all: $(VENV)/.dev  ## slow and hardware tests too
	$(BIN)/python -m pytest $(WORKERS) -m ""

notebooks: $(VENV)/.dev  ## each notebook from top to bottom, offline, about a minute
	$(BIN)/python -m pytest $(WORKERS) -m "" tests/test_notebooks.py

lint: $(VENV)/.dev  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## speed against the peers, side by side in one run
	$(BIN)/python benchmarks/prune.py
	$(BIN)/python benchmarks/removal.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/biogpt.py

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.base: $(PACKAGE)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"resprout needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
