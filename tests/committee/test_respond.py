"""N responses: the pair rule for two, lazily asked, refusals last."""

import numpy as np
import pytest

from reward_router.committee import Committee, judge_responses, pair_weights, rank
from reward_router.errors import InputError


@pytest.fixture
def committee(made):
    return Committee(np.ones(4), gate="off").fit(*made(1500, [0.8, 0.7, 0.6, 0.5]))


def test_two_responses_are_the_pair_rule(committee, made):
    margins, _ = made(40, [0.8, 0.7, 0.6, 0.5], seed=5)
    prob, calls, asked = committee.judge(margins)
    for i, m in enumerate(margins):
        ranking = rank(committee, np.stack([m, np.zeros(4)]))
        assert set(ranking.asked) == set(np.flatnonzero(asked[i]))
        assert ranking.calls == 2 * calls[i]
        assert abs(ranking.confidence([0], [1])[0] - prob[i]) < 1e-6
        assert ranking.best == (0 if prob[i] > 0.5 else 1)


def test_arms_are_asked_lazily_and_once(committee):
    asked = []

    def ask(arm):
        asked.append(arm)
        return np.array([50.0, -50.0, -60.0, -70.0])

    ranking = judge_responses(committee, ask, 4)
    assert asked == list(ranking.asked)
    assert len(asked) < 4
    assert len(set(asked)) == len(asked)
    assert np.argsort(-ranking.value_N).tolist()[0] == 0
    assert abs(ranking.value_N.sum()) < 1e-9


def test_a_larger_quorum_asks_more(committee):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 8, 4))
    few, many = (
        np.mean([len(rank(committee, s, quorum=q).asked) for s in scores]) for q in (0.3, 1.0)
    )
    assert few < many


def test_the_ranking_finds_the_better_response(committee):
    rng = np.random.default_rng(1)
    quality = rng.normal(size=(200, 6))
    scores = quality[:, :, None] * np.array([0.8, 0.7, 0.6, 0.5]) * 1.4 + rng.normal(
        size=(200, 6, 4)
    )
    one = np.mean([quality[i, np.argmax(scores[i, :, 0])] for i in range(200)])
    picked = [rank(committee, scores[i], quorum=1.0) for i in range(200)]
    assert np.mean([quality[i, r.best] for i, r in enumerate(picked)]) > one
    assert np.mean([len(r.asked) for r in picked]) < 4


def test_a_router_may_choose_the_first_arm(committee):
    assert judge_responses(committee, lambda arm: np.array([1.0, 0.9]), 2, first=3).asked[0] == 3


def test_refused_responses_come_last(made):
    margins, label = made(400, [0.8, 0.6, 0.0])
    margins[:, 2] = np.nan
    committee = Committee(np.ones(3), gate="off", vetoes=(2,)).fit(margins, label)
    scores = np.array([[9.0, 9.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, np.nan]])
    ranking = rank(committee, scores)
    assert ranking.asked[0] == 2
    assert ranking.refused_N.tolist() == [True, False, False]
    assert ranking.best == 2
    assert np.argmin(ranking.value_N) == 0
    assert ranking.calls == 2 + 3 * (len(ranking.asked) - 1)
    only = rank(committee, np.array([[9.0, 9.0, 0.0], [1.0, 1.0, 1.0]]))
    assert only.asked == (2,)
    assert only.best == 1


def test_gated_and_unfitted_committees_ask_their_single_arm(made):
    scores = np.array([[0.1, 5.0], [0.4, 1.0], [np.nan, np.nan]])
    ranking = rank(Committee([1, 1]), scores)
    assert ranking.asked == (0,)
    assert ranking.best == 1
    assert np.isnan(ranking.value_N[2])
    gated = Committee([1, 1]).fit(*made(150, [0.0, 1.5]))
    assert not gated.playing
    assert rank(gated, scores).best == 0


def test_one_response_and_no_scores(committee):
    assert rank(committee, np.array([[1.0, 1.0, 1.0, 1.0]])).best == 0
    empty = rank(committee, np.full((3, 4), np.nan))
    assert np.isnan(empty.value_N).all()
    assert (empty.confidence([0], [1]) == 0.5).all()


def test_low_confidence_pairs_are_dropped_or_weighted():
    confidence = [0.5, 0.65, 0.8, 0.95]
    weight, low = pair_weights(confidence, 0.8)
    assert weight.tolist() == [0, 0, 1, 1]
    assert low == 2
    weight, low = pair_weights(confidence, 0.8, "weight")
    assert np.allclose(weight, [0, 0.5, 1, 1])
    assert low == 2
    for bad in ({"min_confidence": 0.4}, {"min_confidence": 0.8, "how": "ignore"}):
        with pytest.raises(InputError):
            pair_weights(confidence, **bad)


def test_bad_scores_are_named(committee):
    with pytest.raises(InputError, match="scores"):
        judge_responses(committee, lambda arm: np.ones(3), 2)
    with pytest.raises(InputError, match="quorum"):
        judge_responses(committee, lambda arm: np.ones(2), 2, quorum=0.0)
