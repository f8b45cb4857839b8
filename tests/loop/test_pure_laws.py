"""Laws of the pure parts.

These are pairs, features, keyed draws, intervals over seeds, and what a run will take.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward_router import keyed
from reward_router.features import hash_rows, pair_rows, pool, unit_rows
from reward_router.pairs import form_pairs
from reward_router.types import Float

scores = st.one_of(st.just(float("nan")), st.floats(-3, 3), st.sampled_from([0.0, 1.0]))
scored = st.lists(st.tuples(scores, st.sampled_from("abcdefg")), max_size=9)
matrices = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-1e3, 1e3)
)


@given(scored, st.integers(1, 6), st.integers(0, 5), st.sampled_from([0.0, 0.5]))
def test_pairs(rows: list[tuple[float, str]], most: int, seed: int, margin: float) -> None:
    score_N, texts = np.array([s for s, _ in rows]), [x for _, x in rows]
    found = form_pairs(score_N, texts, most, keyed.rng(seed, "pairs", 0), margin)
    assert found == form_pairs(score_N, texts, most, keyed.rng(seed, "pairs", 0), margin)
    assert len(found) <= most
    for winner, loser in found:
        assert score_N[winner] - score_N[loser] > margin
        assert texts[winner] != texts[loser]
    used = [frozenset((texts[w], texts[x])) for w, x in found]
    assert len(set(used)) == len(used)
    possible = {
        frozenset((texts[i], texts[j]))
        for i, j in combinations(range(len(rows)), 2)
        if texts[i] != texts[j] and abs(score_N[i] - score_N[j]) > margin
    }
    assert len(found) == min(most, len(possible))


def test_pairs_are_drawn_evenly() -> None:
    counts = np.zeros(10)
    every = list(combinations(range(5), 2))
    for seed in range(2000):
        for w, x in form_pairs(np.arange(5.0), list("abcde"), 3, keyed.rng(seed, "pairs", 0)):
            counts[every.index((x, w))] += 1
    assert np.abs(counts / 2000 - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)


@given(matrices)
def test_rows_have_unit_norm_or_are_zero(rows_BD: Float) -> None:
    norms = np.linalg.norm(unit_rows(rows_BD), axis=1)
    assert np.all(np.isclose(norms, 1.0) | (norms == 0.0))
    assert np.allclose(pool(rows_BD), unit_rows(rows_BD.mean(axis=0, keepdims=True)))


@given(matrices, st.integers(0, 9))
def test_pair_features_do_not_know_the_order(first_PD: Float, seed: int) -> None:
    second_PD = np.random.default_rng(seed).normal(size=first_PD.shape)
    both = pair_rows(first_PD, second_PD)
    assert np.array_equal(both, pair_rows(second_PD, first_PD))
    assert both.shape == (len(first_PD), 2 * first_PD.shape[1])
    assert np.allclose(np.linalg.norm(both, axis=1), 1.0)


@given(st.lists(st.sampled_from(["fig", "Apple", "pear", "7"]), max_size=8), st.integers(1, 64))
def test_hashes_are_words_in_any_order(words: list[str], dim: int) -> None:
    one, other = hash_rows([" ".join(words), ", ".join(reversed(words)).upper()], dim)
    assert np.allclose(one, other)
    assert np.isclose(np.linalg.norm(one), 1.0) or not one.any()


@given(st.integers(0, 2**62), st.integers(0, 10**6), st.text(max_size=20))
def test_draws_are_keyed(seed: int, step: int, unit: str) -> None:
    u = keyed.uniform(seed, "arm", step, unit)
    assert 0.0 <= u < 1.0
    assert u == keyed.uniform(seed, "arm", step, unit)
    assert (
        keyed.rng(seed, "arm", step, unit).random() == keyed.rng(seed, "arm", step, unit).random()
    )
    others = [
        (seed + 1, "arm", step, unit),
        (seed, "audit", step, unit),
        (seed, "arm", step + 1, unit),
        (seed, "arm", step, unit + "x"),
    ]
    own = keyed.key(seed, "arm", step, unit)
    assert all(keyed.key(*other) != own for other in others)  # type: ignore[arg-type]


def test_keyed_uniforms_are_uniform() -> None:
    from scipy.stats import kstest

    assert kstest([keyed.uniform(0, "probe", t, "x") for t in range(5000)], "uniform").pvalue > 1e-3


@settings(deadline=None)
@given(st.integers(0, 3))
def test_the_interval_covers_both_sources_of_spread(seed: int) -> None:
    """A random training seed and a random prompt set.

    The true mean is inside 95 % of the time, to Monte Carlo error.
    """
    study = pytest.importorskip(
        "reward_router.jobs.study", reason="needs the packages of the extra `train`"
    )
    draw, inside, n = np.random.default_rng(seed), 0, 400
    for _ in range(n):
        value_SP = (
            draw.normal(0, 0.05, (5, 1))
            + draw.normal(0, 0.2, (1, 60))
            + draw.normal(0, 0.3, (5, 60))
        )
        _, low, high = study.mean_interval(value_SP)
        inside += low <= 0 <= high
    assert inside / n > 0.95 - 4 * np.sqrt(0.95 * 0.05 / n)


def test_the_interval_s_corners() -> None:
    from scipy.stats import t as student

    study = pytest.importorskip(
        "reward_router.jobs.study", reason="needs the packages of the extra `train`"
    )
    assert np.isnan(study.mean_interval(np.zeros((0, 3)))).all()
    assert study.mean_interval(np.ones((4, 9))) == (1.0, 1.0, 1.0)
    mean, low, high = study.mean_interval(np.array([[0.0, 1.0, 1.0, 0.0]]))
    half = (
        student.ppf(0.975, 3) * np.std([0, 1, 1, 0], ddof=1) / 2
    )  # one seed: prompts only, three degrees of freedom
    assert (mean, high - mean) == (0.5, pytest.approx(half))
    assert mean - low == pytest.approx(high - mean)


@pytest.mark.parametrize("policy", ["llama3", "mistral"])
def test_estimates_of_the_papers_runs(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = pytest.importorskip(
        "reward_router.jobs.estimate", reason="needs the packages of the extra `train`"
    )
    from reward_router import config
    from reward_router.examples import Example

    question = Example(
        "q", "How many clips did Natalia sell altogether in April and May? " * 4, "", None
    )
    monkeypatch.setattr(estimate, "load_examples", lambda data: [question] * 6750)
    e = estimate.estimate(config.load(preset=f"laser-{policy}-gsm8k"))
    assert e["steps"] == 10 * 422
    assert e["responses"] == e["calls"] == 4220 * 16 * 30
    assert e["calls_all_arms"] == 4 * e["calls"]
    assert e["pairs_at_most"] == 4220 * 16 * 10
    gib = {k: v / 2**30 for k, v in e["memory_bytes"].items()}
    assert 20 < gib["policy"] < 70  # trained in bfloat16, sampled beside it
    assert 10 < gib["reward models"] < 20  # one of 7B at a time
    assert 1 < sum(e["seconds"].values()) / 86400 < 100  # days


@pytest.mark.parametrize("payoff", ["probe", "full_advantage"])
def test_an_estimate_counts_two_calls_a_pair(payoff: str) -> None:
    estimate = pytest.importorskip(
        "reward_router.jobs.estimate", reason="needs the packages of the extra `train`"
    )
    from reward_router import config

    found = estimate.estimate(
        config.load(preset="bayesian-demo", settings=[f"payoff.name={payoff}"])
    )
    assert found["pairs_at_most"] == 4 * 16 * 2
    assert found["calls_all_arms"] == 2 * found["pairs_at_most"] * len(
        estimate.arm_specs(config.load())
    )
    assert found["calls"] == (
        found["calls_all_arms"] if payoff == "full_advantage" else 2 * found["pairs_at_most"]
    )


def test_an_estimate_of_a_committee_is_an_upper_bound() -> None:
    estimate = pytest.importorskip(
        "reward_router.jobs.estimate", reason="needs the packages of the extra `train`"
    )
    from reward_router import config

    one, most, two = (
        estimate.estimate(config.load(settings=more))
        for more in ((), ["judge=committee"], ["judge={mode: committee, max_calls: 2}"])
    )
    assert most["calls"] == most["calls_all_arms"] == one["calls_all_arms"]
    assert two["calls"] == 2 * one["calls"]
    assert most["calls_at_most"]
    assert not one["calls_at_most"]
