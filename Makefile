# `make` lists the targets. They need Python 3.11 or 3.12 and nothing else; PYTHON=... names one.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PYTHON ?=
REPLAY ?=
KEEP ?=
ARGS ?=
# Each process would compile all its modules again: 0.4 s of a command, 4 s of a test worker.
export PYTHONDONTWRITEBYTECODE =
# A worker may run Kafka, OpenSearch and Flink: 4 GiB.
WORKERS ?= logical --maxprocesses=4

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## virtual environment, packages and jars (existing ones are kept)
	@$(BIN)/tunemesh jars fetch

$(READY): requirements.lock pyproject.toml deploy/setup.sh
	@PYTHON="$(PYTHON)" sh deploy/setup.sh
	@touch $@

.PHONY: demo
demo: setup ## the whole stream on this machine [REPLAY=DIR] [KEEP=1] [ARGS=...]
	@$(BIN)/tunemesh demo $(if $(REPLAY),--replay "$(REPLAY)") $(if $(KEEP),--keep) $(ARGS)

.PHONY: bootstrap-demo
bootstrap-demo: setup ## stores, exports, catalog, import in bulk, then the stream [REPLAY=DIR] [KEEP=1] [ARGS=...]
	@$(BIN)/tunemesh bootstrap-demo $(if $(REPLAY),--replay "$(REPLAY)") $(if $(KEEP),--keep) $(ARGS)

.PHONY: upgrade-demo
upgrade-demo: setup ## upgrades, rescaling, a rollback, newer schemas while 500 events/s flow [ARGS=...]
	@$(BIN)/tunemesh upgrade-demo $(ARGS)

# $(1): the folders of a target. Without ARGS one worker a core runs them, a module at a time: a
# module's tests share its servers. ARGS that name a path replace the folders; all ARGS run in one
# process, as --pdb and -s need it.
run_tests = $(BIN)/python -m pytest $(if $(strip $(ARGS)),\
	$(if $(filter tests/% ./tests/%,$(ARGS)),,$(1)) $(ARGS),\
	-n $(WORKERS) --dist loadscope --no-loadscope-reorder $(1))

.PHONY: test
test: setup ## all checks and all default tests; with ARGS only the tests that they select [ARGS=...]
	$(if $(strip $(ARGS)),,@$(MAKE) --no-print-directory check)
	$(call run_tests)

.PHONY: unit
unit: setup ## tests that start no server, within a minute [ARGS=...]
	$(call run_tests,tests/unit)

.PHONY: flink
flink: setup ## tests of the jobs in Flink's minicluster [ARGS=...]
	$(call run_tests,tests/flink)

.PHONY: integration
integration: setup ## tests on real servers: Kafka, PostgreSQL, OpenSearch, emulators [ARGS=...]
	$(call run_tests,tests/integration)

.PHONY: test-faults
test-faults: setup ## kills servers and workers while events flow; takes hours [ARGS=...]
	$(BIN)/python -m pytest -m faults -o faulthandler_timeout=880 \
		$(if $(filter tests/% ./tests/%,$(ARGS)),,tests/faults tests/integration) $(ARGS)

.PHONY: check
check: $(READY) ## format, lint, types, import layers, documentation
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory docs ARGS=--check

.PHONY: docs
docs: $(READY) ## the documentation site in site/, with its generated pages [ARGS=--check]
	$(BIN)/python -m docs.generate $(ARGS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: plans
plans: setup ## jobs/plans from the SQL, after a change of it [ARGS=--check]
	JAVA_HOME="$$($(BIN)/python -c 'import os; from connectors.flink import java; print(java.find(os.environ).home)')" \
		$(BIN)/python -m jobs.submission.compile --jars "$$($(BIN)/tunemesh jars path flink)" $(ARGS)

.PHONY: bench-enrichment
bench-enrichment: setup ## the enrichment beside Java, naive PyFlink and Bytewax [ARGS=...]
	$(BIN)/python -m benchmarks.enrichment $(ARGS)

.PHONY: bench-decoding
bench-decoding: setup ## the decode step with and without the generated reader [ARGS="--flink 2"]
	$(BIN)/python -m benchmarks.decoding $(ARGS)

.PHONY: bench-latency
bench-latency: setup ## from publication to accepted, on a platform that runs [ARGS="--rate 100"]
	$(BIN)/python -m benchmarks.latency $(ARGS)

.PHONY: bench-delivery
bench-delivery: setup ## the sink engine: Personalize's quotas, OpenSearch, Firehose [ARGS=--quick]
	$(BIN)/python -m benchmarks.delivery $(ARGS)

.PHONY: bench-bootstrap
bench-bootstrap: setup ## the bootstrap beside DuckDB, 1M and 10M interactions [ARGS="--interactions 1000000"]
	$(BIN)/python -m benchmarks.bootstrap $(ARGS)

.PHONY: bench-state
bench-state: setup ## the state of the joins by published and unknown ids [ARGS="--ids 100000"]
	$(BIN)/python -m benchmarks.state $(ARGS)

.PHONY: lock
lock: $(READY) ## requirements.lock from requirements.in, also for benchmarks [ARGS=--upgrade]
	$(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(ARGS) -o requirements.lock requirements.in
	$(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(ARGS) \
		-o benchmarks/bytewax/requirements.lock benchmarks/bytewax/requirements.in
	$(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(ARGS) \
		-o benchmarks/opensearch_py/requirements.lock benchmarks/opensearch_py/requirements.in
	$(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(ARGS) \
		-o benchmarks/duckdb/requirements.lock benchmarks/duckdb/requirements.in
	@$(MAKE) --no-print-directory sbom

.PHONY: sbom
sbom: $(READY) ## sbom.cdx.json from requirements.lock and pom-deps.txt
	$(BIN)/python -m deploy.package.sbom

.PHONY: package
package: setup ## dist/: the zip for Managed Flink, and its SBOM [ARGS="--application bootstrap"]
	@$(BIN)/tunemesh package $(ARGS)

.PHONY: clean
clean: ## stops the platform; removes .venv, .tunemesh and caches (the jar cache stays)
	@if [ -x $(BIN)/tunemesh ]; then $(BIN)/tunemesh down; fi
	rm -rf $(VENV) .tunemesh site *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
