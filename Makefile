# Perigee's commands. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# A folder of caches for machines whose home cannot be written.
CACHES := $(if $(wildcard $(HOME)/.),$(if $(shell test -w $(HOME) && echo yes),,UV_CACHE_DIR=$(CURDIR)/.perigee/uv-cache),UV_CACHE_DIR=$(CURDIR)/.perigee/uv-cache)

# All processes share one Kafka and one PostgreSQL; the long tests come first (tests/conftest.py).
TEST_PROCESSES ?= 3
FAST_PROCESSES ?= 2

.PHONY: help setup lock demo env test test-fast test-mutation test-long test-faults test-compose test-sdks check format bench bench-growth bench-live bench-plays bench-ingest bench-peers clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

COMPILED := $(wildcard services/scoring/domain/*.py) $(wildcard libs/common/kafka/*.py libs/common/kafka/wire/*.py) libs/common/partitioner.py libs/common/decay.py

setup: .venv/.done .venv/.compiled deploy/kafka/target/.done ## Make .venv from the lock, compile what is compiled, fetch Kafka's artefacts

.venv/.done: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "perigee needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=python3.12, say."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip --version >/dev/null
	@echo "setup: installing the locked packages" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/uv.txt
	@$(CACHES) $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	@$(CACHES) $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q cli libs services  # a start takes half as long, where Python may not write it itself
	@touch $@

.venv/.compiled: .venv/.done deploy/compile/build.py libs/common/compilation.py services/scoring/compilation.py $(COMPILED)
	@$(BIN)/python deploy/compile/build.py >&2
	@touch $@

deploy/kafka/target/.done: deploy/kafka/pom.xml
	@bash deploy/kafka/fetch

lock: ## Resolve the dependencies anew into requirements/ (hashes, no registry named)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url pyproject.toml \
	  --group ingest --group scoring --group orchestrator --group embedded --group dev --group build -o requirements/dev.txt
	for part in ingest scoring orchestrator cli; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url pyproject.toml --group $$part -o requirements/$$part.txt; done
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  pyproject.toml --extra otel -o requirements/otel.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --group compile -o requirements/compile.txt
	for apart in bench-quix bench-faust browser mutation; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url requirements/$$apart.in -o requirements/$$apart.txt; done
	echo "uv==0.13.9" | $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url - -o requirements/uv.txt

demo: setup ## Start everything, send the storefront's touchpoints, show what happened (DEMO_ARGS="--exit --json")
	@$(BIN)/perigee demo $(DEMO_ARGS)

test: setup tests/sdks/node/node_modules/.done ## Unit, property, contract, integration and end-to-end tests on real Kafka and PostgreSQL
	@exec $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder $(TEST_ARGS)

test-fast: setup tests/sdks/node/node_modules/.done ## Tests without servers, for the loop while one works (under 40 s on 2 cores)
	@exec $(BIN)/python -m pytest -n $(FAST_PROCESSES) --dist loadscope --no-loadscope-reorder tests/unit tests/property tests/contract $(TEST_ARGS)

test-mutation: setup .perigee/mutation/.done ## Mutants of the domains that the fast tests kill (hours; MUTATION_ARGS names modules)
	@nice -n 15 $(BIN)/python -m tests.mutation.run $(MUTATION_ARGS)

test-long: setup ## The model test over 10,000 seeds (PERIGEE_SEEDS, PERIGEE_FIRST_SEED)
	@PERIGEE_SEEDS=$${PERIGEE_SEEDS:-10000} $(BIN)/python -m pytest -s tests/model $(TEST_ARGS)

test-sdks: setup tests/sdks/node/node_modules/.done ## Every library that we say works, from its registry, against the door
	@tests/sdks/build
	@PERIGEE_SDKS=all $(BIN)/python -m pytest tests/sdks $(TEST_ARGS)

tests/sdks/node/node_modules/.done: tests/sdks/node/package-lock.json
	@command -v npm >/dev/null || { echo "the tests run a Node library too: install Node.js 20 or newer and try again"; exit 1; }
	@echo "test: fetching the Node libraries" >&2
	@cd tests/sdks/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

test-compose: setup ## The compose file for real: needs a Docker engine (10 minutes the first time)
	@docker compose version >/dev/null 2>&1 || { echo "test-compose needs Docker with its compose plugin: install it and try again"; exit 1; }
	@PERIGEE_COMPOSE=1 $(BIN)/python -m pytest -s tests/compose $(TEST_ARGS)

env: ## Write .env with fresh secrets for docker compose
	@deploy/env

test-faults: setup .perigee/toxiproxy/server tests/sdks/node/node_modules/.done ## The long form of the fault tests (needs Go, for toxiproxy, and Node.js)
	@PERIGEE_FAULTS=long $(BIN)/python -m pytest -s tests/faults tests/e2e/test_replay.py tests/integration/test_openapi.py tests/integration/webhooks $(TEST_ARGS)

.perigee/toxiproxy/server:
	@command -v go >/dev/null || { echo "test-faults needs Go 1.22 or newer to build toxiproxy: install it and try again"; exit 1; }
	@echo "test-faults: building toxiproxy" >&2
	@GOBIN=$(CURDIR)/.perigee/toxiproxy go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0

check: setup ## Format, lint, types, architecture, style counters
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tests.style_counters

format: setup ## Format and fix what can be fixed
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: setup ## Measure scoring against its floor, and case by case, and write docs/benchmarks.md
	@$(BIN)/python -m tests.benchmarks.scoring
	@$(BIN)/python -m tests.benchmarks.scoring_cases

bench-growth: setup ## Measure what a touchpoint costs by visits as contacts and stored touchpoints grow (an hour)
	@$(BIN)/python -m tests.benchmarks.growth

bench-live: setup ## Measure the running product: from a door's 200 to the topic, and a backlog of a million
	@$(BIN)/python -m tests.benchmarks.live

bench-plays: setup ## Measure the orchestrator: enrolling, deciding, waiting, sending; and as enrollments grow
	@$(BIN)/python -m tests.benchmarks.plays

bench-ingest: setup ## Measure ingest against bare uvicorn, decoding and a send per event, and an import of a million rows
	@$(BIN)/python -m tests.benchmarks.ingest

bench-peers: setup .perigee/bench-quix/.done .perigee/bench-faust/.done ## Run the same fold inside Quix Streams and Faust
	@BENCH_QUIX=.perigee/bench-quix/bin/python BENCH_FAUST=.perigee/bench-faust/bin/python $(BIN)/python -m tests.benchmarks.peers.run

.perigee/mutation/.done: requirements/mutation.txt
	@$(PYTHON) -m venv .perigee/mutation
	@$(CACHES) $(BIN)/uv pip install --quiet --python .perigee/mutation/bin/python --require-hashes -r $<
	@echo $(CURDIR)/.venv/lib/python*/site-packages > $$(echo .perigee/mutation/lib/python*/site-packages)/project.pth
	@touch $@

.perigee/bench-%/.done: requirements/bench-%.txt
	@$(PYTHON) -m venv .perigee/bench-$*
	@$(CACHES) $(BIN)/uv pip install --quiet --python .perigee/bench-$*/bin/python --require-hashes -r $<
	@touch $@

clean: ## Remove what setup and the servers made
	rm -rf .venv .perigee deploy/kafka/target perigee_*__mypyc*.so perigee_*_compiled_from.txt
	find libs services -name "*.so" -delete
