# Everything CI runs, a person runs: these targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK    = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
          --custom-compile-command "make lock" pyproject.toml

.PHONY: lock
lock: $(VENV)/dev  ## compile every requirements file from pyproject.toml
	$(LOCK) -o requirements.txt
	$(LOCK) --extra sandbox -c requirements.txt -o requirements-sandbox.txt
	$(LOCK) --extra sandbox --extra dev -c requirements-sandbox.txt -o requirements-dev.txt
	$(LOCK) --extra sandbox --extra bench -c requirements-sandbox.txt -o requirements-bench.txt
