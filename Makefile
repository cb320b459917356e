# Targets for people; each says what it does under `make help`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  := .venv-peers
AGGREGATION_PEERS := .venv-peers-aggregation
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help demo doctor test test-slow test-oqs test-torch-engine test-wheel bench-grid bench-peers bench-aggregation-peers bench-quantum bench-aggregation bench-parity bench-privacy bench-identity privacy-curve inversion lint format configuration-reference clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 28

demo: $(VENV)/.qfl ## set up, then train a hybrid quantum model across ten clients, encrypted
	@$(BIN)/qfl simulate experiment=demo
	@$(BIN)/qfl doctor --brief

doctor: $(VENV)/.qfl ## what is installed, what is missing, how to get it
	@$(BIN)/qfl doctor

test: $(VENV)/.dev ## set up, then run the tests
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: $(VENV)/.dev ## tests that take minutes: Ray, long runs
	@$(BIN)/python -m pytest -q -m slow

test-oqs: $(VENV)/.dev ## test both post-quantum providers; OQS_INSTALL_PATH=… says where liboqs is
	@$(BIN)/python -c 'from qfl.crypto import liboqs; liboqs.load()'
	@$(BIN)/python -m pytest -q tests/crypto/providers tests/federation/test_doctor.py

test-torch-engine: | $(BIN)/python ## install as if there were no compiler, then test circuits; minutes
	@PYTHON=$(BIN)/python .ci/test-torch-engine

test-wheel: | $(BIN)/python ## build sdist and wheel, then test the wheel in a fresh environment; minutes
	@PYTHON=$(BIN)/python .ci/test-wheel

bench-peers: $(PEERS)/.peers bench-aggregation-peers ## what is measured beside, into environments of their own (2 GB)

bench-aggregation-peers: $(AGGREGATION_PEERS)/.peers ## the part that bench-aggregation needs (260 MB)

bench-quantum: $(VENV)/.dev ## quantum layers beside others' (make bench-peers); QUICK=--quick for four sizes
	@$(BIN)/python benchmarks/quantum_layers.py $(QUICK)

bench-aggregation: $(VENV)/.dev ## secure sums beside others' (make bench-aggregation-peers); QUICK=--quick
	@$(BIN)/python benchmarks/aggregation.py $(or $(QUICK),--memory)

bench-parity: $(VENV)/.dev ## whether every scheme trains the model that training in the clear does
	@$(BIN)/python benchmarks/parity.py $(QUICK)

bench-privacy: $(VENV)/.dev ## what DP-SGD, noise and the ledger cost; QUICK=--quick for a minute
	@$(BIN)/python benchmarks/privacy.py $(QUICK)

privacy-curve: $(VENV)/.dev ## accuracy against epsilon, as a table and a picture; QUICK=--quick
	@$(BIN)/python benchmarks/privacy_curve.py $(QUICK)

bench-identity: $(VENV)/.dev ## what signed and sealed envelopes cost; OQS_INSTALL_PATH=… for both providers
	@$(BIN)/python benchmarks/identity.py $(QUICK)

inversion: $(VENV)/.dev ## what a server reads from updates, sums and ciphertexts, as a table and a picture
	@$(BIN)/python benchmarks/gradient_inversion.py

bench-grid: $(VENV)/.dev ## what the local grid costs, beside Flower's Ray engine
	@$(BIN)/python benchmarks/local_grid.py

lint: $(VENV)/.dev ## ruff, mypy and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## put the code into ruff's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

configuration-reference: $(VENV)/.qfl ## write docs/configuration.md from the schemas
	@$(BIN)/python -m qfl.conf.reference > docs/configuration.md

clean: ## remove the environment and caches; runs in outputs/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.qfl: pyproject.toml setup.py constraints.txt $(wildcard qfl/quantum/native/*) | $(BIN)/python
	@echo "Installing qfl and what it needs into $(VENV); the first time takes a minute or more."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.qfl
	@echo "Installing the tools for tests and checks into $(VENV)."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(PEERS)/.peers: benchmarks/peers.txt constraints.txt | $(BIN)/python
	@echo "Installing what quantum layers are measured beside into $(PEERS)."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt -r benchmarks/peers.txt
	@# TorchQuantum asks for gigabytes that its simulator does not use (see benchmarks/peer_worker.py).
	@$(PEERS)/bin/python -m pip --disable-pip-version-check -qq install --no-deps torchquantum==0.1.8
	@touch $@

# Apart from the other peers and from constraints.txt: NVFlare insists on another TenSEAL, and who
# measures sums need not install gigabytes of simulators.
$(AGGREGATION_PEERS)/.peers: benchmarks/aggregation_peers.txt | $(BIN)/python
	@echo "Installing what secure sums are measured beside into $(AGGREGATION_PEERS)."
	@$(PYTHON) -m venv $(AGGREGATION_PEERS)
	@$(AGGREGATION_PEERS)/bin/python -m pip --disable-pip-version-check -qq install -r benchmarks/aggregation_peers.txt
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found: install Python 3.11, 3.12 or 3.13 (Debian: apt install python3 python3-venv), or name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); qfl needs Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module: install it (Debian: apt install python3-venv)."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
