# Two commands on a fresh clone: `make demo` and `make test`. Both make .venv first, and say what is missing.
#
#   PYTHON=python3.12   the interpreter .venv is made with (default: the first found, 3.11 or newer)
#   ARGS="-k etag"      added to the command that is run
#   WORKERS=0           processes that run the tests (default: two more than cores, at most 8); 0: no further process
#   BENCHMARKS=benchmarks/serving.py    only these are run by make bench

PYTHON ?=
ARGS ?=
BIN := .venv/bin
# Two more than cores: many tests wait for a process or a clock.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 7 ? cores + 2 : 8)))
PARALLEL = -n $(WORKERS)
# Those that run by themselves: peers is started by serving, regression is make bench-check.
BENCHMARKS = $(filter-out %/peers.py %/regression.py,$(shell grep -ls '^if __name__ == "__main__":' benchmarks/*.py))

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help venv venv-demo demo test slow compiled proof bench bench-check bench-baseline lint format types docs wheel versions clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

venv: ## make .venv with all that tests and checks need (up to date: takes no time)
	@tools/venv --for dev "$(PYTHON)"

venv-demo:
	@tools/venv --for demo "$(PYTHON)"

demo: venv-demo ## precompute a stock screener, serve it, kill its app, take its database away, show what answers
	@$(BIN)/hotpath demo $(ARGS)

test: venv compiled ## run the tests, without the slow ones
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Exit status 5: no test was selected, as ARGS may have it.
slow: venv compiled ## run the slow tests: in parallel, then one by one those that need the machine to themselves
	@$(BIN)/python -m pytest -m "slow and not serial" $(PARALLEL) $(ARGS); parallel=$$?; \
	$(BIN)/python -m pytest -m "slow and serial" $(ARGS); serial=$$?; \
	for status in $$parallel $$serial; do [ $$status -eq 0 ] || [ $$status -eq 5 ] || exit $$status; done

# Tests start hundreds of processes; where PYTHONDONTWRITEBYTECODE is set, each of them would compile all modules, and
# pytest would rewrite the assertions of all tests in every worker.
test slow compiled proof: export PYTHONDONTWRITEBYTECODE :=
compiled:
	@$(BIN)/python -m compileall -q src examples

proof: venv compiled ## make the outage of 30 days happen, and measure it: 31 minutes; ARGS=--short for half a one
	@$(BIN)/python -m tools.proof $(ARGS)

bench: venv ## run every benchmark
	@[ -n "$(BENCHMARKS)" ] || echo "no benchmarks"
	@for name in $(subst /,.,$(BENCHMARKS:.py=)); do echo "$$name"; $(BIN)/python -m "$$name" $(ARGS) || exit 1; done

bench-check: venv ## compare the request path with the stored ratios; fails when it is slower
	@$(BIN)/python -m benchmarks.regression $(ARGS)

bench-baseline: venv ## measure the ratios anew and store them; on a quiet machine only
	@$(BIN)/python -m benchmarks.regression --update $(ARGS)

lint: venv ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not in ruff's format (above); make format fixes it"; exit 1; }
	@echo "ruff: no complaints"

format: venv ## let ruff fix what it can
	@$(BIN)/ruff check --quiet --fix .; $(BIN)/ruff format --quiet .

types: venv ## mypy, strict
	@$(BIN)/mypy src tests examples $(wildcard benchmarks/*.py)

docs: venv ## build the documentation into build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "docs: build/site/index.html"

wheel: venv ## build the wheel, install it, and run tests of it with src out of reach
	@tools/try_wheel $(ARGS)

versions: venv ## run the tests with every other supported Python on this machine
	@tools/try_versions $(PARALLEL) $(ARGS)

clean: ## remove everything that make has made, .venv too
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
