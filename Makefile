# One command each, on a fresh clone: the environment is made on first use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# M-Fed, FedAvg within task groups, and local training on the same clients; then one table of all three.
demo: install
	for algorithm in local fedavg mfed; do \
		$(BIN)/mfed run experiments/quickstart.yaml algorithm="{name: $$algorithm}" || exit $$?; \
	done
	$(BIN)/mfed results runs/quickstart

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=loadgroup  # processes enough; threads would wait for each other

clean:
	rm -rf .venv runs data build *.egg-info
