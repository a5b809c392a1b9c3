# `make demo` shows the whole pipeline learn; `make test` checks everything.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CARGO_MANIFEST := tokenizer-rs/Cargo.toml
STAMPS := $(VENV)/.stamps

.PHONY: help demo test test-long lint format docs tools clean

help:
	@echo "make demo       install into $(VENV) and run the whole pipeline on this machine (10 minutes)"
	@echo "make test       install what the tests need and run them"
	@echo "make test-long  the long forms: many kills, fuzzing, all Unicode"
	@echo "make lint       ruff, mypy, rustfmt, clippy"
	@echo "make format     let ruff and rustfmt format the code"
	@echo "make docs       the generated pages, and the documentation as a site in build/site"

tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is missing or older than Python 3.11; install one and give its name: make PYTHON=python3.12"; exit 1; }
	@command -v cargo >/dev/null || { \
	  echo "error: cargo is missing, which builds the tokenizer; install Rust from https://rustup.rs or your package manager"; exit 1; }
	@command -v cc >/dev/null || { \
	  echo "error: a C compiler (cc) is missing, which Rust links with; install one, on Debian: apt-get install gcc"; exit 1; }

$(BIN)/python: | tools
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)

RUST_SOURCES := $(CARGO_MANIFEST) $(wildcard tokenizer-rs/src/*.rs tokenizer-rs/src/*/*.rs)
PYTHON_SOURCES := $(shell find aquachat -name '*.py' -o -name '*.toml' 2>/dev/null)

$(STAMPS)/demo: pyproject.toml $(RUST_SOURCES) $(PYTHON_SOURCES) | tools $(BIN)/python
	$(PIP) install --quiet .
	@touch $@
	@rm -f $(STAMPS)/test

$(STAMPS)/test: pyproject.toml $(RUST_SOURCES) | tools $(BIN)/python
	$(PIP) install --quiet --editable '.[dev,docs]'
	@touch $@
	@rm -f $(STAMPS)/demo

demo: $(STAMPS)/demo
	$(BIN)/aquachat run tiny

test: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-long: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "long or not long"

lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cargo fmt --manifest-path $(CARGO_MANIFEST) --check
	cargo clippy --manifest-path $(CARGO_MANIFEST) --all-targets --quiet -- -D warnings -W clippy::pedantic

format: $(STAMPS)/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cargo fmt --manifest-path $(CARGO_MANIFEST)

docs: $(STAMPS)/test
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_man.py
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) tokenizer-rs/target build dist *.egg-info aquachat/_tokenizer*.so
