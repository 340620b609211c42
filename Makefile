# `make help` lists what there is. Linux, Python 3.11 or newer; everything else goes into .venv.

PORT ?= 8080
BOOT_SECONDS ?= 5
LOAD_SECONDS ?= 5
IDLE_SECONDS ?= 60
ENGINE ?= builtin
FAULTS ?=
REHEARSAL_VLLM_VENV ?= $(CURDIR)/.cache/vllm-venv
# Processes that run the tests (0: a single one); many tests only wait for other processes.
WORKERS ?= $(shell nproc)

export PORT BOOT_SECONDS LOAD_SECONDS IDLE_SECONDS ENGINE FAULTS REHEARSAL_VLLM_VENV

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet
COMPILE_FLAGS := --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
# The engine on a GPU node: the machine image's Python. A newer vLLM may print other lines: see gpu_node/phases.py.
VLLM := 0.32.0
# What vLLM's extra `runai` asks for, without the clouds that it would bring besides.
STREAMER := runai-model-streamer[s3]>=0.15.7
NODE_FLAGS := $(COMPILE_FLAGS) --python-version 3.12 --python-platform x86_64-manylinux_2_39
# Only where there is npm: elsewhere what asks with OpenAI's client for Node, or signs in at a provider, is skipped, loudly.
NODE_CLIENT := $(if $(shell command -v npm),$(addsuffix /node_modules/.installed,tests/clients/node tests/people/provider))
# The web app is built where there is a Node that can; elsewhere a page that says so stands in for it.
NODE_20 := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null && command -v npm)
WEB := $(if $(NODE_20),web/dist/.built)
WEB_SOURCES := $(shell find web/src web/public -type f) $(addprefix web/,index.html vite.config.ts tsconfig.json package.json)
COMPILE := uv pip compile pyproject.toml --python-version 3.11 $(COMPILE_FLAGS)

.PHONY: help install web web-types run test test-vllm vllm check bench bench-image simulate soak lock
.DEFAULT_GOAL := help

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

install: $(VENV)/.deploy $(WEB) ## the packages of the Pulumi program and of the command line, into .venv; the web app

web: web/dist/.built ## the web app, into web/dist (Node 20.19 or newer, npm)

web-types: $(VENV)/.tests web/node_modules/.installed ## the web app's types of the API, after a route has changed
	$(PYTHON) -m tests.api.openapi > web/openapi.json
	npm run types --silent --prefix web

run: $(VENV)/.rehearsal $(WEB) $(if $(filter vllm,$(ENGINE)),$(REHEARSAL_VLLM_VENV)/.installed) ## everything on this machine, without AWS; see rehearsal/README.md
	@exec $(PYTHON) -m rehearsal

test: check .cache/botocore-current/.installed $(NODE_CLIENT) $(if $(REHEARSAL_VLLM_VENV),vllm) ## check, then all tests, in WORKERS processes
	$(if $(WEB),npm test --silent --prefix web)
	$(PYTHON) -m pytest -n $(WORKERS)

test-vllm: $(VENV)/.tests $(REHEARSAL_VLLM_VENV)/.installed ## the tests of the real vLLM alone
	$(PYTHON) -m pytest -m vllm

vllm: ## the real vLLM for the tests, once: 5 minutes, 2.5 GB; where it cannot be had its tests are skipped
	@$(MAKE) --no-print-directory $(REHEARSAL_VLLM_VENV)/.installed || \
	  echo "no real vLLM could be installed: its tests are skipped" >&2

check: $(VENV)/.tests $(WEB) ## format, lint, types, import contracts
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright
	$(VENV)/bin/lint-imports
	$(if $(WEB),npm run check --silent --prefix web)

bench: $(VENV)/.tests ## the relay's speed beside nginx, and the reaction of a cold model; LITELLM=1 adds LiteLLM
	$(PYTHON) -m tests.bench $(if $(LITELLM),--with-litellm)

bench-image: $(VENV)/.tests ## the image's size, and how soon it answers (Docker)
	$(PYTHON) -m tests.image.measure

simulate: $(VENV)/.tests ## sleep, wake and crashes in random schedules; SCHEDULES=100000, SEED=0
	$(PYTHON) -m tests.simulation --schedules $(or $(SCHEDULES),100000) --seed $(or $(SEED),0)

soak: $(VENV)/.tests ## 200 times asleep, awake, asleep on a desk, asked at every phase; CYCLES=200
	$(PYTHON) -m tests.soak --cycles $(or $(CYCLES),200)

lock: ## compile all requirements again (needs uv)
	$(COMPILE) --all-extras -o tests/requirements.txt
	$(COMPILE) -c tests/requirements.txt -o control_plane/requirements.txt
	$(COMPILE) --extra deploy -c tests/requirements.txt -o control_plane/requirements-deploy.txt
	$(COMPILE) --extra deploy --extra node --extra rehearsal -c tests/requirements.txt -o rehearsal/requirements.txt
	echo boto3 | uv pip compile - --python-version 3.11 $(COMPILE_FLAGS) -c tests/requirements.txt -o gpu_node/requirements.txt
	echo uv | uv pip compile - --python-version 3.11 $(COMPILE_FLAGS) -o gpu_node/requirements-installer.txt
	printf '%s\n' 'vllm==$(VLLM)' '$(STREAMER)' | uv pip compile - $(NODE_FLAGS) -o gpu_node/requirements-engine.txt

# The stamps: installed again only when the list changed. The tests' list holds all that the rehearsal's does.
$(VENV)/.deploy: control_plane/requirements-deploy.txt | $(PYTHON)
	$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.rehearsal: rehearsal/requirements.txt | $(PYTHON)
	$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.tests: tests/requirements.txt | $(PYTHON)
	$(PIP) install --require-hashes -r $<
	@touch $@ $(VENV)/.rehearsal

# Read by a test, never imported: what the newest botocore says of the one call that ours lacks.
.cache/botocore-current/.installed: tests/requirements-botocore.txt | $(PYTHON)
	$(PIP) install --no-deps --require-hashes --upgrade -r $< --target $(@D)
	@touch $@

tests/clients/node/node_modules/.installed tests/people/provider/node_modules/.installed: %/node_modules/.installed: %/package-lock.json %/package.json
	npm ci --silent --prefix $*
	@touch $@

web/node_modules/.installed: web/package-lock.json web/package.json
	npm ci --silent --prefix web
	@touch $@

web/dist/.built: web/node_modules/.installed $(WEB_SOURCES)
	npm run build --silent --prefix web -- --logLevel warn
	@touch $@

$(PYTHON):
	@for python in python3.11 python3 python; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; echo "Python 3.11 or newer is needed" >&2; exit 1

$(REHEARSAL_VLLM_VENV)/.installed: rehearsal/install_vllm.sh
	rehearsal/install_vllm.sh $(REHEARSAL_VLLM_VENV)
	@touch $@
