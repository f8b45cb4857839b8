"""Labels and their propensities, the label-free start, refits on a schedule, pacing."""

import numpy as np
import pytest

from reward_router.committee import (
    Committee,
    DawidSkene,
    LabelPolicy,
    OnlineCommittee,
    PricePacer,
    ask_label,
    label_value,
)
from reward_router.committee.online import CONFIRMED_UNTIL
from reward_router.errors import InputError


def run(online: OnlineCommittee, margins: np.ndarray, label: np.ndarray, start: int = 0) -> None:
    for step, (m, y) in enumerate(zip(margins, label, strict=True), start):
        unit = f"u{step}"
        if online.wants_unlabelled():
            online.add_unlabelled(m)
        if online.policy.draws(unit, step) and online.scores_all([], unit, step):
            online.add_label(m, bool(y), unit, step)


def test_the_share_of_labels_is_keyed_random():
    policy = LabelPolicy(share=0.2)
    drawn = [policy.draws(f"u{i}", i) for i in range(4000)]
    assert abs(np.mean(drawn) - 0.2) < 0.025
    assert drawn == [policy.draws(f"u{i}", i) for i in range(4000)]


def test_scoring_labels_stays_within_the_extra_cost(made):
    online = OnlineCommittee(
        Committee(np.ones(3)), LabelPolicy(share=1.0, full=20, full_share=0.5, extra_cost=90.0)
    )
    run(online, *made(200, [1.0, 0.5, 0.5]))
    assert online.extra_cost <= 90
    assert 20 < len(online.store) == 30


def test_refits_follow_the_schedule_and_are_logged(made):
    online = OnlineCommittee(Committee(np.ones(3)), LabelPolicy(share=1.0))
    run(online, *made(100, [0.9, 0.8, 0.8]))
    assert [r.n_labels for r in online.refits] == [10, 20, 30, 45, 65, 95]
    assert online.refits[-1].step == 94
    assert not online.voting


def test_before_the_first_fit_three_arms_vote(made):
    online = OnlineCommittee(Committee(np.ones(5)), LabelPolicy())
    asked: dict[int, float] = {}
    while (arm := online.next(asked, "u", 0)) is not None:
        asked[arm] = 1.0
    assert len(asked) == 3
    assert 0.5 < online.posterior(asked) < 0.75
    assert online.posterior({k: -m for k, m in asked.items()}) < 0.5


def test_one_sided_labels_wait(made):
    online = OnlineCommittee(Committee(np.ones(2)), LabelPolicy(share=1.0))
    margins, _ = made(12, [1.0, 1.0])
    run(online, margins, np.ones(12, dtype=bool))
    assert online.voting
    assert online.refits == []


def test_labels_asked_for_teach_the_moments_only(made):
    """A biased sample leaves curves and gate alone.

    The sample is only rows that the first arm gets wrong; it cannot overturn the first arm's curve
    either.
    """
    margins, label = made(400, [0.9, 0.5])
    chosen = (margins[:, 0] > 0) != label
    online = OnlineCommittee(Committee([1, 1], gate="off", weights="safe"), LabelPolicy(share=1.0))
    for i in np.flatnonzero(chosen)[:40]:
        assert (
            online.add_label(margins[i], bool(label[i]), str(i), i, source="asked", propensity=0.9)
            is None
        )
    assert online.add_label(margins[0], True, "x", 0, source="verifier") is None
    assert online.dropped_labels == 1
    assert len(online.store) == 40
    run(online, margins[:45], label[:45])
    plan = online.committee.plan
    assert plan is not None
    alone = Committee([1, 1], gate="off").fit(margins[:45], label[:45])
    assert (plan.calibrator.intercept_K == alone.plan.calibrator.intercept_K).all()
    with pytest.raises(InputError, match="propensity"):
        online.add_label(margins[0], True, "x", 0, source="asked", propensity=0.0)


def test_inverse_propensities_undo_the_choice(made):
    """Moments from a sample drawn by value and weighted equal those of all rows, up to noise."""
    margins, label = made(6000, [0.8, 0.4])
    propensity = np.where((margins[:, 0] > 0) == label, 0.1, 0.8)
    kept = np.random.default_rng(0).random(6000) < propensity
    random = np.zeros(6000, dtype=bool)
    random[:300] = True
    rows = random | kept
    weight = np.where(random, 1.0, 1 / propensity)[rows]
    full = Committee([1, 1], gate="off").fit(margins, label).plan
    weighted = (
        Committee([1, 1], gate="off")
        .fit(margins[rows], label[rows], weights=weight, random=random[rows])
        .plan
    )
    naive = Committee([1, 1], gate="off").fit(margins[rows], label[rows], random=random[rows]).plan
    assert np.abs(weighted.z_GK - full.z_GK).max() < 0.12
    assert np.abs(naive.z_GK - full.z_GK).max() > 0.3


def test_value_of_a_label_is_highest_where_opinions_clash(made):
    committee = Committee([1, 1, 1], price=0.01, gate="off").fit(*made(800, [0.8, 0.7, 0.7]))
    clash, clear = [0.1, -2.0, -2.0], [2.0, 2.0, 2.0]
    value = label_value(committee, [clash, clear])
    assert value[0] > 5 * value[1] >= 0
    units = [f"u{i}" for i in range(2000)]
    spread = np.where(np.arange(2000) < 100, 10.0, 1.0)
    drawn, propensity = ask_label(spread, units, 200, step=0)
    assert abs(drawn.sum() - 200) < 45
    assert drawn[:100].mean() > 3 * drawn[100:].mean()
    assert propensity.min() >= 0.2 * 200 / 2000
    assert (label_value(Committee([1]), [[1.0]]) == 0).all()


