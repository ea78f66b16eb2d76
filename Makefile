# The book's commands. Each makes .venv by itself when requirements.txt or pyproject.toml changed.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PEERS = .peers
TEACHERS = .teachers
COURSE = classroom
PYTEST = $(BIN)/python -m pytest
NOTEBOOKS = --nbval-lax --nbval-sanitize-with=tests/notebooks/nbval_sanitize.cfg

.PHONY: help book test lab execute exercises classroom archive seeds bench clean

help:
	@echo "make book      build the site into _build/html"
	@echo "make test      build the site and run every test"
	@echo "make lab       open the chapters in JupyterLab"
	@echo "make execute   run every chapter and store its outputs (CHAPTER=slug: only one)"
	@echo "make exercises renew the students' notebooks in exercises/ from their sources in book/exercises/"
	@echo "make classroom write a course folder for nbgrader (COURSE=folder: another than classroom/)"
	@echo "make archive   pack the built site, the notebooks and the list of wheels for a class without internet"
	@echo "make seeds     run every chapter's claims with other random seeds and other kernels, and say how far each is from flipping"
	@echo "make bench     measure the library against others and write book/benchmarks.md (ONLY=mlp: some, QUICK=1: small)"
	@echo "make clean     remove what was built, the environment included"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Descent needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Try make PYTHON=python3.12")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)

book: $(READY)
	$(BIN)/jupyter-book build -W -n --keep-going --quiet .
	@echo "The book is built. Open $(CURDIR)/_build/html/index.html"

test: $(READY) $(TEACHERS)/.ready
	$(BIN)/python tools/browser.py
	$(BIN)/jupyter-book build -W -n --keep-going --quiet .
	DESCENT_PROGRESS=off $(BIN)/python tools/seeds.py --rotate 1
	OMP_NUM_THREADS=1 DESCENT_CACHE=off DESCENT_PROGRESS=off $(PYTEST) $(NOTEBOOKS) tests chapters book/parts -n 2 --dist loadfile

lab: $(READY)
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/chapters

execute: $(READY)
	$(BIN)/python tools/execute.py $(CHAPTER)

exercises: $(READY) $(TEACHERS)/.ready
	PYTHONPATH="$(CURDIR)/$(TEACHERS)" PATH="$(CURDIR)/$(TEACHERS)/bin:$$PATH" $(BIN)/python tools/classroom.py --students

# a teacher's own environment gets nbgrader; the book's tests keep it apart, since it adds menus to JupyterLab
classroom: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-teachers.txt
	$(BIN)/python tools/classroom.py $(COURSE)

archive: book
	$(BIN)/python tools/archive.py

seeds: $(READY)
	$(BIN)/python tools/seeds.py --all --keep _build/seeds

# ONLY=mlp runs the benchmarks with that in their name, QUICK=1 a small size of them; neither writes the page
bench: $(READY) $(PEERS)/.ready
	PYTHONPATH=$(PEERS):tests OMP_NUM_THREADS=1 DESCENT_PROGRESS=off $(PYTEST) -c tests/bench/pytest.ini tests/bench $(if $(ONLY),-k "$(ONLY)") $(if $(QUICK),--quick)

$(PEERS)/.ready: tests/bench/requirements.txt $(READY)
	rm -rf $(PEERS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(PEERS) -r tests/bench/requirements.txt
	@touch $@

$(TEACHERS)/.ready: requirements-teachers.txt $(READY)
	rm -rf $(TEACHERS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(TEACHERS) -r requirements-teachers.txt
	@touch $@

clean:
	rm -rf _build $(VENV) $(PEERS) $(TEACHERS) .pytest_cache .hypothesis lib/descent.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
