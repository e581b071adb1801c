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

# Local training, FedAvg within tasks, and M-Fed on the same clients; then one table and one page of all three.
demo: install
	$(BIN)/mfed run experiments/textures.yaml algorithm='{name: local}'
	$(BIN)/mfed run experiments/textures.yaml algorithm='{name: fedavg}'
	$(BIN)/mfed run experiments/textures.yaml
	$(BIN)/mfed results runs/textures
	$(BIN)/mfed report runs/textures -o runs/textures.html

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=worksteal  # processes enough; threads would wait for each other

clean:
	rm -rf .venv runs data build *.egg-info
