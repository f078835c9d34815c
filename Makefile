# Two commands do everything on a machine with Python (3.10-3.13), pip and make:
#   make demo   creates .venv, installs EdgeCR, runs the quickstart recipe and ends with the verdict and the report's path
#   make test   installs the development tools too and runs the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
RUNS   ?= runs

.PHONY: demo test lint docs check wheel wheel-test clean

demo: $(VENV)/.installed
	@echo "Running the quickstart recipe: train, distill, prune, export, measure, judge. About three minutes on two cores."
	$(BIN)/edgecr compress recipes/quickstart.yaml --runs $(RUNS) || test $$? -eq 1
	@echo "Report: $(RUNS)/$$(ls -t $(RUNS) | head -1)/report.html"

test: $(VENV)/.installed-dev
	@echo "Running the tests. About ten minutes on two cores. $$($(BIN)/python tests/skips.py)"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	@echo "Building the docs into site/; a dead link stops it. A few seconds."
	$(BIN)/python -m edgecr.reference > docs/reference.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: lint docs test

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --no-isolation --outdir dist .

wheel-test: wheel
	@echo "Installing the wheel in a fresh environment; demo and tests run in an empty folder without the repository."
	PYTHON=$(PYTHON) bash tests/wheel_test.sh dist/*.whl

$(VENV)/bin/python:
	@echo "Creating $(VENV)."
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing EdgeCR and what it needs (PyTorch is the large part). About two minutes."
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools. About half a minute."
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing the documentation builder. About half a minute."
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) dist site
