# `make demo` and `make test` are all that a newcomer needs; each installs what it uses into .venv first.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The newest supported Python that runs here and can make environments; PYTHON=python3.12 chooses another.
PYTHONS := 3.13 3.12 3.11
PYTHON ?= $(shell for v in $(PYTHONS); do python$$v -c 'import ensurepip, venv' 2>/dev/null && echo python$$v && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CHARTS := dash_app/static/plotly-finance.min.js

# The folders of tests/stacks; all of them unless some are given.
STACKS ?= chain faults hosts pictures ray
DEMO_OPTIONS := $(if $(ONCE),--once) $(if $(LIVE),--live) $(if $(DATA),--data "$$DATA")

.PHONY: help install demo down clean-stack browser nginx redis promtool test test-fast test-stacks test-durations data schemas bench-forecast foundation bench-daily lint types format bench-serving bench-orchestration soak bench-dashboard pictures reference-pictures openapi-examples wheel docs

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

install: $(INSTALLED) $(CHARTS) ## install everything into .venv

# TORCH=cpu takes that build of PyTorch from PyTorch's own index, and nothing else: an index that is added to the first one may
# offer any package. Without it pip takes the build that it is configured to find.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo "no Python of $(PYTHONS) with its venv module was found: install one, or name it with PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@test -z '$(TORCH)' || $(BIN)/pip install -q --no-deps --index-url https://download.pytorch.org/whl/$(TORCH) torch==2.13.0
	@echo "1/2 installing $$(grep -c == constraints.txt) packages into $(VENV): about three minutes"
	@set -o pipefail; PYTHONUNBUFFERED=1 $(BIN)/pip install --progress-bar off --constraint constraints.txt \
	  --editable '.[dev]' torch==2.13.0 | awk -f infra/install_progress.awk
	@echo "2/2 compiling them, so that services start faster: about one minute"
	@# A few packages contain files for other versions of Python, which do not compile.
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@
	@echo "installed"

# npm comes with the packages, in .venv
$(CHARTS): $(wildcard infra/npm/*.js*) | $(INSTALLED)
	@cd infra/npm && PATH="$$PWD/../../$(BIN):$$PATH" sh -c \
	  'npm ci --silent --ignore-scripts --no-audit --no-fund && npm run --silent build'
	@cp infra/npm/dist/* $(@D)/

demo: $(INSTALLED) $(CHARTS) ## train and serve three pairs; ONCE=1, LIVE=1, DATA=DIR
	$(BIN)/mkrich demo $(DEMO_OPTIONS)

down: ## stop the stack; its data stays
	$(BIN)/mkrich down

clean-stack: ## stop the stack and delete its data
	@if test -x $(BIN)/mkrich; then $(BIN)/mkrich down; fi
	rm -rf .stack

browser:
	@command -v chromium-headless-shell >/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -yq --no-install-recommends chromium-headless-shell; } >/dev/null || $(BIN)/playwright install --only-shell chromium

# RUNLEVEL=1: Debian does not start the servers
nginx:
	@command -v nginx >/dev/null || { sudo= ; test $$(id -u) = 0 || sudo="sudo -n"; $$sudo apt-get update -q && $$sudo env RUNLEVEL=1 apt-get install -yq --no-install-recommends nginx; } >/dev/null || { echo "install nginx: the tests of the reverse proxy run it" >&2; exit 1; }

redis:
	@command -v redis-server >/dev/null || { sudo= ; test $$(id -u) = 0 || sudo="sudo -n"; $$sudo apt-get update -q && $$sudo env RUNLEVEL=1 apt-get install -yq --no-install-recommends redis-server; } >/dev/null || { echo "install redis-server: the test of Airflow's CeleryExecutor runs it" >&2; exit 1; }

promtool:
	@{ command -v promtool && command -v prometheus-alertmanager; } >/dev/null || { sudo= ; test $$(id -u) = 0 || sudo="sudo -n"; $$sudo apt-get update -q && $$sudo env RUNLEVEL=1 apt-get install -yq --no-install-recommends prometheus prometheus-alertmanager; } >/dev/null || echo "without Debian's packages prometheus and prometheus-alertmanager, the tests of the alarms are skipped" >&2

# A process for each of two cores. tests/support/durations.py gives them the longest files first and keeps their budgets.
PYTEST := $(BIN)/pytest -n 2 --no-loadscope-reorder

test: $(INSTALLED) $(CHARTS) browser nginx promtool ## run the tests: every part, and one run of the whole stack
	$(PYTEST) --budgets $(addprefix tests/,browser contract dags e2e infra package serving unit)

test-fast: $(INSTALLED) $(CHARTS) ## run the unit tests but for the slow ones: under 90 seconds
	$(PYTEST) -m "not slow" tests/unit

test-stacks: $(INSTALLED) $(CHARTS) browser redis ## run the tests that break whole stacks and clusters; STACKS="chain faults hosts pictures ray"
	$(PYTEST) --budgets $(addprefix tests/stacks/,$(STACKS))

test-durations: $(INSTALLED) ## record what the last run of tests took, from which the next ones take order and budgets
	$(BIN)/python -m tests.support.durations

# Into the ignored folder data/, where `make bench-forecast` looks for candles too.
data: $(INSTALLED) ## download what tests need and the repository lacks: recorded candles, KubeRay's schemas
	$(BIN)/python -m tests.support.recorded_files
	$(MAKE) --no-print-directory schemas

SCHEMAS_URL := https://raw.githubusercontent.com/ray-project/kuberay/v1.7.0/ray-operator/config/crd/bases

schemas:
	@mkdir -p data/schemas/kuberay
	@cd data/schemas/kuberay && curl -fsSL --remote-name-all $(SCHEMAS_URL)/ray.io_{rayclusters,rayservices}.yaml
	@cd data/schemas/kuberay && sha256sum --check --quiet "$$OLDPWD/tests/kuberay.sha256" || { rm *.yaml; exit 1; }

docs: $(INSTALLED) ## build the documentation into site/
	$(BIN)/python -m infra.docs
	$(BIN)/zensical build --strict --clean

wheel: $(INSTALLED) $(CHARTS) ## build sdist and wheel into dist/ and check them in a clean environment
	$(BIN)/python -m build --no-isolation
	$(BIN)/pytest tests/package

# The benchmarks read CANDLES themselves, from the environment.
bench-forecast: $(INSTALLED) ## score the forecasts beside baselines, and write the figures of the docs; with CANDLES=DIR it only prints them
	$(BIN)/python -m benchmarks.forecast $(if $(CANDLES),,--store)
	$(BIN)/python -m benchmarks.forecast --cost

foundation: $(INSTALLED) ## make the foundation that ships with the package again; CANDLES=DIR
	$(BIN)/python -m benchmarks.foundation $(if $(CANDLES),--candles "$$CANDLES")

bench-daily: $(INSTALLED) ## the 2018 daily demonstration: its figures and pictures; DAILY=DIR
	$(BIN)/python -m examples.daily_ether

lint: $(INSTALLED) ## check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(INSTALLED) ## check types
	$(BIN)/mypy

bench-serving: $(INSTALLED) ## load, swap and kill the HTTP API; needs wrk
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.freshness
	$(BIN)/python -m benchmarks.call_cost

bench-dashboard: $(INSTALLED) $(CHARTS) browser ## first paint, pair switch, guessing of the dashboard
	$(BIN)/python -m benchmarks.dashboard

pictures: $(INSTALLED) $(CHARTS) browser ## the README's pictures, of the stack that runs here
	$(BIN)/python -m benchmarks.pictures

reference-pictures: $(INSTALLED) $(CHARTS) browser ## the pages' pictures, with which tests compare them
	rm -f tests/browser/pictures/*.png
	MUR_RENEW_PICTURES=1 $(BIN)/pytest tests/browser/test_pictures.py tests/stacks/pictures tests/browser/test_first_call.py

openapi-examples: $(INSTALLED) ## the API's answers that OpenAPI and /docs show, recorded again
	MUR_RENEW_EXAMPLES=1 $(BIN)/pytest tests/contract/test_openapi_examples.py

soak: $(INSTALLED) ## the whole stack under load for MINUTES (360), with graphs in soak/
	$(BIN)/python -m benchmarks.soak $(if $(MINUTES),--minutes "$$MINUTES")

bench-orchestration: $(INSTALLED) ## what Airflow and Ray cost beyond the training
	$(BIN)/python -m benchmarks.orchestration

format: $(INSTALLED) ## mend style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
