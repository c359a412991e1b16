# Both targets do all their set-up: virtual environment, installation, data.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= fleetfront-data
# What `make check` compares with: SINCE=main for a whole branch.
SINCE ?= HEAD
# Hundreds of processes of the tests load the same modules: none compiles them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check lint reproduce benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/fleetfront run examples/lenet5_mnist.toml --dir $(DEMO_DIR)

# Three processes on two cores: a sixth of the time all that a test does is wait for a child.
test: $(VENV)/.installed lint $(VENV)/.python36
	$(BIN)/python -m pytest tests --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed lint
	$(BIN)/python -m tests.reached $(SINCE) | xargs $(BIN)/python -m pytest --numprocesses 2 \
		--dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin -q -t=3.6- --eval-annotations --violations agents

# A real Python 3.6 for the agents: $(PYTHON36), or pyenv's; the tests say so when there is none.
$(VENV)/.python36: $(VENV)/.installed
	sh tests/python36.sh $(VENV)/python36
	touch $@

reproduce: $(VENV)/.installed
	$(BIN)/python -m benchmarks.demo --seeds 0 1 2
	$(BIN)/python -m benchmarks.full
	$(BIN)/python -m benchmarks.each_strategy
	$(BIN)/python -m benchmarks.kill
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.agent
	$(BIN)/python -m benchmarks.measurement
	$(BIN)/python -m benchmarks.tx2_files
	$(BIN)/python -m benchmarks.python36
	$(BIN)/python -m benchmarks.chaos
	$(BIN)/python -m benchmarks.own_task
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.time_to_volume
	$(BIN)/python -m benchmarks.ablation

benchmark: $(VENV)/.installed
	$(BIN)/python -m benchmarks.demo

clean:
	rm -rf $(VENV) build dist *.egg-info
