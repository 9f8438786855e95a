# Everything a reader, an analyst or CI does. `make help` lists it.
# Each target prepares .venv by itself, again whenever pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := $(VENV)/.installed-bench
RUNS := $(or $(RECSYS_RUNS),runs)
TOO_OLD := $(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12

# OpenMP's waiting threads soon sleep: on an idle machine the same speed, beside one busy process on
# two cores a training is 1.7 times as fast, beside three 2.8 times.
export GOMP_SPINCOUNT := $(or $(GOMP_SPINCOUNT),1000)

.DEFAULT_GOAL := help
.PHONY: help run test lab data bench lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 \
		&& $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(TOO_OLD)" >&2; exit 1; }
	@echo "preparing $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make $(VENV): on Debian or Ubuntu install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@

run: $(STAMP)  ## run the notebooks in order [NOTEBOOKS="03 04" PROFILE=full SEED=1 DATASET=my.csv ARGS="-p text_column review"]
	@$(BIN)/python -m recsys_lib run $(NOTEBOOKS) \
		$(if $(PROFILE),-p profile '$(PROFILE)') \
		$(if $(DATASET),-p dataset '$(DATASET)') \
		$(if $(SEED),-p seed '$(SEED)') $(ARGS)

test: lint  ## check everything: style, unit tests, every notebook [ARGS="-k losses"]
	@$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

lab: $(STAMP)  ## open the workbook in JupyterLab
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

data: $(STAMP)  ## fetch the real data sets into runs/data and verify them [NAMES=clothing]
	@$(BIN)/python -m recsys_lib data get $(NAMES)

$(BENCH): $(STAMP)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,bench]'
	@touch $@

bench: $(BENCH)  ## measure speeds against the obvious alternatives, side by side
	@$(BIN)/python -m tests.bench

lint: $(STAMP)  ## check style and formatting, notebooks too
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

clean:  ## remove what runs made; downloaded data and .venv stay
	@rm -rf "$(RUNS)/artifacts" "$(RUNS)/executed" "$(RUNS)/results" "$(RUNS)/logs"
	@rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
	@find recsys_lib tests -name __pycache__ -type d -prune -exec rm -rf {} +
