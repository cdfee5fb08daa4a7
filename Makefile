# Everything starts here. A machine with Python 3.11 or newer (with its venv module), make and git is enough:
#
#     make demo    create the environment, install, and list the largest files in this repository's history
#     make test    create the environment, install the test extra, and run the whole suite
#     make check   the same without the tests that are marked slow: an answer in half a minute
#     make lint    style, format and types
#     make bench   ratios to go-pipe (where there is Go), bash, subprocess by hand, plumbum, sh and shellous;
#                  `make bench PYTHON=python3` measures with that interpreter
#     make soak    20,000 short pipelines from 50 and 200 threads, 5 % of them faulty; fails where anything grows;
#                  then 2,000 random graphs, as they are, cut short, and with failing calls
#     make clean   remove the environment and all caches
#
# Each install is editable, so a change of the source needs none. The files `.venv/.made` and `.venv/.with-*` say
# what has been done; it is done again only when pyproject.toml changes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check lint bench soak clean public-names

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The first interpreter that is new enough and can make environments; `make PYTHON=... demo` chooses another.
# Looked for only when the environment is made.
CANDIDATES := python3.11 python3 python3.12 python3.13 python3.14
PYTHON = $(shell for python in $(CANDIDATES); do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

help:
	@sed -n 's/^#     make/make/p' Makefile

demo: $(VENV)/.with-cli
	@$(BIN)/python -m penstock.examples.git_sizes .

# The suite starts hundreds of interpreters. What they compile is kept in the environment, out of the sources,
# also where the caller has told Python to write none.
test check: export PYTHONDONTWRITEBYTECODE :=
test check: export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
test: $(VENV)/.with-test
	$(BIN)/python -m pytest -n 3 $(if $(CI),--durations=25)

check: $(VENV)/.with-test
	$(BIN)/python -m pytest -n 3 -m "not slow"

# tests/api/public_names.txt, which the suite compares with the package, after a change of the public API.
public-names: $(VENV)/.with-test
	$(BIN)/python -m tests.api.public_names

lint: $(VENV)/.with-test $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright

# Another build of Python has an environment of its own: a ratio depends on how the interpreter was compiled. Debian's has
# no `ensurepip`, and then the `virtualenv` of the bench extra makes it.
ifeq ($(origin PYTHON),command line)
bench: $(VENV)/.with-bench
	@test -e $(VENV)-$(notdir $(PYTHON))/bin/python || $(BIN)/python -m virtualenv --quiet --python $(PYTHON) $(VENV)-$(notdir $(PYTHON))
	@$(VENV)-$(notdir $(PYTHON))/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[bench]'
	$(VENV)-$(notdir $(PYTHON))/bin/python -m benchmarks
else
bench: $(VENV)/.with-bench
	$(BIN)/python -m benchmarks
endif

soak: $(VENV)/.made
	@test -e $(VENV)/.with-test || $(PIP) install --editable .
	$(BIN)/python -m benchmarks.soak
	@test -e $(VENV)/.with-test || $(MAKE) $(VENV)/.with-test
	PENSTOCK_RANDOM_GRAPHS=2000 $(BIN)/python -m pytest -q -n 2 tests/robustness/test_random_graphs.py

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# `.venv/.with-NAME`: the package itself, editable, with the extra NAME of pyproject.toml.
$(VENV)/.with-%: $(VENV)/.made pyproject.toml
	@echo "installing .[$*] into $(VENV)"
	@$(PIP) install --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@python="$(PYTHON)"; test -n "$$python" || { \
		echo "no Python 3.11 or newer with the venv module; looked for: $(CANDIDATES)" >&2; exit 1; }; \
	echo "creating $(VENV) with $$($$python --version)"; $$python -m venv $(VENV)
	@touch $@