def test_agreement_alone_ranks_independent_arms():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 2000)
    accuracy = np.array([0.95, 0.85, 0.75, 0.6])
    margins = (
        truth[:, None]
        * np.where(rng.random((2000, 4)) < accuracy, 1.0, -1.0)
        * rng.exponential(size=(2000, 4))
    )
    margins[rng.random((2000, 4)) < 0.2] = np.nan
    model = DawidSkene(4).fit(margins)
    assert np.abs(model.accuracy_K - accuracy).max() < 0.04
    assert (np.sign(model.posterior(margins) - 0.5) == truth).mean() > 0.9


def test_a_shared_bias_is_dropped_by_twenty_labels():
    """Most arms share one error: agreement is confident and wrong, and the audit says so."""
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 400)
    herd = -truth * np.where(rng.random(400) < 0.75, 1.0, -1.0)
    margins = np.column_stack(
        [
            truth * np.where(rng.random(400) < 0.8, 1.0, -1.0),
            *[herd * np.where(rng.random(400) < 0.9, 1.0, -1.0) for _ in range(6)],
        ]
    )
    model = DawidSkene(7).fit(margins)
    assert np.abs(model.posterior(margins) - 0.5).mean() > 0.4
    assert model.audit(margins[:19], truth[:19] > 0) == "untested"
    assert model.audit(margins[:20], truth[:20] > 0) == "dropped"
    online = OnlineCommittee(Committee(np.ones(7)), LabelPolicy(share=0.3), start="dawid_skene")
    run(online, margins[:120], truth[:120] > 0)
    assert online.store.n_random >= 20
    assert online.guess.status == "dropped"
    assert not online.guessing


def test_a_confirmed_guess_votes_until_forty_labels():
    rng = np.random.default_rng(1)
    truth = rng.choice([-1.0, 1.0], 300)
    margins = truth[:, None] * np.where(
        rng.random((300, 5)) < [0.95, 0.9, 0.85, 0.6, 0.6], 1.0, -1.0
    )
    online = OnlineCommittee(Committee(np.ones(5)), LabelPolicy(share=0.3), start="dawid_skene")
    run(online, margins[:80], truth[:80] > 0)
    assert online.guessing
    assert online.guess.status == "confirmed"
    assert set(online.ballot("u", 0)) == {0, 1, 2}
    run(online, margins[80:180], truth[80:180] > 0, start=80)
    assert online.store.n_random >= CONFIRMED_UNTIL
    assert not online.guessing
    assert not online.voting


def test_a_budget_is_kept_from_the_first_decision_on(made):
    margins, label = made(4000, [0.6] * 5)
    online = OnlineCommittee(Committee(np.ones(5), gate="off", budget=1.8), LabelPolicy(share=0.1))
    total = 0
    for step, (m, y) in enumerate(zip(margins, label, strict=True)):
        asked: dict[int, float] = {}
        while (arm := online.next(asked, f"u{step}", step, price=online.price)) is not None:
            asked[arm] = m[arm]
        online.record(len(asked))
        total += len(asked)
        if step < 700 and online.policy.draws(f"u{step}", step):
            online.add_label(m, bool(y), f"u{step}", step)
    assert abs(total / 4000 / 1.8 - 1) < 0.02


def test_pacing_repays_and_never_runs_away():
    pacer, rng = PricePacer(2.0, [0.0, 0.01, 0.1], [4.0, 2.2, 1.0]), np.random.default_rng(0)
    averages = []
    for _ in range(4000):
        expected = np.interp(pacer.price, pacer.prices_L, pacer.cost_L) * 1.3
        pacer.record(float(rng.poisson(max(expected - 1, 0)) + 1))
        averages.append(pacer.average)
    assert abs(averages[-1] / 2 - 1) < 0.01
    assert max(averages[1000:]) < 2.02
    with pytest.raises(InputError, match="below"):
        PricePacer(0.5, [0.0, 0.1], [2.0, 1.0])


def test_where_asking_less_is_optimal_the_budget_is_not_wasted():
    pacer = PricePacer(9.0, [0.0, 0.1], [2.0, 1.0])
    for _ in range(100):
        pacer.record(2.0)
    assert pacer.price == 0


def test_online_state_is_restored(made):
    margins, label = made(60, [0.9, 0.8, 0.8])
    first = OnlineCommittee(
        Committee(np.ones(3), budget=2.0), LabelPolicy(share=0.4), start="dawid_skene"
    )
    run(first, margins, label)
    first.record(2.0)
    second = OnlineCommittee(
        Committee(np.ones(3), budget=2.0), LabelPolicy(share=0.4), start="dawid_skene"
    )
    second.load_state_dict(first.state_dict())
    more, truth = made(30, [0.9, 0.8, 0.8], seed=2)
    run(first, more, truth, 60)
    run(second, more, truth, 60)
    assert len(first.refits) > len(second.refits) > 0  # before the state was taken, and after
    assert (first.committee.judge(margins)[0] == second.committee.judge(margins)[0]).all()
    assert first.price == second.price


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="start"):
        OnlineCommittee(Committee([1]), start="guess")
    with pytest.raises(InputError, match="shares"):
        LabelPolicy(share=1.5)
