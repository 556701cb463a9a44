# Two commands are all the set-up there is:
#   make run     .venv, the pinned packages and the small model; then the example experiment
#   make test    the same environment and the dev tools; then the whole test suite
# `make help` lists the rest.
#
# Plain PyTorch on Linux brings CUDA packages of several gigabytes. For the CPU build let
# PIP_EXTRA_INDEX_URL name PyTorch's own index of CPU wheels (its install page tells which) before
# the first `make`, or install torch into .venv yourself: what is there and fits is left alone.
#
# How packages are installed: torch by pip, from wherever pip is told to look; the rest by uv,
# which takes seconds where pip takes minutes, and by pip if uv does not work here. constraints.txt
# pins every version, because pip and uv choose differently where they may choose.

# A run starts several Pythons and the suite hundreds: bytecode is kept whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PINS := constraints.txt
PYTEST := $(VENV)/bin/pytest -q -n 2
PROMISES := tests/contract/test_store.py tests/unit/answering/test_whole_files.py tests/unit/cloud/test_bucket_store.py \
	$(patsubst %,tests/unit/evaluation/test_%.py,decision reasons reasons_of_safety rules) \
	tests/unit/lineage/test_sweep_folder.py tests/unit/model/test_resume.py \
	tests/unit/steps/test_gate.py tests/faults/test_corruption.py \
	$(patsubst %,tests/unit/test_%.py,bucket_in_memory execute files folder_store fsspec_blobs leases left_behind)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
comma := ,
install = $(BIN)/uv pip install --quiet --python $(BIN)/python -c $(PINS) -b $(PINS) -e '.[$(1)]' || $(PIP) install -c $(PINS) -e '.[$(1)]'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test lint check bench bench-data lock revisions peers smoke-gcp faults fuzz coverage mutation clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name does; do \
		printf '  %-15s %s\n' "$$name" "$$does"; done

setup: $(VENV)/.installed $(VENV)/.model ## make .venv, install the pinned packages, fetch the small model

run: setup ## run the example experiment; a second time everything is cached
	@$(BIN)/python -m llmops run +experiment=so_python

test: $(VENV)/.dev $(VENV)/.model peers ## run the whole test suite
	$(PYTEST)

lint: $(VENV)/.dev ## formatting, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint ## lint, and the quick tests that need no model
	$(PYTEST) -m 'not slow and not model'

faults: $(VENV)/.dev ## hit every file operation with every fault, in thousands; a quarter of an hour
	$(BIN)/python -m tests.faults.campaign
	LLMOPS_SIGNAL_SEEDS=100 LLMOPS_ROUNDS=50 $(PYTEST) tests/faults

FUZZ_SECONDS := 60
fuzz: $(VENV)/.dev ## feed the config loader and the reader of JSON Lines with wild bytes, FUZZ_SECONDS each
	@$(call install,fuzz)
	$(BIN)/python -m tests.faults.fuzz config -max_total_time=$(FUZZ_SECONDS)
	$(BIN)/python -m tests.faults.fuzz rows -max_total_time=$(FUZZ_SECONDS)

coverage: $(VENV)/.dev ## show that tests take every branch of store, locks, index, gate and resume
	$(BIN)/coverage run --branch --source=llmops -m pytest -q -n 0 $(PROMISES)
	$(BIN)/coverage report

mutation: $(VENV)/.dev ## change that code in every small way, and count which changes no test notices
	$(BIN)/mutmut run
	$(BIN)/python -m tests.faults.mutants -v

bench-data: ROWS ?= 100000 300000 1000000 5000000
bench-data: $(VENV)/.dev ## measure data preparation against the notebook and `datasets`
	@$(BIN)/python benchmarks/data.py $(ROWS) same
	@$(BIN)/python benchmarks/data_steps.py $(firstword $(ROWS))

bench: $(VENV)/.dev $(VENV)/.model ## measure; figures go to benchmarks/out/
	@for file in $$(grep -l '^if __name__' benchmarks/*.py | grep -v benchmarks/data); do \
		echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lock: $(VENV)/.dev ## renew constraints.txt with the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet $(foreach extra,local serve sweep gcp export fuzz dev,--extra $(extra)) --group setup \
		--no-emit-index-url --no-annotate --no-header pyproject.toml > $(VENV)/pins
	@{ echo '# Every package of every extra, and what they need. Written by `make lock`.'; \
		echo "# torch brings its own packages for CUDA, where it has any: they are not listed."; \
		sed -E '/^(nvidia|cuda|triton)/d; s/\+[a-z0-9.]+$$//' $(VENV)/pins; } > $(PINS)

peers: $(PEERS)/crucible/.installed $(PEERS)/mlflow/.installed $(PEERS)/submitit/.installed $(PEERS)/lm_eval/.installed ## install what tests compare with into .venv-peers; tests skip it where it cannot be had

smoke-gcp: $(VENV)/.dev ## check a real project: PROJECT=my-project [BUCKET=gs://..] [REGION=..] [PARTS=..] [IMAGE=..] [TUNE=1]
	@test -n '$(PROJECT)' || { echo 'say which project is billed:  make smoke-gcp PROJECT=my-project' >&2; exit 2; }
	$(BIN)/python -m tests.smoke --project $(PROJECT) $(if $(BUCKET),--bucket $(BUCKET)) $(if $(REGION),--region $(REGION)) $(if $(IMAGE),--image $(IMAGE)) $(if $(TUNE),--tune) $(PARTS)

revisions: $(VENV)/.dev ## record the steps' code, once each change has its revision or the same result
	$(BIN)/python tests/golden/revisions.py

clean: ## remove .venv, .venv-peers, caches and build outputs; runs/ and .llmops/ stay
	rm -rf $(VENV) $(PEERS) build dist benchmarks/out
	rm -rf mutants .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
		then echo "$$python -m venv $(VENV)"; exec $$python -m venv $(VENV); fi; \
	done; \
	echo 'llmops needs Python 3.11, 3.12 or 3.13; say where:  make setup PYTHON=/path/to/python' >&2; \
	exit 2

$(VENV)/.installed: pyproject.toml $(PINS) | $(BIN)/python
	@echo 'installing the pinned packages into $(VENV); a minute or two'
	@$(PIP) install -c $(PINS) torch
	@$(PIP) install -c $(PINS) uv || echo 'no uv here; pip takes longer'
	@$(call install,local$(comma)serve$(comma)sweep)
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo 'installing the dev tools'
	@$(call install,gcp$(comma)export$(comma)dev)
	@touch $@

$(VENV)/.model: conf/model/smollm2.yaml | $(VENV)/.installed
	@$(BIN)/python -m llmops models pull
	@touch $@

$(PEERS)/%/.installed: tests/peers/%.txt | $(VENV)/.dev
	@mkdir -p $(PEERS)
	@{ $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)/$* \
		&& $(BIN)/uv pip install --quiet --python $(PEERS)/$*/bin/python -r $< && touch $@; } \
		|| { rm -rf $(PEERS)/$*; echo "$* cannot be installed here: its tests are skipped"; }
