# make demo    register a generated lung pair; everything it leaves is in demo/
# make test    lint and all tests
# make bench   whole commands against greedy and ANTs, on every pair of shared/data
# make bench-engine    the engine alone against ANTs and elastix, with goals, on the phantom, shapes, lung and brain
# make lint    ruff
# make experiment-2d    triangles and circles: train from nothing, print Dice and folds

PYTHON ?= python3
VENV := .venv
# Where pip also looks for torch: name the CPU builds' index here to spare the much larger default download on Linux.
TORCH_INDEX ?=
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
TORCH_FLAGS := -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test bench bench-engine lint experiment-2d clean

demo: $(VENV)/.installed
	$(VENV)/bin/nephi demo --output demo

test: $(VENV)/.installed lint
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check NePhiRegistration Testing benchmarks

bench: $(VENV)/.installed-bench
	$(VENV)/bin/python benchmarks/everything.py $(BENCH)

bench-engine: $(VENV)/.installed-bench
	$(VENV)/bin/python benchmarks/run.py $(BENCH)

experiment-2d: $(VENV)/.installed
	$(VENV)/bin/torchrun --standalone --nproc-per-node 2 benchmarks/experiment_2d.py experiment-2d --picture experiment-2d/interpolation.png

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH_FLAGS) torch
	$(PIP) install --quiet -c constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt --editable '.[test,bench]'
	touch $@

clean:
	rm -rf $(VENV) demo experiment-2d build *.egg-info
