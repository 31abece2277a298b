# Needs Python 3.11 or later, make and a network that reaches the package registries; sets up the
# rest by itself. Stamp files keep it from doing so twice: they are renewed when a lock changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Compiled once: without bytecode each start would compile SQLAlchemy anew, for some three seconds.
unexport PYTHONDONTWRITEBYTECODE

# The first interpreter that is new enough; `make PYTHON=…` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

VENV   := .venv
BIN    := $(VENV)/bin
VENDOR := admin_ui/static/vendor

# uv reads its own settings only; a mirror that pip was told about is passed on. Where uv cannot
# reach the registry in spite of that (a mirror in pip.conf, an odd certificate), pip can.
uv      = $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$$PIP_INDEX_URL}) $(BIN)/uv
python  = $(BIN)/python
install = $(uv) pip install --quiet --python $(python) --require-hashes -r $(1) \
	|| $(python) -m pip install --quiet --require-hashes -r $(1)
compile = $(uv) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --upgrade

# Workers of a test run: one a core, and no more than four PostgreSQL servers at once.
PYTEST := $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: $(VENV)/.runtime $(VENDOR)/manifest.json ## the whole service with a demo organisation, on http://127.0.0.1:8080
	@$(BIN)/tutela serve --demo

.PHONY: test
test: $(VENV)/.dev $(VENDOR)/manifest.json browser ## all tests, on SQLite and on PostgreSQL (ARGS=… goes to pytest)
	@$(PYTEST) $(ARGS)

.PHONY: check
check: $(VENV)/.dev $(VENDOR)/manifest.json ## lint, formatting, types, import contracts, documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -p no:randomly tests/architecture

.PHONY: soak
soak: $(VENV)/.dev $(VENDOR)/manifest.json ## the tests that take minutes: kill -9, large logs, long random histories
	@$(BIN)/pytest -m soak --hypothesis-profile soak $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev $(VENDOR)/manifest.json ## measurements side by side with their baselines, as JSON
	@$(python) -m benchmarks $(ARGS)

.PHONY: lock
lock: $(VENV)/.bootstrap ## new versions of everything, within the bounds of pyproject.toml and package.json
	$(compile) pyproject.toml -o requirements.lock
	$(compile) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	$(compile) --group bootstrap -c requirements-dev.lock -o requirements-bootstrap.lock
	$(compile) --group node -o requirements-node.lock
	$(python) tools/assets.py lock

.PHONY: clean
clean: ## remove everything that was installed or generated; data in var/ stays
	rm -rf $(VENV) node_modules $(VENDOR) dist build .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: browser
browser: $(VENV)/.dev
	@$(python) tools/browser.py

$(VENV)/.bootstrap: requirements-bootstrap.lock
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed; make PYTHON=/path/to/python3 names one.'; exit 1; }
	@echo 'Setting up: Python packages'
	@test -x $(python) || $(PYTHON) -m venv $(VENV)
	@$(python) -m pip install --quiet --no-compile --require-hashes -r $<
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml $(VENV)/.bootstrap
	@$(call install,$<)
	@$(uv) pip install --quiet --python $(python) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo 'Setting up: test tools'
	@$(call install,$<)
	@touch $@

$(VENDOR)/manifest.json: package-lock.json .npmrc tools/assets.py tools/icons.txt | $(VENV)/.bootstrap
	@echo 'Setting up: front-end assets'
	@$(python) tools/assets.py
