# make demo    from a fresh clone: virtual environment, install, one prompt plain and accelerated side by side
# make test    the same environment with the development tools, then the test suite in WORKERS processes (2)
# make slow    the tests marked slow
# make speed   seconds and memory beside Diffusers, on an idle machine, into outputs/speed: docs/performance.md
# make speed-gpu
#              the same of SD 2.1, SDXL and Flux.1 dev in full size with random weights in bfloat16, eager, compiled and in
#              CUDA graphs; needs an NVIDIA GPU of 80 GB, 40 GB of disk, and an hour
# make gpu     everything that needs a GPU in eight minutes, from a bare checkout, without network or installation, into
#              outputs/gpu: docs/performance.md; MINUTES=4 takes less time, SMALL=1 rehearses it on a CPU in one minute
# make lint    ruff, mypy --strict on the built package, and the site, built strictly
# make docs    the site of docs/ and of the docstrings, served on http://127.0.0.1:8000
# make site-test
#              every page of the site in headless Chromium, on a desktop and a phone, light and dark
# make docs-numbers
#              where the measured numbers of the pages come from, and which are older than the code that they measure
# make attack  fuzzers against files, folders, the Hub and the command for MINUTES=30: docs/attacks.md
# make audit   bandit over the code, and pip-audit over what is installed, which needs the network: SECURITY.md
# make release wheel, source archive and bill of materials of this commit, the same bytes everywhere, into dist/
# make try-release
#              installs that wheel into clean environments of Python 3.11, 3.12 and 3.13, as far as they are there, and
#              makes pictures; TORCH_INDEX=URL is a package index for torch, such as that of its CPU builds
# make mutants
#              mutation testing of solvers/ and accelerators/ into outputs/mutants.jsonl: docs/checks.md; SAMPLE=200 mutants
# make tiny-sd train the embedded checkpoint again (hours on two cores; resumes where it stopped)
# make tiny-flux, make tiny-controlnet
#              two other embedded checkpoints, of the autoencoder, the text encoder and the U-Net of tiny-sd
# make tiny-dit
#              the embedded checkpoint that is sampled by class, of pictures that are drawn from random numbers
# make clean   remove the environment and everything built
#
# PYTHON chooses the interpreter the environment is made with: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
WORKERS ?= 2
SPEED ?= outputs/speed
SAMPLE ?= 200
GPU ?= --device cuda --dtype bfloat16 --cache outputs/random --model random-sd21 --model random-sdxl --model random-flux \
    --latent --steps 50 --rounds 5 --replay $(SPEED)-recorded/speed.json
GPU_OUT ?= outputs/gpu
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
INPUTS := pyproject.toml constraints.txt

.PHONY: demo test slow speed speed-gpu gpu typed docs site-test docs-numbers lint attack audit release try-release mutants tiny-sd tiny-flux tiny-controlnet tiny-dit clean

demo: $(VENV)/.installed
	$(BIN)/sadaflow compare "red apple" --out outputs/demo.png --overwrite

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

speed: $(VENV)/.installed-dev
	$(BIN)/sadaflow bench speed --out $(SPEED) --accelerate auto --accelerate "sada tokens=false"
	$(BIN)/sadaflow bench speed --out $(SPEED)-random --cache outputs/random --model random-sd21/2 --model random-flux/4 \
	    --measure sampling --measure memory --latent --steps 4 --rounds 3
	$(BIN)/sadaflow bench speed --out $(SPEED)-loading --cache outputs/random --model random-sdxl/2 --measure loading

typed: $(VENV)/.installed-dev
	rm -rf build/lib build/typed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/typed .

docs: typed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

site-test: typed
	SADAFLOW_REQUIRE_BROWSER=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/test_site_in_browser.py

docs-numbers:
	$(GPU_PYTHON) docs/scripts/docs_numbers.py

lint: typed
	$(BIN)/ruff check .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p sadaflow

speed-gpu: $(VENV)/.installed-dev
	$(BIN)/sadaflow bench speed --out $(SPEED)-recorded --model tiny-sd --measure sampling --steps 50 --rounds 1 --alone \
	    --solver dpmpp2m --accelerate auto --accelerate "sada tokens=false"
	$(BIN)/sadaflow bench speed --out $(SPEED)-gpu $(GPU) --measure sampling --measure memory
	$(BIN)/sadaflow bench speed --out $(SPEED)-gpu-compiled $(GPU) --measure sampling --compile
	$(BIN)/sadaflow bench speed --out $(SPEED)-gpu-graphs $(GPU) --measure sampling --compile --compile-mode reduce-overhead

gpu:
	$(GPU_PYTHON) -m sadaflow.bench.gpu --out $(GPU_OUT) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SMALL),--small) \
	    $(if $(COMMIT),--commit $(COMMIT))

attack: $(VENV)/.installed-dev
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -W ignore -m attacks.run --minutes $(or $(MINUTES),30) \
	    --seed $(or $(SEED),1000) --out ../outputs/attacks.json

audit: $(VENV)/.installed-dev
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check bandit pip-audit
	build/audit/bin/bandit --quiet --recursive --severity-level medium --skip B615,B701,B704 sadaflow models solvers
	$(BIN)/python -m pip freeze --exclude-editable > build/audit/installed.txt
	build/audit/bin/pip-audit --no-deps --disable-pip --requirement build/audit/installed.txt

release: $(VENV)/.installed-dev
	rm -rf build/release dist
	mkdir -p build/release
	git archive HEAD | tar -x -C build/release
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python docs/scripts/build_release.py build/release dist
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz

try-release:
	$(BIN)/python docs/scripts/try_release.py dist/*.whl $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

mutants: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "cosmic-ray>=8.3"
	OMP_NUM_THREADS=1 $(BIN)/python docs/scripts/mutate.py --sample $(SAMPLE) --out outputs/mutants.jsonl

tiny-sd: $(VENV)/.installed-dev
	$(BIN)/python -m sadaflow.training.tiny_sd

tiny-flux: $(VENV)/.installed-dev
	$(BIN)/python -m sadaflow.training.tiny_flux

tiny-controlnet: $(VENV)/.installed-dev
	$(BIN)/python -m sadaflow.training.tiny_controlnet

tiny-dit: $(VENV)/.installed-dev
	$(BIN)/python -m sadaflow.training.tiny_dit

clean:
	rm -rf $(VENV) build dist outputs *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "constraints.txt needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(INSTALL) --editable ".[cli]"
	touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(INSTALL) --editable ".[dev]"
	touch $@ $(VENV)/.installed
