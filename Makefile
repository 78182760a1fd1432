# Two commands for a newcomer: `make run` and `make test`. Everything is installed into .venv, once;
# a target is quick when pyproject.toml did not change since. PYTHON=… chooses the interpreter.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet
PROTO  := gateway/dialects/thingsboard/device_api.proto
# Its generated code runs on every protobuf runtime that pyproject.toml allows; a newer one's does not.
PROTOC := grpcio-tools==1.76.0 protobuf==6.33.6

.DEFAULT_GOAL := help
.PHONY: help run test check clients bench bench-import soak fuzz proto clean

help: ## List these targets.
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

run: $(VENV)/.for-running ## Serve on the default ports, with the embedded database in data/.
	$(BIN)/gatehouse serve

test: $(VENV)/.for-developing ## Run every test; those of programs that are not installed are skipped.
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.for-developing ## Check style and types, changing nothing.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict gateway

clients: $(VENV)/.for-developing ## Install the foreign clients that tests/clients drives.
	PYTHON=$(BIN)/python tests/clients/install.sh

bench: $(VENV)/.for-developing ## Measure this machine: figures and ratios, no verdict.
	$(BIN)/gatehouse bench
	$(BIN)/python -m pytest -m bench -s tests/bench
	$(BIN)/python tests/bench/gates.py
	@if command -v cc >/dev/null && command -v wrk >/dev/null; then $(BIN)/python tests/bench/load.py; \
	else echo "The device API is measured with cc and wrk: apt-get install gcc libc6-dev wrk"; fi

bench-import: $(VENV)/.for-developing ## Import a million devices: rows a second, memory.
	$(BIN)/python tests/bench/import_rows.py $(if $(ROWS),--rows $(ROWS))

soak: $(VENV)/.for-developing ## Ten minutes of mixed traffic: nothing may be lost, memory not grow.
	$(BIN)/python tests/soak/soak.py $(if $(MINUTES),--minutes $(MINUTES))

fuzz: $(VENV)/.for-developing ## Ten thousand steps against the model, then ten minutes of HTTP.
	$(BIN)/python tests/model/machine.py $(if $(STEPS),--steps $(STEPS))
	$(BIN)/python tests/e2e/fuzzing.py $(if $(MINUTES),--minutes $(MINUTES))

proto: $(VENV)/protoc/.ready ## Write the Python code of device_api.proto again.
	$(VENV)/protoc/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. $(PROTO)

clean: ## Remove .venv and the foreign clients; data/ stays.
	rm -rf $(VENV) tests/clients/.programs

# ── what they need ───────────────────────────────────────────────────────────────────────────────

$(VENV)/.for-running: $(VENV)/.made pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/.for-developing: $(VENV)/.made pyproject.toml
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.for-running

$(VENV)/protoc/.ready: $(VENV)/.made Makefile
	$(BIN)/python -m venv $(VENV)/protoc
	$(VENV)/protoc/bin/pip --disable-pip-version-check --quiet install $(PROTOC)
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON). Install Python 3.11 or newer, or name it: make PYTHON=python3.12"; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V). Name a newer one:"; \
		echo "    make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without venv. On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
