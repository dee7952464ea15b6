# make setup         the virtual environment .venv
# make demo          DSANet and its baseline on generated videos: two to four minutes on two CPU cores
# make demo-models   six models on the same videos: about 20 minutes
# make test          linter, type checker and tests: a few minutes
# make test-all      also the slow tests: the network of each config is built and trained for a step
# make faults        runs are killed, frozen, disconnected or out of disk space, then resumed: about 12 minutes
# make test-web      tests of pages in Chromium; requires chromium and chromedriver
# make gpu-check     check a GPU: correctness, speed and memory, in less than eight minutes; writes gpu_check.json
# make docs          the website of docs/, in docs/_build; each warning is an error

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema

.PHONY: setup setup-dev demo demo-models test test-all test-web faults gpu-check lint docs
setup: $(VENV)/installed
setup-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

$(VENV)/installed-web: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet -e '.[web]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
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
	$(BIN)/codespell --check-hidden .github codes configs docs tests tools pretrained *.md *.sh CITATION.cff Makefile pyproject.toml
	$(SCHEMA) vendor.citation-file-format CITATION.cff
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

# Two at a time, as most tests keep one core busy; in small parts, so that no core waits for the other one for long
PARTS := commands models datasets engine
test: setup-dev
	$(MAKE) -j 2 -O --no-print-directory lint $(PARTS:%=test-%) test-rest

.PHONY: test-rest $(PARTS:%=test-%)
$(PARTS:%=test-%): test-%:
	$(BIN)/python -m pytest tests/$*
test-rest:
	$(BIN)/python -m pytest $(PARTS:%=--ignore=tests/%)

test-all: test
	$(BIN)/python -m pytest -m sweep

test-web: $(VENV)/installed-web
	$(BIN)/python -m pytest -rs -m web

FAULTS ?= faults
faults: setup-dev
	$(BIN)/python -m pytest -rs -m "$(FAULTS)"

gpu-check: setup-dev
	$(BIN)/python tools/gpu_check.py

docs: $(VENV)/installed-docs
	rm -rf docs/_build docs/api/_generated
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
