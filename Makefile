# One environment in .venv, made with plain venv and pip; every target installs what it needs, once.
SHELL   := /bin/bash
PYTHON  ?= python3
VENV    ?= .venv
SCALE   ?= demo
DATASET ?= shapes10
ARGS    ?=
BIN     := $(VENV)/bin

# Notebooks opened by hand and notebooks run by a command share one outputs folder.
export RTALIB_OUTPUTS ?= $(CURDIR)/outputs

.PHONY: help reproduce test check lab book lint clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce [SCALE=demo] [DATASET=shapes10] [ARGS=...]   run the notebooks, write the report"
	@echo "make lab                                                    open the notebooks in JupyterLab"
	@echo "make book                                                   build a site of the notebooks in build/book"
	@echo "make test [ARGS='-k name']                                  run the tests"
	@echo "make check                                                  run the quick tests beside what differs from main: about a minute"
	@echo "make lint                                                   check style"
	@echo "make clean                                                  remove environment and caches; outputs/ is kept"

reproduce: $(VENV)/.installed-notebooks
	$(BIN)/python -m rtalib reproduce --scale "$(SCALE)" --dataset "$(DATASET)" $(ARGS)

lab: $(VENV)/.installed-notebooks-lab
	$(BIN)/jupyter lab workspaces import docs/lab/layout.json > /dev/null
	$(BIN)/jupyter lab --config=docs/lab/jupyter_lab_config.py $(ARGS)

book: $(VENV)/.installed-notebooks-book
	$(BIN)/python docs/book/build.py $(ARGS)

test: $(VENV)/.installed-notebooks-book-lab-test-peers-networks-real-browser-ray $(VENV)/.debian
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.installed-notebooks-book-lab-test-peers-networks-real-browser-ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $$($(BIN)/python tests/helpers/changed.py) $(ARGS)

lint: $(VENV)/.installed-notebooks-book-lab-test-peers-networks-real-browser-ray
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache *.egg-info
	find rtalib tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

# The file is written only when everything before it succeeded, so a failed or interrupted installation is repeated.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("rtalib needs Python 3.11 or newer, $(PYTHON) is %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# .installed-a-b holds the extras a and b; a change of pyproject.toml installs again.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[$(subst -,$(comma),$*)]"
	@touch $@

# ImageMagick's library is a peer of one test file, Chromium opens the notebooks and the report; where they cannot be had (no root, no apt)
# their tests are skipped.
$(VENV)/.debian: | $(VENV)/.created
	@missing="$$(ldconfig -p | grep -q libMagickWand || echo libmagickwand-6.q16-6) $$(command -v chromium > /dev/null || echo chromium)"; \
	[ "$$missing" = " " ] || apt-get install -qy $$missing || (apt-get update -q && apt-get install -qy $$missing) \
	    || echo "could not be installed, their tests will be skipped:$$missing"
	@touch $@

comma := ,
