"""A run small enough for a test: tiny model, three arms of two kinds, a second of work."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from reward_router import config
from reward_router.config import Config

# Before torch or NumPy is loaded, and for every process a test starts. Each worker of pytest-xdist
# has one core: with a second OpenMP thread the workers spin for each other's cores, and the tests
# take twice the CPU time, a step ten to a hundred times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A model that is not at hand is refused at once, where the Hub would be asked again and again.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# No law depends on how fast a machine is: a busy one must not fail an example that takes longer
# than the usual 0.2 s. Forty examples a law keep the default run short; more of them look harder:
# REWARD_ROUTER_EXAMPLES=500 make test.
EXAMPLES = int(os.environ.get("REWARD_ROUTER_EXAMPLES", "40"))
settings.register_profile("untimed", deadline=None, max_examples=EXAMPLES)
settings.load_profile("untimed")

TINY = """
data: {categories: [sums, short, include]}
policy: {model: tiny, n_responses: 3, max_new_tokens: 8, device: cpu, sample_dtype: float32}
arms:
  - {name: short, kind: metric, metric: length, direction: short}
  - {name: long, kind: metric, metric: length, direction: long}
  - {name: likely, kind: loglik, model: tiny, reduction: mean}
pool: {unready: warn}
router: {name: linucb, unit: prompt}
context: {kind: hashing, dim: 8}
pairs: {per_prompt: 2, pick: random, truncated: keep} # nearly all of its responses are cut
train: {loss: dpo+nll, lr: 1e-3, warmup: 0, schedule: constant,
        iterations: 2, batch_prompts: 3, batches_per_iteration: 2}
eval: {limit: 3, samples: 0}
"""


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end.

    A worker holds a million objects by now (torch, transformers), and would walk through them again
    and again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_anywhere(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """``tiny`` for fixtures that serve a whole module or more."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return lambda *settings: config.load(path, None, settings)


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """``tiny("a.b=v", ...)`` is the small run with settings.

    Arms of ``misbehaving.py`` are importable.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "loop"))
    return lambda *settings: config.load(tiny_yaml, None, settings)
