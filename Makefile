# `make up` runs the product, `make test` runs its tests.
# Both first create the environment that they need.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
DATA ?= var
WORKERS ?= 1
JOBS ?= 2
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The tests must cover 90 % of these packages, apart from the files that compute with torch.
COVERED := memo/*,jobs/*,worker/*
ENGINE_WITH_TORCH := adapters compiled decoder denoiser device latent_preview latents samplers step_loop text_encoder upscaler
WITH_TORCH := $(ENGINE_WITH_TORCH:%=worker/engine/%.py) worker/painters/conditioning.py worker/painters/diffusion.py \
	worker/painters/families.py worker/painters/pipelines.py worker/stickers/sheet.py
EMPTY :=
COMMA := ,

.PHONY: help up test lint unit install install-dev redis chromium bench clean

help:
	@echo "make up      run memoAIzed on http://127.0.0.1:$(PORT)  (PORT=8123 DATA=folder WORKERS=2)"
	@echo "make test    run all checks and tests"
	@echo "make bench   run the benchmarks"

up: install redis
	@exec $(BIN)/memoaized up --port $(PORT) --data $(DATA) --workers $(WORKERS)

test: install-dev redis chromium lint unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit:
	$(BIN)/memoaized prepare
	$(BIN)/coverage erase
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --durations 10 --cov --cov-report=
	$(BIN)/coverage report --include='$(COVERED)' --omit='$(subst $(EMPTY) $(EMPTY),$(COMMA),$(strip $(WITH_TORCH)))' --fail-under=90 --skip-covered

bench: install-dev redis
	@for bench in bench/[a-z]*.py; do $(BIN)/python -m $$(echo $${bench%.py} | tr / .) || exit 1; done

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old ($$($(PYTHON) --version)): Python 3.11 or newer is needed, e.g. make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "cannot create $(VENV); on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the dependencies (once; torch is the largest)"
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) -e '.[gpu,s3]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[gpu,s3,train,dev]'
	@touch $@

# Only the server's binary is needed: memoAIzed starts its own Redis, with its own socket and data.
redis:
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || [ -n "$$REDIS_SERVER" ] \
	  || sh deploy/system-package.sh redis-server

chromium:
	@command -v chromium >/dev/null || sh deploy/system-package.sh chromium

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage
