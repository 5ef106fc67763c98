# Everything a newcomer needs: `make demo` and `make test`. Both set up their own environment first.
VENV ?= .venv
LOCK ?= cpu
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q --durations=20 --durations-min=1
# Unit tests in as many processes as there are cores. The others start processes on all cores themselves.
JOBS ?= 2
PARALLEL := -n $(JOBS) --dist loadfile
# `make test-long` in parts of about as long; a commit's own part is what CI adds to `make test`.
SHARDS := 12
SHARD ?= $(shell echo $$((0x$$(git rev-parse --short=6 HEAD 2>/dev/null || echo 0) % $(SHARDS))))
say = @printf '\n== %s\n' "$(1)"
tests_in = $(wildcard $(addsuffix /test_*.py,$(1)) $(addsuffix /*/test_*.py,$(1)))

.PHONY: help machine setup setup-dev demo test test-unit test-integration test-real test-long test-shard chaos deaths lint format docs lock clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each time, in a moment; the whole look at the machine comes before the environment is made.
machine:
	@requirements/setup.sh check

setup: machine $(VENV)/.project  ## Create .venv with the locked packages (LOCK=gpu for CUDA) and this project
	@echo "setup: $(VENV) is ready"
setup-dev: machine $(VENV)/.project $(VENV)/.dev

demo: setup  ## Fuse two teachers into a pruned 135M model on this machine, 5 to 20 minutes
	$(call say,preparing the quickstart's models: SmolLM2-135M-Instruct and a copy without 8 of its 30 layers)
	$(BIN)/bohdi prepare-quickstart
	$(call say,fusing: bohdi fuse jobs/configs/quickstart.yaml)
	$(BIN)/bohdi fuse jobs/configs/quickstart.yaml

test: setup-dev lint test-unit test-integration test-real  ## Lint, then all tests
	$(call say,all tests passed)

test-unit: setup-dev  ## Tests without Ray and torch
	$(call say,unit tests)
	$(PYTEST) $(PARALLEL) tests/unit

test-integration: setup-dev  ## Tests on a local Ray with scripted engines
	$(call say,integration tests: local Ray, scripted engines)
	$(PYTEST) tests/integration $(if $(call tests_in,tests/chaos),tests/chaos)

test-real: setup-dev  ## Tests with real vLLM and DeepSpeed on this machine
	$(call say,real tests: vLLM and DeepSpeed)
	$(PYTEST) tests/real $(if $(call tests_in,tests/gpu),tests/gpu)

chaos: setup-dev  ## A storm: 100 processes of a run are killed at random; last line: one JSON object
	$(call say,a storm over a run: jobs/bench/chaos.py)
	$(BIN)/python jobs/bench/chaos.py

test-long: setup-dev  ## The tests that take long, more than make test has time for
	$(call say,long tests)
	$(PYTEST) tests/integration tests/chaos -m long
	$(PYTEST) tests/real -m long

test-shard: setup-dev  ## One of 12 parts of test-long, chosen by the commit (or SHARD=0 to 11), about ten minutes
	$(call say,long tests: part $(SHARD) of $(SHARDS))
	$(PYTEST) tests/integration tests/chaos -m long --shard $(SHARD)/$(SHARDS)
	$(PYTEST) tests/real -m long --shard $(SHARD)/$(SHARDS)

deaths: setup-dev  ## Every death in every phase of a run, more than make test has time for
	$(call say,every death in every phase)
	$(PYTEST) tests/chaos -m "every_death or not every_death"

lint: setup-dev  ## ruff and mypy
	$(call say,lint: ruff and mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup-dev  ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## Write docs/configuration.md and docs/models.md from what they describe
	$(BIN)/python -m bohdi_ray.config.docs docs/configuration.md
	$(BIN)/python -m bohdi_ray.engines.families.docs docs/models.md

lock: setup  ## Resolve requirements/*.in anew and write the locks
	$(BIN)/python requirements/lock.py cpu gpu dev

clean:  ## Remove the environment and all caches (not runs/)
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps, so that a warm environment costs nothing.
$(VENV)/.python:
	@requirements/setup.sh venv $(VENV) $(LOCK)
	@touch $@

$(VENV)/.$(LOCK): requirements/$(LOCK).txt $(VENV)/.python
	@requirements/setup.sh packages $(VENV) $(LOCK)
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.$(LOCK)
	@echo "setup: installing bohdi_ray itself"
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.$(LOCK)
	@echo "setup: installing requirements/dev.txt"
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps -r requirements/dev.txt
	@touch $@
