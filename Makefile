# make setup         the environment for using the project, in .venv
# make demo          DSANet against its baseline on generated videos: about four minutes on two CPU cores
# make demo-models   five ways of relating the snippets of a video, on the same videos: under 15 minutes
# make test          linter, type checker and tests: a few minutes
# make test-all      what is too slow for that: each config's network is built and trained a step
# make faults        runs killed, frozen, cut off, stopped and filled up, restarted and resumed: about 12 minutes

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup setup-dev demo demo-models test test-all faults lint
setup: $(VENV)/installed
setup-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/dsanet demo

demo-models: setup
	$(BIN)/dsanet demo --all --out work_dirs/demo_models

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/src && ln -sfn ../../codes $(VENV)/src/dsanet
	$(BIN)/mypy
	$(BIN)/shellcheck *.sh tools/*.sh pretrained/*.sh .ci/run
	$(BIN)/codespell codes configs docs tests tools pretrained *.md *.sh Makefile pyproject.toml

test: lint
	$(BIN)/python -m pytest

test-all: test
	$(BIN)/python -m pytest -m sweep

FAULTS ?= faults
faults: setup-dev
	$(BIN)/python -m pytest -rs -m "$(FAULTS)"
