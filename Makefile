# Needs python3 (3.11 or newer), make and git; `install` says what else it installs. `make` lists the targets.
PYTHON ?= python3
# Where the demo runs the product.
TARGET ?= local
BIN := .venv/bin
# A given broker is one virtual host, so one worker has it to itself.
WORKERS := $(if $(RABBITMQ_URL),1,2)
# A player of web pages, for `test-browser` only; fetched into a folder that git ignores.
HLS_JS := hls.js@1.7.4
HLS_JS_FILE := .scratch/browser/node_modules/hls.js/dist/hls.min.js
# A contestant of `bench-hls-faults` only, in an environment of its own.
STREAMLINK := streamlink==8.6.3
SERVICES := gateway ingest analyzer selector clipper notifier
# uv settings of this machine must not leak into the locks: only PyPI itself is read.
UV := env -u UV_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_DEFAULT_INDEX -u UV_FIND_LINKS $(BIN)/uv --no-config
COMPILE := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help install system demo test test-faults test-compose test-browser browser-programs bench-hls-faults bench-ingest check lint types contracts format openapi lock clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done

install: system .venv/.installed ## System packages (said first), .venv, and the locked Python packages

system:
	@PYTHONPATH=libs PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m localcluster.install

.venv/.installed: requirements/dev.txt Makefile | system
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -c "import pathlib, sysconfig; here = pathlib.Path.cwd(); \
	pathlib.Path(sysconfig.get_path('purelib'), 'tldr.pth').write_text(f'{here}/services\n{here}/libs\n')"
	@touch $@

demo: install ## Run everything on a demo stream (TARGET=local|compose, DEMO_MEDIA, DEMO_SPEED, DEMO_SECONDS, DEMO_REPORT, DEMO_EXIT, GEMINI=double)
	DEMO_TARGET=$(TARGET) $(BIN)/python -m sandbox.demo

test: install check ## All checks, then all tests but those of faults, Compose and browsers
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup tests -m "not faults and not compose and not browser"

test-faults: install ## Kill, freeze and wipe things while streams run (minutes)
	$(BIN)/pytest -n $(WORKERS) tests -m faults

test-compose: install ## Run the Docker Compose cluster for real: demo, crashes, restarts, replicas (minutes)
	$(BIN)/pytest tests/compose -m compose

test-browser: install $(HLS_JS_FILE) ## Play highlights with hls.js in Chromium, and open the pages of the API
	$(BIN)/pytest tests/browser -m browser

browser-programs:
	@PYTHONPATH=libs PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m localcluster.install browser

$(HLS_JS_FILE): Makefile | browser-programs
	@mkdir -p .scratch/browser
	npm install --silent --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --prefix .scratch/browser $(HLS_JS)
	@touch $@

bench-hls-faults: install | .scratch/streamlink/bin/streamlink ## Live HLS gone wrong: our ingest, FFmpeg and streamlink beside one another
	STREAMLINK=.scratch/streamlink/bin/streamlink $(BIN)/python bench/hls_faults.py

.scratch/streamlink/bin/streamlink: | system
	-$(PYTHON) -m venv .scratch/streamlink && .scratch/streamlink/bin/python -m pip install --quiet $(STREAMLINK)

bench-ingest: install ## What following live streams costs, beside FFmpeg, streamlink and a minimal loop (5 minutes)
	PYTHONDONTWRITEBYTECODE=1 TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo /tmp) $(BIN)/python bench/ingest_live.py $(BENCH)

check: lint types contracts ## Lint, types and import contracts

lint: install ## Ruff, and whether the format is right
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy, strict
	$(BIN)/mypy services libs

contracts: install ## Who may import whom
	$(BIN)/lint-imports

format: install ## Rewrite the code in our format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: install ## Write the OpenAPI and AsyncAPI documents anew
	$(BIN)/python -m localcluster.documents

lock: install ## Write requirements/*.txt from pyproject.toml (UPGRADE=1: with the newest versions)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group dev --output-file requirements/dev.txt
	@for group in $(SERVICES); do echo "requirements/$$group.txt"; \
	$(COMPILE) --group $$group --constraints requirements/dev.txt --output-file requirements/$$group.txt || exit 1; done
	@! grep -nE '://|^ *-(i|f)|--(extra-)?index|--find-links| @ |file:' requirements/*.txt

clean: ## Remove the environment and all caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .scratch
	find services libs tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
