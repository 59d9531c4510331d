# make demo: set up and run the whole story.   make test: set up and run all the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_ARGS ?=

.PHONY: setup demo test lint docs format clean

setup: $(VENV)/.done

# pip reads the pinned versions; on Linux, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu takes the small CPU build.
$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("unstuck needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The tests also watch programs of other projects.
$(VENV)/.third-party: $(VENV)/.done
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,third-party]'
	@touch $@

demo: setup
	$(BIN)/unstuck demo

test: $(VENV)/.third-party
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(TEST_ARGS)

lint: $(VENV)/.third-party
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site is built; with search: $(BIN)/mkdocs serve"

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
