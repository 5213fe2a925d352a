# Every verb of the project. `make` alone explains them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SERVICES := registry trainer evaluator deployer serving drift_monitor
# Test processes; each has a broker and a database of its own.
N ?= 2
# Rates are tested within bounds that chance breaks now and then; everyday runs draw the same
# numbers, `make test SEED=` and the nightly run draw new ones.
SEED ?= 275862461
MEMBERS := $(addprefix services/,$(SERVICES)) shared client local ops
CODE := shared services client/tidewheel local ops tests bench
PY := .venv/bin/python
export PYTHONPATH := $(CURDIR):$(CURDIR)/client

.PHONY: bench-serving bench-peers bench-explain grafana system-tools monitoring
.PHONY: help env demo up down status logs clean test test-fast test-nightly check isolated fmt lint \
	types contracts deps locks lock hooks bench-cascade bench-bus bench-up bench-gate bench-canary bench-compiled bench-models bench-monitor bench-rounds bench-spool schemas

help: ## Print every verb with one line each
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/.ready .venv/bin/tidewheel ## Create or update .venv from the hashed root lock

.venv/.ready: constraints.lock
	@bash local/environment.sh .venv constraints.lock

.venv/bin/tidewheel: local/tidewheel.sh .venv/.ready
	@install -m 755 $< $@

demo: env ## Run the whole cascade on real data and print what was promised and what happened
	@$(PY) -m local.demo

up: env ## Start Kafka, PostgreSQL and the six services on this machine
	@$(PY) -m local up

down: env ## Stop everything that `make up` started; data is kept
	@$(PY) -m local down

status: env ## Show each service: state, address, memory
	@$(PY) -m local status

logs: env ## Show the logs; one service with S=trainer
	@$(PY) -m local logs $(S)

clean: env ## Stop everything and delete its data
	@$(PY) -m local clean

test: env ## Run every test but the nightly ones, on a real broker and database
	@$(PY) -m pytest -n $(N) --dist loadfile --no-loadscope-reorder $(if $(SEED),--seed=$(SEED)) $(T)

test-fast: env ## Run the tests that need no broker and no database, with sockets off
	@$(PY) -m pytest -m "not real and not nightly" --disable-socket --allow-unix-socket $(T)

test-nightly: env ## Run the long tests
	@$(PY) -m pytest -m nightly $(T)

check: env lint types contracts deps locks ## Format, lint, strict types, import contracts, dependencies, locks

fmt: env ## Rewrite the code in the one format
	@.venv/bin/ruff format $(CODE)
	@.venv/bin/ruff check --fix --quiet $(CODE)

lint: env ## Only format and lint
	@echo "format and lint"
	@.venv/bin/ruff format --check --quiet $(CODE) || { echo "run: make fmt"; exit 1; }
	@.venv/bin/ruff check --quiet $(CODE)

types: env ## Only the strict types
	@echo "types"
	@.venv/bin/mypy

contracts: env ## Only the import contracts
	@echo "import contracts"
	@.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

deps: env ## Only what each member imports against what it declares
	@echo "dependencies of each member"
	@for member in $(MEMBERS); do bash local/dependencies.sh $$member; done

locks: env ## Only the locks
	@echo "locks"
	@$(PY) -m pytest -q --no-header tests/contracts/test_locks.py

isolated: env ## Import each service alone, in an environment made of its own lock only
	@for service in $(SERVICES); do bash local/isolated.sh services/$$service; done
	@bash local/isolated.sh client

lock: env ## Resolve all dependencies again and cut every lock from the one result
	@bash local/lock.sh $(U)

schemas: env ## Write the event schemas and examples that the tests compare
	@$(PY) -m tests.support.schemas

grafana: env ## Write Grafana's dashboards and its copy of the alerts from the rules
	@$(PY) -m ops.generate

system-tools: ## Install Prometheus and Alertmanager for their tests, where root and apt allow it
	@bash ops/system-tools.sh

monitoring: env ## Run Prometheus and Alertmanager beside the stack that `make up` started
	@$(PY) -m ops.monitoring

hooks: env ## Run `make check` before every commit
	@printf '#!/bin/sh\nexec make check\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
	@echo "make check runs before every commit from now on"

bench-cascade: env ## Time from an accepted dataset to the new version answering, over 200 cascades
	@$(PY) -m bench.bench_cascade

bench-bus: env ## Events per second through the kernel, beside a bare loop
	@$(PY) -m bench.bench_bus

bench-up: env ## Time until all six services are ready, and their memory
	@$(PY) -m bench.bench_up

bench-gate: env ## False promotions, power, creep, fleets and cost of the gate, beside common rules
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_gate

.PHONY: bench-drift
bench-drift: env ## False alarms, power and delay of drift detection, beside common rules; FULL=1 for 20,000 windows
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_drift

bench-canary: env ## False aborts, false promotions and speed of the canary, beside common rules
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_canary

bench-storm: env ## Retrainings asked for in a fleet of 1,000 against its lasting changes, beside other policies
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_storm

bench-monitor: env ## Rows per second into sketches, windows closed, labels joined, restart, beside peers
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_monitor $(ARGS)

bench-rounds: env ## Labels settled by time, old windows closed and metrics told, in a fleet of 10,000 models
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_rounds $(ARGS)

bench-spool: env ## Whether each answer is logged once: outage of the broker and kill -9 under load
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_spool $(ARGS)

bench-models: env ## Ten thousand small models in one process: requests/s, memory, cold starts, evictions
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_models $(ARGS)

bench-explain: env ## What one explanation costs, for each kind of model
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_explain

bench-compiled: env ## Microseconds of one row, scikit-learn beside the compiled model
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m bench.bench_compiled

bench-serving: env bench-peers ## Requests per second and latency of serving, beside other servers
	@$(PY) -m bench.bench_serving

bench-peers: env ## Make the environments of the servers that bench-serving measures beside ours
	@$(PY) -m bench.serving_venvs
