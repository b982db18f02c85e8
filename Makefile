# Needs only make and Python 3.9 to 3.12; the first target creates .venv and installs into it.
PYTHON ?= python3
VENV ?= .venv
PADDLE ?= paddlepaddle>=2.6.2,<4
BIN = $(VENV)/bin

.PHONY: demo test parity lint clean

demo: $(VENV)/installed
	$(BIN)/python demo.py
	$(BIN)/python demo.py --config=21

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=20

# Compare the large networks with the numbers recorded from the original programs, which are skipped where ../shared lacks
# them, and all networks in all engines, exports and ways to train.
parity: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow tests/model tests/tools tests/test_train.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 9) <= sys.version_info < (3, 13) else "Python 3.9 to 3.12 is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet ".[cpu,test]" "$(PADDLE)"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info images/res
