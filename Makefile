# `make demo` and `make test` do everything on a machine that has Python 3.9 to 3.12 and nothing else.
PYTHON ?= python3
VENV ?= .venv
PADDLE ?= paddlepaddle>=2.6.2,<4
BIN = $(VENV)/bin

.PHONY: demo test parity lint clean

demo: $(VENV)/installed
	$(BIN)/python demo.py

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=20

# The large networks against the numbers of the original programs, where those are in ../shared.
parity: $(VENV)/installed
	$(BIN)/python -m pytest -m slow tests/model tests/tools/test_engine_parity.py

lint: $(VENV)/installed
	$(BIN)/ruff check .

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 9) <= sys.version_info < (3, 13) else "Python 3.9 to 3.12 is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet ".[cpu,test]" "$(PADDLE)"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info images/res
