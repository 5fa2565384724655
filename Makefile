# make demo        install and run the whole story on the bundled data (GPU=1: with CUDA)
# make test        install and run every check and test
# make quick       the tests without the slow ones
# make proof       train on what each part of the pipeline made, and measure: does the data help? (40 minutes)
# make guides      follow the guides of docs/ to the letter (ten minutes)
# make lake        the tests of the store with DuckDB 1.5, as a file and as a DuckLake
# make faiss-gpu   the tests of search and mining with FAISS for CUDA, as on a machine without a GPU
# make docs        write docs/commands.md, docs/settings.md and the answers in docs/sql.md anew
PYTHON ?= python3
GPU ?=
DEMO ?= demo
PROOF ?= proof
DATA ?= data/sample

FAISS := $(if $(GPU),gpu,cpu)
OTHER_FAISS := $(if $(GPU),cpu,gpu)
CONSTRAINTS := $(if $(GPU),,-c constraints.txt)
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALLED := .venv/.installed-$(FAISS)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1

.PHONY: install demo proof guides test quick check lake faiss-gpu docs chromium clean

install: $(INSTALLED)

# torch comes first, so that nothing else decides which build of it is taken.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Skiff needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet $(CONSTRAINTS) torch
	$(if $(wildcard .venv/.installed-$(OTHER_FAISS)),$(PIP) uninstall --quiet --yes faiss-$(OTHER_FAISS))
	$(PIP) install --quiet $(CONSTRAINTS) --editable '.[$(FAISS),demo,dev]'
	@rm -f .venv/.installed-* && touch $@

# Print a command, run it, print how long it took.
define step
@printf '\n$$ %s\n' '$(1)'; start=$$(date +%s); $(1) && printf '[%s s]\n' "$$(( $$(date +%s) - start ))"
endef

demo: install
	$(call step,synth init $(DEMO))
	$(call step,synth ingest data/sample -w $(DEMO))
	$(call step,synth generate --task retrieval -w $(DEMO))
	$(call step,synth mine -w $(DEMO))
	$(call step,synth review --policy consistent -w $(DEMO))
	$(call step,synth release create first -w $(DEMO))
	$(call step,trainer run --release first --config demo -w $(DEMO))
	$(call step,trainer evaluate $(DEMO)/models/first-demo --release first -w $(DEMO))
	@printf '\nLook at the samples yourself:  .venv/bin/synth review -w $(DEMO) --queue audit\n'
	@printf 'Ask the store in SQL:          .venv/bin/synth sql "SELECT query, source, method, status FROM samples WHERE status = '\''approved'\'' LIMIT 5" -w $(DEMO)\n'

proof: install
	python benchmarks/proof.py --data $(DATA) --work $(PROOF) --figure $(PROOF).svg --markdown

guides: install
	python -m tests.guides

# A process for each core, since many tests wait; a file's tests stay together and share what they have made.
PYTEST := pytest -n auto --maxprocesses 4 --dist loadfile

test: install check chromium
	$(PYTEST)

quick: install check
	$(PYTEST) -m 'not slow'

# The oldest DuckDB that we support, which is also the newest one with an extension for DuckLake on PyPI, has a folder of
# its own, and goes before the one of .venv.
LAKE := .venv/lake
lake: install $(LAKE)/.installed
	PYTHONPATH=$(LAKE) pytest tests/lake
	PYTHONPATH=$(LAKE) pytest -m 'not slow' tests/synth/store/test_migrations.py tests/synth/store/test_bulk.py

$(LAKE)/.installed: pyproject.toml | install
	rm -rf $(LAKE)
	$(PIP) install --quiet --target $(LAKE) $$(.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lake"])')
	@touch $@

# FAISS for CUDA has a folder of its own too, where it overwrites nothing. It searches without a GPU (one that is there is
# hidden), but needs CUDA's libraries: constraints.txt has small ones, 560 MB to download in all and 870 MB on disk.
FAISS_GPU := $(CURDIR)/.venv/faiss-gpu
NO_GPU := CUDA_VISIBLE_DEVICES= PYTHONPATH=$(FAISS_GPU)
faiss-gpu: install $(FAISS_GPU)/.installed
	$(NO_GPU) python -c 'from mining.faiss_library import load_faiss as load; print("GPUs:", load().get_num_gpus()); load().GpuIndexFlat'
	$(NO_GPU) $(PYTEST) -m 'not slow' tests/mining tests/synth/stages/test_mine*.py \
	  --ignore tests/mining/test_encode.py --ignore tests/mining/test_rerank.py

$(FAISS_GPU)/.installed: constraints.txt | install
	rm -rf $(FAISS_GPU)
	$(PIP) install --quiet -c constraints.txt --target $(FAISS_GPU) --no-deps faiss-gpu \
	  nvidia-cuda-runtime-cu12 nvidia-cublas-cu12 nvidia-curand-cu12
	@touch $@

check: install
	ruff check .
	ruff format --check .
	mypy

docs: install
	.venv/bin/python -m tests.command_reference > docs/commands.md
	.venv/bin/python -m tests.settings_reference > docs/settings.md
	.venv/bin/python -m tests.cookbook

# The browser tests need Chromium; on Debian, and as root, it is installed.
chromium:
	@command -v chromium >/dev/null || test -n "$$CHROMIUM" || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-noto-cjk >/dev/null; } || \
	  { echo 'Chromium is needed for the browser tests: install it, or set CHROMIUM to its path' >&2; exit 1; }

clean:
	rm -rf .venv $(DEMO) $(PROOF) $(PROOF).svg build *.egg-info
