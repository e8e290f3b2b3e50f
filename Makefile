# The two commands: `make demo` and `make test`. Both set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What tests of the lake's doors drive; apart, as those clients pin what Tulle does not.
CLIENTS := .venv-clients
MESH   ?= demo-mesh
# Three processes of tests for two cores; `make test WORKERS=0` runs all in one.
WORKERS ?= auto

# Compiled modules are kept, whatever the shell says: tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-stop test lint format lock bench clean
help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.run: requirements.lock pyproject.toml
	@echo "· making $(VENV) and installing the locked dependencies"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "· installing the locked development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(CLIENTS)/.made: requirements-clients.lock
	@echo "· installing the locked stock clients of the lake"
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile -r requirements-clients.lock
	@touch $@

# Once, and here: the sandbox that runs suites may not write, and would compile it each time.
$(CLIENTS)/.compiled: $(CLIENTS)/.made
	@$(CLIENTS)/bin/python -c "import great_expectations"
	@touch $@

demo: $(VENV)/.run            ## build the example mesh in ./demo-mesh, start it, and show how to use it
	@$(BIN)/tulle demo $(MESH)

demo-stop:            ## stop everything the demo started
	@$(BIN)/tulle --mesh $(MESH) down

lint: $(VENV)/.dev            ## format check, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test:            ## all that CI runs
	@$(MAKE) --no-print-directory --jobs 2 lint $(CLIENTS)/.compiled
	@scripts/test-system-packages
	@scripts/test --numprocesses $(WORKERS)

format: $(VENV)/.dev            ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:            ## resolve the dependencies anew (hashes, no index addresses)
	@scripts/lock

bench: $(VENV)/.dev            ## run the benchmarks against their peers
	@$(BIN)/python benchmarks/run.py

clean:            ## remove what the two commands made here
	@rm -rf $(VENV) $(CLIENTS)
