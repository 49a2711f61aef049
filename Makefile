# Every target makes .venv itself when it is missing, or when pyproject.toml or constraints.txt changed.
#   make demo PYTHON=python3.12            the interpreter to build .venv with
#   make demo ARGS="--out runs/first"      flags for `absentia demo`
#   make test ARGS="tests/data -k mask"    flags for pytest
#   make bench BENCH=absent_cost           one benchmark instead of all

PYTHON ?= python3
ARGS ?=
BENCH ?= *
PYTEST_WORKERS ?= -n auto --maxprocesses 4 --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_LOG := $(VENV)/pip.log

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench clean

help: ## this list
	@echo "Absentia. The first target that runs builds $(VENV) (a few minutes)."
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## train on the embedded data set and write a robustness report
	@$(BIN)/absentia demo $(ARGS)

test: $(READY) ## all tests; warnings are errors
	@$(BIN)/python -m pytest $(PYTEST_WORKERS) $(ARGS)

lint: $(READY) ## ruff, and mypy --strict on the package
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(READY) ## every script in benchmarks/, one after the other
	@for script in benchmarks/$(BENCH).py; do \
	  case "$$script" in */_*) continue ;; esac; \
	  if [ ! -f "$$script" ]; then echo "no benchmark matches $$script"; [ "$(BENCH)" = "*" ]; exit; fi; \
	  echo "== $$script"; \
	  $(BIN)/python "$$script" $(ARGS) || exit; \
	done

clean: ## caches and build leftovers; keeps .venv and runs
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Absentia needs Python 3.11 or newer, and '$(PYTHON)' is: $$("$(PYTHON)" -V 2>&1 | head -n 1)." \
	       "Name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Building $(VENV) with $$("$(PYTHON)" -V). It takes a few minutes; $(PIP_LOG) tells the details."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -c constraints.txt -e '.[audio,dev,export,mri]' >$(PIP_LOG) 2>&1 || { \
	  tail -n 20 $(PIP_LOG) >&2; echo "pip could not install everything; all it said is in $(PIP_LOG)." >&2; exit 1; }
	@touch $(READY)
