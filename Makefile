# Everything here sets itself up: `make demo` and `make test` work on a machine that has only Python and make.

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?= -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint bench docs setup setup-dev format clean

demo: setup  ## practice venues, capture, paper trading and a live page at http://127.0.0.1:8079
	@$(BIN)/oneprice demo $(DEMO_ARGS)

# Some hundred processes start: where Python is told to keep no bytecode, each would translate all modules anew.
test: setup-dev  ## the whole test suite
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(TEST_ARGS)

lint: setup-dev  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: setup-dev
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: setup-dev  ## ratios against named peers, each measured in one run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	PYTHONPATH=. $(BIN)/python -m benchmarks

docs: setup  ## docs/kernels.md, from the kernels themselves
	$(BIN)/python -m oneprice.app.kernel_pages > docs/.kernels.md && mv docs/.kernels.md docs/kernels.md

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(VENV)/.ready: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "oneprice needs Python 3.11 to 3.14; none was found on PATH" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing oneprice into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
