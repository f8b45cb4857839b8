"""The promise keeps what it says.

The tails are exact, and on fresh pairs the share of wrong answers stays below, as often as stated.
"""

import numpy as np
import pytest
from scipy.stats import binom

from reward_router.committee import Committee
from reward_router.committee.fit import FitShape, fit_plan
from reward_router.committee.labelled import labelled_rows
from reward_router.committee.plan import paths
from reward_router.committee.promise import (
    CONFIDENCE,
    Promise,
    effective,
    outcome,
    promised,
    tail,
    upper,
)
from reward_router.errors import InputError


@pytest.mark.parametrize(("wrong", "n"), [(0, 30), (3, 40), (12, 80), (5, 5)])
def test_the_tail_is_the_binomials(wrong, n):
    assert tail(wrong, n, 0.1) == pytest.approx(binom.cdf(wrong, n, 0.1), abs=1e-12)


def test_the_bound_is_where_the_tail_is_what_is_left():
    assert binom.cdf(4, 60, upper(4, 60)) == pytest.approx(1 - CONFIDENCE, abs=1e-9)


def test_rows_that_move_together_count_less():
    answered = np.ones(200)
    wrong = np.repeat(np.arange(50) % 5 == 0, 4).astype(float)
    alone = effective(answered, wrong, np.arange(200))
    together = effective(answered, wrong, np.repeat(np.arange(50), 4))
    assert alone == pytest.approx((200, 40))
    assert together[0] == pytest.approx(50)
    assert together[1] / together[0] == pytest.approx(0.2)


def test_what_is_promised_holds_as_often_as_stated(made):
    """One plan, and 150 samples to certify with.

    Compared is the true risk at the certified threshold, on 20,000 fresh pairs.
    """
    skills = [0.9, 0.8, 0.7, 0.5]
    margins, label = made(300, skills, seed=5)
    none = np.full(300, -1)
    plan = fit_plan(
        labelled_rows(margins, label, None, none, None, None), FitShape(np.ones(4), 4, "safe"), 0
    )
    fresh, truth = made(20_000, skills, seed=6)
    path, end = paths(plan, fresh, np.full(20_000, -1))
    broken = given = 0
    for seed in range(150):
        rows, sides = made(160, skills, seed=100 + seed)
        held = labelled_rows(rows, sides, None, np.full(160, -1), None, None)
        promise = promised(plan, held, 0.1)[1]
        if promise.kept:
            answered, wrong = outcome(path, end, promise.threshold, np.where(truth, 1.0, -1.0))
            given += 1
            broken += wrong.sum() / answered.sum() > 0.1
    assert given > 100
    assert broken / 150 <= 1 - CONFIDENCE + 2 * np.sqrt(0.1 * 0.9 / 150)


def test_unsure_pairs_are_abstained_on_and_the_rest_is_surer(made):
    margins, label = made(1500, [0.8, 0.7, 0.6, 0.5])
    committee = Committee(np.ones(4), max_error=0.05).fit(margins[:800], label[:800])
    prob, calls, _ = committee.judge(margins[800:])
    out = committee.abstains(prob)
    right = (prob > 0.5) == label[800:]
    assert committee.promise is not None
    assert committee.promise.kept
    assert 0 < out.mean() < 0.9
    assert right[~out].mean() > 0.93
    assert right[~out].mean() > right[out].mean() + 0.1
    assert (calls[out] == 4).all()
    asked: dict[int, float] = {}
    while (arm := committee.next(asked)) is not None:
        asked[arm] = float(margins[801, arm])
    assert committee.posterior(asked) == pytest.approx(prob[1])
    found = committee.summary["promise"]
    assert found["risk_bound"] <= 0.05 + 1e-9
    assert found["coverage"] == pytest.approx(1 - out.mean(), abs=0.1)


def test_noise_is_promised_nothing_and_costs_one_call(made):
    margins, label = made(200, [0.0, 0.0, 0.0])
    committee = Committee(np.ones(3), max_error=0.1).fit(margins, label)
    prob, calls, _ = committee.judge(margins)
    assert not committee.promise.kept
    assert committee.abstains(prob).all()
    assert (calls <= 1).all()


def test_the_state_holds_the_promise(made):
    margins, label = made(300, [0.9, 0.8, 0.6])
    first = Committee(np.ones(3), max_error=0.1).fit(margins, label)
    second = Committee(np.ones(3), max_error=0.1)
    second.load_state_dict(first.state_dict())
    assert second.promise == first.promise
    assert (second.judge(margins)[0] == first.judge(margins)[0]).all()
    assert Promise.of(np.array(first.promise.numbers())) == first.promise


@pytest.mark.parametrize(
    "settings", [{"max_error": 0.5}, {"max_error": 0.0}, {"max_error": 0.1, "budget": 2.0}]
)
def test_promises_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(InputError, match="max_error"):
        Committee([1, 1], **settings)
