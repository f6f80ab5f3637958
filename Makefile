# Everything from a fresh clone needs only Python ≥ 3.11, git and make:
#   make train    set up if needed, then the main job on embedded data
#   make test     set up if needed, then the tests
# Another interpreter: make train PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train test test-slow test-faults test-cluster check format setup gallery benchmark clean

train: $(READY)
	@$(BIN)/python train.py

test: $(READY)
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(READY)
	@$(BIN)/python -m pytest -m slow

# Crashes, full disks, damage, hundreds of times over; prints how many were survived.
test-faults: $(READY)
	@$(BIN)/python -m pytest -m "faults or hostile"

# SLURM with two nodes and PostgreSQL, started on this machine by scripts/cluster: as root on Debian.
test-cluster: $(READY)
	@$(BIN)/python -m pytest -m cluster -v -rs

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

setup: $(READY)

# Made anew when the dependencies change. Without constraints: make setup CONSTRAINTS=
CONSTRAINTS ?= -c constraints.txt
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: MLP Lab needs Python >= 3.11, this is " + sys.version.split()[0] + "; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (once; PyTorch is large) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e ".[dev,launchers]"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# The pictures of the README, made anew.
gallery: $(READY)
	@$(BIN)/python scripts/gallery.py

benchmark: $(READY)
	@$(BIN)/python scripts/benchmark
