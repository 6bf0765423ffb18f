# Two commands on a fresh clone: `make demo` and `make test`. Both make .venv first, and say what is missing.
#
#   PYTHON=python3.12   the interpreter .venv is made with (default: the first found, 3.11 or newer)
#   ARGS="-k etag"      added to the command that is run
#   BENCHMARKS=benchmarks/serving.py    only these are run by make bench

PYTHON ?=
ARGS ?=
BIN := .venv/bin
# Those that can be run by themselves: serving starts peers, regression compares with what was measured before.
BENCHMARKS = $(filter-out %/peers.py %/regression.py,$(shell grep -ls '^if __name__ == "__main__":' benchmarks/*.py))

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help venv demo test slow compiled bench lint format types docs wheel versions clean

help: ## say what can be made
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

venv: ## make .venv and install what is needed (nothing to do: no time spent)
	@tools/venv "$(PYTHON)"

demo: venv ## precompute a stock screener, serve it, break its backend, show what still answers
	@$(BIN)/hotpath demo $(ARGS)

test: venv compiled ## run the tests, without the slow ones
	@$(BIN)/python -m pytest $(ARGS)

slow: venv compiled ## run the slow tests only
	@$(BIN)/python -m pytest -m slow $(ARGS) || { status=$$?; [ $$status -eq 5 ] && echo "no slow tests" || exit $$status; }

# Tests start hundreds of processes; where PYTHONDONTWRITEBYTECODE is set, each of them would compile all modules.
compiled:
	@$(BIN)/python -m compileall -q src examples

bench: venv ## run every benchmark
	@[ -n "$(BENCHMARKS)" ] || echo "no benchmarks"
	@for name in $(subst /,.,$(BENCHMARKS:.py=)); do echo "$$name"; $(BIN)/python -m "$$name" $(ARGS) || exit 1; done

lint: venv ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not in ruff's format (above); make format mends it"; exit 1; }
	@echo "ruff: no complaints"

format: venv ## let ruff mend what it can
	@$(BIN)/ruff check --quiet --fix .; $(BIN)/ruff format --quiet .

types: venv ## mypy, strict
	@$(BIN)/mypy src tests examples $(wildcard benchmarks/*.py)

docs: venv ## build the documentation into build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "docs: build/site/index.html"

wheel: venv ## build and install the wheel, run tests of it with src out of reach
	@tools/try_wheel $(ARGS)

versions: venv ## run the tests with each other supported Python that is here
	@tools/try_versions $(ARGS)

clean: ## remove all that make made, .venv too
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
