# SamTune: `make demo` shows it, `make test` tests it; each does all set-up on a bare Debian 12 (root or sudo).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
QGIS_PY := /usr/bin/python3
VERSION := $(shell sed -n 's/^version=//p' metadata.txt)
PURE_PLUGIN := adapter_files child engine_errors engine_process environment environment_builder environment_plan latest_request pending
# Extra arguments for pytest or the demo, for instance: make test-engine ARGS="-x -q"
ARGS ?=
# Which tests: make test-engine TESTS=tests/repo
TESTS ?= tests
QGIS_TESTS ?= tests/qgis

export SAMTUNE_ENGINE_PYTHON ?= $(CURDIR)/.venv/bin/python

.PHONY: help setup setup-system setup-engine demo test test-engine test-qgis lint format package bench run clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s'|'

setup: setup-system setup-engine ## Install QGIS (Debian) and make .venv; demo and test do this themselves

setup-system:
	@bash .ci/setup-debian

setup-engine: setup-system
	@bash .ci/setup-engine

demo: setup ## Click objects in a real QGIS with the sample imagery; results in build/demo
	@$(QGIS_PY) tests/qgis/run_in_qgis.py --code docs/demo/demo.py --visible auto --timeout 600 -- $(ARGS)

test: test-engine test-qgis ## All tests

# A process per core, and one thread in each: several would wait for each other.
test-engine: setup-engine ## Tests that do without QGIS
	@OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --dist loadfile $(TESTS) --ignore=tests/qgis $(ARGS)

test-qgis: setup ## Tests inside a real QGIS under a virtual X server
	@$(QGIS_PY) tests/qgis/run_in_qgis.py --timeout 3000 -- $(QGIS_TESTS) $(ARGS)

lint: setup-engine ## ruff, mypy and the plugin site's security scan
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@mkdir -p build/lint && ln -sfn "$(CURDIR)" build/lint/samtune
	@MYPYPATH=build/lint $(PY) -m mypy --config-file pyproject.toml -p samtune.engine -p samtune.models \
		$(PURE_PLUGIN:%=-m samtune.plugin.%)
	@$(PY) -m bandit -q -c pyproject.toml -r __init__.py engine models plugin ui
	@git ls-files -z | grep -zv '^tests/' | xargs -0 $(PY) -m detect_secrets.pre_commit_hook --baseline .secrets.baseline

format: setup-engine ## Put the code in ruff's format and apply its safe fixes
	@$(PY) -m ruff check --fix-only -q . || true
	@$(PY) -m ruff format .

package: ## Write the plugin zip of the current commit to dist/
	@bash .ci/package dist/samtune-$(VERSION).zip

bench: setup ## Measure clicks: see benchmarks/
	@$(QGIS_PY) tests/qgis/run_in_qgis.py --code benchmarks/click.py --timeout 900 -- $(ARGS)

run: setup ## QGIS with the plugin from this checkout, in a throw-away profile, with the sample project
	@$(QGIS_PY) tests/qgis/run_in_qgis.py --interactive docs/sample/sample.qgs $(ARGS)

clean: ## Remove what the targets above made
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
