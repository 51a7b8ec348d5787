# make reproduce runs the notebooks and builds the pages; make test proves that everything works.
PYTHON ?= python3
# Results differ in the last digits between thread counts, so what is compared runs on one.
test unit quick nbval verify notebooks: export OMP_NUM_THREADS = 1
# glibc would return large arrays to the system and fetch them anew page by page; networks run faster if it keeps them.
export MALLOC_MMAP_THRESHOLD_ = 33554432
export MALLOC_TRIM_THRESHOLD_ = 536870912
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(BIN)/python

.PHONY: reproduce test verify lab pages lint lock notebooks unit quick nbval
.DEFAULT_GOAL := reproduce

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "This needs Python 3.11, 3.12 or 3.13: name one with make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --no-deps --requirement requirements.lock
	$(RUN) -m pip install --quiet --no-deps --editable .
	@touch $@

reproduce: .venv/installed          ## run the notebooks and build the pages
	$(RUN) -m wsol_utils reproduce

test: unit nbval                    ## unit tests, then every notebook twice in the quick profile

unit: .venv/installed
	$(RUN) -m pytest -q -n 2 --ignore=tests/notebooks

QUICK := build/quick-test
quick: .venv/installed              # once through papermill ...
	rm -rf $(QUICK) && $(RUN) -m tests.notebooks.insert_checks $(QUICK)/notebooks
	WSOL_OFFLINE=1 WSOL_NOTEBOOKS=$(QUICK)/notebooks WSOL_OUTPUT=$(QUICK) WSOL_STORE=$(QUICK)/store-1 $(RUN) -m wsol_utils reproduce --profile quick --no-pages

nbval: quick                        # ... and once more from an empty store, comparing what is printed
	WSOL_OFFLINE=1 WSOL_OUTPUT=$(QUICK)/second WSOL_STORE=$(QUICK)/store-2 WSOL_NBVAL=repeat \
		$(RUN) -m pytest -q -n 2 --dist loadfile -p tests.nbval_options --nbval --nbval-current-env --nbval-kernel-startup-timeout 180 $(QUICK)/quick

verify: .venv/installed             ## the committed notebooks are whole and still print what they show
	$(RUN) -m pytest -q tests/notebooks
	WSOL_OUTPUT=build/verify WSOL_NBVAL=committed \
		$(RUN) -m pytest -q -n 2 --dist loadfile -p tests.nbval_options --nbval --nbval-current-env --nbval-kernel-startup-timeout 180 notebooks

lab: .venv/installed                ## open the notebooks
	$(RUN) -m jupyterlab notebooks

pages: .venv/installed              ## build the pages from the notebooks executed last
	$(RUN) -m wsol_utils pages

lint: .venv/installed               ## ruff on package, tests and notebooks; the house's one direction of import
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(BIN)/lint-imports

lock: .venv/installed               ## renew requirements.lock from pyproject.toml
	$(RUN) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --upgrade -o requirements.lock

notebooks: .venv/installed          ## re-execute the committed notebooks (contributors, before a commit)
	$(RUN) -m wsol_utils execute
