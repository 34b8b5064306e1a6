# Everything a person or a build machine runs here. `make` alone lists it.

PYTHON ?= python3
VENV ?= .venv
# Test processes at once; 0 runs all in one process, which suits a debugger.
JOBS ?= auto
# Executions of each target of the fuzzer.
RUNS ?= 100000
# Which hub the demo runs on; empty leaves the choice to the demo.
HUB ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest -n $(JOBS)
LOCK := build/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-config \
	--no-emit-index-url --no-emit-find-links --no-header --quiet $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo dev azurite test conformance coverage fuzz test-fast check package bench format lock clean

help:  ## List what can be made
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON) VENV=$(VENV) JOBS=$(JOBS) RUNS=$(RUNS) HUB=$(HUB)"

demo: $(VENV)/.installed-runtime  ## Run the demo (HUB=... picks the hub)
	$(BIN)/python -m samples.demo.main $(if $(HUB),--hub $(HUB))

dev: $(VENV)/.installed-dev  ## Set up the environment for working on the code

azurite: dev  ## Run Azurite, the storage emulator, on free ports until Ctrl-C
	$(BIN)/python azurite/start.py

test: dev build/azurite/installed.txt coverage  ## Run every test, and fail if a required behaviour or a branch of the core is not shown
	$(PYTEST) --behaviours
	$(BIN)/python -m tests.emulator.conformance

conformance: dev  ## Run those of the Service Bus SDK's own tests that take minutes each
	$(BIN)/python -m tests.emulator.conformance --slow

coverage: dev  ## Run the tests of the pure core, and fail if one of its branches is not covered
	$(BIN)/coverage run -m pytest -q tests/unit tests/property
	$(BIN)/coverage report --fail-under=100 --include='durabletask_azure/core/*'

fuzz: dev  ## Fuzz the emulator, led by coverage (RUNS=... of each target; x86-64 Linux)
	$(BIN)/python -m tests.emulator.fuzz --runs $(RUNS)

test-fast: dev  ## Run the tests that need no wire, in less than five minutes
	$(PYTEST) -m "not azure and not slow"

check: dev  ## Check format, lint, types, layers and the package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(MAKE) --no-print-directory package

package: dev  ## Build sdist and wheel; install the wheel into an empty environment and import it
	rm -rf build/dist
	$(BIN)/python -m build --no-isolation --outdir build/dist . > build/package.log || { cat build/package.log; exit 1; }
	$(BIN)/python .ci/check_package.py build/dist

bench: dev  ## Compare the embedded hub with its peers; other benchmarks: python -m benchmarks --help
	$(BIN)/python -m benchmarks compare

format: dev  ## Format the code and repair what lint can repair
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock:  ## Pin the dependencies of pyproject.toml again (UPGRADE=1 takes the newest)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install "uv>=0.9"
	$(LOCK) -o requirements/runtime.txt
	$(LOCK) --group build -c requirements/runtime.txt -o requirements/build.txt
	$(LOCK) --group dev -c requirements/build.txt -o requirements/dev.txt

clean:  ## Remove everything that was made
	rm -rf $(VENV) build dist .coverage htmlcov .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find durabletask_azure tests samples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.13" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

# What running needs, and what building the package in place needs.
$(VENV)/.installed-runtime: pyproject.toml requirements/build.txt | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements/dev.txt | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@mkdir -p build
	@touch $@ $(VENV)/.installed-runtime

# Before the tests begin, so that none of them has to wait for npm.
build/azurite/installed.txt: azurite/package-lock.json | $(VENV)/.installed-dev
	$(BIN)/python azurite/start.py --install
	@touch $@
