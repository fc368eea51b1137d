# Every target sets up what it needs; nothing is installed twice.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The system's own Python, where there is a recent one: Debian builds it with profile-guided
# optimisation, and what was built by hand beside it often is not (a sixth slower).
export PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
PY := $(VENV)/bin/python
PYTEST := $(VENV)/bin/pytest
FAST := not mounted and not vault and not crash and not slow
# Much of what the tests do is waiting, for disks, locks and deadlines: one more than there are cores.
WORKERS ?= $(shell expr $$(nproc) + 1)
BESIDE := --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: help install demo demo-customer-key test check crash crash-states crash-power bench bench-peers format vectors vault-conformance attack-matrix fuzz clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .make/system .make/venv ## what the machine lacks by apt, Python packages into .venv

.make/system: .ci/system-packages
	@mkdir -p .make
	@bash .ci/system-packages
	@touch $@

.make/venv: pyproject.toml .make/system
	@mkdir -p .make
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install ## the main job on real files: store, mount, sync, compare, throughput
	@$(PY) -m bench.demo

demo-customer-key: install ## two vaults, and the whole life of a policy on a busy mount
	@$(PY) -m bench.demo_customer_key

test: install ## every test: fast, mounted, vault, crash; CHECKED=1 leaves out those of `check`
	@$(PYTEST) -q $(BESIDE) $(if $(CHECKED),-m "not ($(FAST))")

check: install ## ruff, mypy --strict, import contracts, fast tests, coverage of the pure core
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PYTEST) -q $(BESIDE) -m "$(FAST)" --cov=fsdriver.format --cov=keyhierarchy.wrapping --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=100

crash: crash-states

crash-states: install ## crash states of every second workload of two operations, in memory
	@$(PY) -m tests.crash.states --every 2

bench: install .make/bench-peers ## ckfs beside its peers, as root; QUICK=1 for a look, JSON=FILE writes the figures
	@$(PY) -m bench mounted $(if $(QUICK),--quick,--where both) $(if $(JSON),--json $(JSON))

bench-peers: .make/bench-peers ## the encrypting filesystems that Debian ships, and fio

.make/bench-peers: bench/system-packages-peers
	@mkdir -p .make
	@bash bench/system-packages-peers
	@touch $@

crash: crash-power ## power cuts and kills by the hundred

crash-power: install ## 500 power cuts of loop images, 200 kills under load
	@$(PY) -m tests.crash.power --cuts 500
	@$(PY) -m tests.crash.power --kill --cuts 200
	@$(PY) -m tests.crash.power.faultrun

format: install ## lay out the code
	@$(VENV)/bin/ruff check --quiet --fix-only
	@$(VENV)/bin/ruff format

vectors: install ## write the test vectors anew; the tests verify them
	@$(PY) -m tests.vectors.generate_format
	@$(PY) -m tests.vectors.generate_keyhierarchy

vault-conformance: install ## the Azure SDK's own key tests against ckfs-vault
	@$(PY) tests/conformance/run.py

attack-matrix: install .make/attack-peers ## what a store's owner can do, to us and to the peers; JSON=FILE writes it, too
	@$(PY) -m tests.attacks $(if $(JSON),--json $(JSON))

.make/attack-peers: tests/attacks/system-packages
	@bash tests/attacks/system-packages
	@touch $@

fuzz: install ## every parser with inputs that nobody wrote, for FUZZ_SECONDS (300); a million vectors
	@$(PY) -m tests.fuzz
	@CKFS_EVERY_VECTOR=1 $(PYTEST) -q tests/fsdriver/test_xaes.py

clean: ## remove what the targets made
	@rm -rf $(VENV) .make build *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache \
		.pytest_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
