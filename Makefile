# make train   train on a demo set; make test   run the tests. Each sets up .venv first, once.
#
# PUMLC_CUDA=auto|0|1   build the CUDA kernels: where a compiler is to be had (default), never, or else fail
# PYTHON=...            an environment that is already there: used as it is, nothing is installed into it

SYSTEM_PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
SOURCES := $(shell find csrc -type f) setup.py

ifdef PYTHON
RUN := $(PYTHON)
READY :=
else
RUN := $(VENV)/bin/python
READY := $(STAMP)
endif
BUILT := build/.built-$(or $(PUMLC_CUDA),auto)-$(notdir $(RUN))
FILES := $(shell find csrc tests -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp')

.PHONY: install train test fuzz chaos bench check-gpu resources lint clean

install: $(BUILT)

train: $(BUILT)
	$(RUN) -m pumlc.data.demo demo_data
	$(RUN) train.py demo --data demo_data

test: $(BUILT)
	$(RUN) -m pytest

# 10,000 damaged JPEG files through the loader, and damaged label files of every layout: a quarter of an hour
fuzz: $(BUILT)
	$(RUN) -m tests.fuzz
	PUMLC_FUZZ_EXAMPLES=500 $(RUN) -m pytest -q tests/fuzz/test_label_files.py

# short runs of two and three processes, killed twenty times: some minutes
chaos: $(BUILT)
	$(RUN) -m tests.chaos

bench: $(BUILT)
	$(RUN) -m bench
	$(RUN) -m bench.local_global
	$(RUN) -m bench.data
	$(RUN) -m bench.predict

check-gpu: $(READY)
	$(RUN) -m bench.check_gpu

# what the compiler says of the kernels; needs nvcc, no GPU, and not the extension
resources: $(READY)
	$(RUN) -m bench.resources --check

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(if $(PYTHON),,$(VENV)/bin/)clang-format --dry-run --Werror $(FILES)

clean:
	rm -rf build $(VENV) pumlc/_C*.so

$(STAMP): pyproject.toml
	@$(SYSTEM_PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "error: $(SYSTEM_PYTHON) is older than Python 3.10; name a newer one: make SYSTEM_PYTHON=python3.12 ..."; exit 1; }
	$(SYSTEM_PYTHON) -m venv $(VENV)
	@echo "installing what pyproject.toml asks for: torch alone is some gigabytes"
	$(RUN) .ci/requirements.py > $(VENV)/requirements.txt
	$(RUN) -m pip install --quiet --upgrade setuptools wheel -r $(VENV)/requirements.txt
	touch $@

# Without nvcc on the PATH or in CUDA_HOME, the compiler comes as wheels of the version that torch was built with.
$(BUILT): $(READY) $(SOURCES)
ifndef PYTHON
ifneq ($(PUMLC_CUDA),0)
	@version=$$($(RUN) -c "import torch; print(torch.version.cuda or '')"); \
	if [ -n "$$version" ] && ! PUMLC_CUDA=1 $(RUN) setup.py --version > /dev/null 2>&1; then \
	  echo "no nvcc for CUDA $$version here: installing its wheels"; \
	  $(RUN) -m pip install --quiet "nvidia-cuda-nvcc==$$version.*" "nvidia-nvvm==$$version.*" "nvidia-cuda-crt==$$version.*" \
	    || [ "$(PUMLC_CUDA)" != 1 ]; \
	fi
endif
endif
	@mkdir -p build && echo "compiling the kernels: a few minutes (what the compilers say: build/build.log)"
	@$(RUN) setup.py --quiet build_ext --inplace > build/build.log 2>&1 || { tail -n 40 build/build.log; exit 1; }
	@$(RUN) -c "import pumlc; print('pumlc:', pumlc.build_info())"
	@rm -f build/.built-* && touch $@
