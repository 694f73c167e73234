# make demo   the main job on embedded data, no download     make test   all tests
# make check  format, lint, types, quick tests               make bench  the benchmark of docs/performance.md
# make methods  all methods of the field on embedded data, side by side: 18 minutes of processor time
# make docs   writes the pages that are made from the code: command line, recipes, methods; make pictures draws the pictures
# make notebook  carries docs/notebook.ipynb out, and keeps what it shows
# make test-oldest  quick tests with the oldest dependencies allowed
# make growth time and memory by items, batch, modalities and processes
# make gpu    on a machine with a GPU: tests, speed, the paper's runs; ten minutes a call, goes on where the last one ended
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
MMVAE := $(BIN)/mmvae
METHODS := quickstart quickstart_mvae quickstart_mmvae
# a file to a worker at a time, for its tests share what is costly to make
SPREAD := -n auto --dist loadfile --no-loadscope-reorder
QUICK := not slow and not slurm and not network and not gpu and not browser

.PHONY: demo methods test quick check docs pictures notebook bench growth gpu format test-slurm test-oldest clean

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mmvae needs Python >= 3.11; set PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH),$(BIN)/python -m pip install --quiet torch torchvision --index-url https://download.pytorch.org/whl/$(TORCH))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,tensorboard]'
	@touch $@

demo: .venv/installed
	@test -f $(DEMO)/data/polymnist_embedded/dataset.json || \
	  $(MMVAE) make-dataset polymnist --digits embedded --repeat 4 --out $(DEMO)/data/polymnist_embedded
	@for recipe in $(METHODS); do \
	  $(MMVAE) train $$recipe --data-dir $(DEMO)/data --run $(DEMO)/runs/$$recipe-seed0 && \
	  { test -f $(DEMO)/runs/$$recipe-seed0/evaluation.json || \
	    $(MMVAE) evaluate --ckpt $(DEMO)/runs/$$recipe-seed0 --data-dir $(DEMO)/data >/dev/null; } && \
	  $(MMVAE) sample --ckpt $(DEMO)/runs/$$recipe-seed0 --data-dir $(DEMO)/data --force || exit $$?; done
	@$(MMVAE) compare $(DEMO)/runs --format table
	@$(MMVAE) compare $(DEMO)/runs --format html --out $(DEMO)/report --force

# three views and four epochs, so that those who decode every view from every subset are done in time, too
STUDY := $(DEMO)/methods
FEWER := modalities.m3=null modalities.m4=null training.epochs=4
TRAIN := "$(CURDIR)/$(MMVAE)" train quickstart $(FEWER) --data-dir ../data --jobs 2 --evaluate
ONE_SAMPLE := mvae,mvae_original,mmvae,mmjsd,mopoe,mvtcae,dmvae,crmvae,mmvm,codevae,barycenter,hellinger,average,independent
methods: .venv/installed
	@test -f $(DEMO)/data/polymnist_embedded/dataset.json || \
	  $(MMVAE) make-dataset polymnist --digits embedded --repeat 4 --out $(DEMO)/data/polymnist_embedded
	@mkdir -p $(STUDY)
	@cd $(STUDY) && $(TRAIN) --grid model.method=$(ONE_SAMPLE)
	@cd $(STUDY) && $(TRAIN) model.private_dim=16 --grid model.method=mmvaeplus
	@cd $(STUDY) && $(TRAIN) objective.samples=3 --grid model.method=mmvae_iwae,mmvae_dreg
	@$(MMVAE) compare $(STUDY)/runs --format table
	@$(MMVAE) compare $(STUDY)/runs --format html --out $(STUDY)/report --force

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) -m "not slurm and not network and not gpu"

quick: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) -m "$(QUICK)"

check: .venv/installed
	$(BIN)/ruff format --check mmvae_cli tests docs
	$(BIN)/ruff check mmvae_cli tests docs
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) -m "$(QUICK)"

format: .venv/installed
	$(BIN)/ruff format mmvae_cli tests docs
	$(BIN)/ruff check --fix mmvae_cli tests docs

docs: .venv/installed
	$(BIN)/python docs/generate.py

pictures: .venv/installed
	$(BIN)/python docs/pictures.py $(wildcard $(DEMO)/runs) $(wildcard runs/celeba_quick-seed0)

notebook: .venv/installed
	$(BIN)/python -m pip install --quiet nbconvert ipykernel
	rm -rf build/notebook && mkdir -p build/notebook && cp docs/notebook.ipynb build/notebook
	$(BIN)/jupyter nbconvert --execute --to notebook --ClearMetadataPreprocessor.enabled=True \
	  --ClearMetadataPreprocessor.clear_notebook_metadata=False --inplace build/notebook/notebook.ipynb
	cp build/notebook/notebook.ipynb docs

bench: .venv/installed
	$(BIN)/python tests/benchmarks/run.py --out bench

growth: .venv/installed
	$(BIN)/python tests/benchmarks/growth.py --out bench

# needs no network, so it installs nothing: this checkout's Python where there is one, else the machine's
gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/benchmarks/gpu --out gpu --resume gpu

test-slurm: .venv/installed
	$(BIN)/python -m pytest -m slurm

# the quick tests with the oldest version of every dependency that pyproject.toml allows
OLDEST := build/oldest
test-oldest:
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --upgrade --resolution lowest-direct --editable '.[test]'
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(OLDEST)/bin:$$PATH" $(OLDEST)/bin/python -m pytest $(SPREAD) -m "$(QUICK)"

clean:
	rm -rf .venv $(DEMO) bench gpu build dist .pytest_cache .mypy_cache .ruff_cache
