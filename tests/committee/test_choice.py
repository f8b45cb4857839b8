"""Which weights play.

They are chosen out of fold, at one price, and of either sign only where the labels belong to the
stream.
"""

import numpy as np
import pytest

from reward_router.committee import Committee, LabelPolicy, OnlineCommittee
from reward_router.committee.fit import WEIGHTS
from reward_router.committee.gate import GATE_RULES
from reward_router.committee.trial import OF_ALL
from reward_router.committee.watch import FALSE_ALARM, PlanWatch
from reward_router.errors import InputError


def biased(n: int, seed: int = 0, bias_of: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Two arms that share a bias, and a third that measures the bias alone.

    Only a negative weight removes it.
    """
    rng = np.random.default_rng(seed)
    label, bias = rng.random(n) < 0.5, rng.normal(size=n)
    side = np.where(label, 1.0, -1.0)
    arms = [0.8 * side + bias_of * bias + 0.5 * rng.normal(size=n) for _ in range(2)]
    return np.column_stack([*arms, bias]), label


@pytest.mark.parametrize("weights", ["mean", "vote"])
def test_at_no_price_the_flat_weights_are_the_aggregates_of_all_arms(made, weights):
    margins, label = made(600, [0.9, 0.8, 0.7, 0.6])
    committee = Committee(np.ones(4), price=0.0, gate="off", weights=weights).fit(margins, label)
    prob, _, asked = committee.judge(margins)
    every = asked.all(axis=1)
    side = np.where(label, 1.0, -1.0)
    if weights == "mean":
        value = (margins / np.sqrt((margins**2).mean(axis=0))).sum(axis=1)
    else:
        share = ((0.5 + 0.5 * np.sign(margins) * side[:, None]).sum(axis=0) + 1) / (len(label) + 2)
        value = np.sign(margins) @ np.log(share / (1 - share))
    assert every.mean() > 0.05
    assert ((prob > 0.5) == (value > 0))[every].all()


def test_arms_worse_than_a_coin_are_not_asked_with_flat_weights(made):
    margins, label = made(400, [0.9, 0.8, 0.7])
    margins[:, 2] *= -1
    for weights in ("mean", "vote", "safe"):
        committee = Committee(np.ones(3), price=0.0, gate="off", weights=weights).fit(
            margins, label
        )
        assert not committee.judge(margins)[2][:, 2].any()


def test_signed_weights_play_on_the_stream_and_stay_at_home():
    margins, label = biased(500)
    ours = Committee(np.ones(3)).fit(margins, label, origin="stream")
    carried = Committee(np.ones(3)).fit(margins, label)
    assert ours.plan.weights == "signed"
    assert ours.fallback.weights == "safe"
    assert carried.plan.weights == "safe"
    fresh, truth = biased(4000, seed=1)
    right = [((c.judge(fresh)[0] > 0.5) == truth).mean() for c in (ours, carried)]
    assert right[0] > right[1] + 0.05


def test_nothing_depends_on_the_seed_and_the_summary_says_everything(made):
    margins, label = made(150, [0.6, 0.5, 0.5, 0.2])
    fitted = [
        Committee(np.ones(4), seed=seed).fit(margins, label, origin="stream") for seed in (0, 12345)
    ]
    first, other = [c.summary for c in fitted]
    assert other == first
    assert set(first["gates"]) == {*GATE_RULES, "off"}
    assert set(first["candidates"]) == {*WEIGHTS, *OF_ALL, "single"}
    assert first["candidates"]["single"]["gain"] == 0
    best = first["candidates"][first["weights"]]
    assert (first["gain"], first["lower"]) == (best["gain"], best["lower"])
    assert first["open"] == first["gates"]["auto"] == fitted[0].playing


def test_where_all_arms_together_know_more_the_price_gives_way(made):
    """Twelve equal arms without margins.

    At a high price one is asked, and their vote is far better.
    """
    margins, label = made(600, [0.4] * 12)
    sides = np.sign(margins)
    dear = Committee(np.ones(12), price=0.2).fit(sides[:300], label[:300], origin="stream")
    held = Committee(np.ones(12), price=0.2).fit(sides[:300], label[:300])
    assert dear.summary["discount"] < 1
    assert dear.price == pytest.approx(0.2 * dear.summary["discount"])
    right = [((c.judge(sides[300:])[0] > 0.5) == label[300:]).mean() for c in (dear, held)]
    assert right[0] > right[1] + 0.05
    restored = Committee(np.ones(12), price=0.2)
    restored.load_state_dict(dear.state_dict())
    assert restored.price == dear.price


def test_with_few_labels_the_gate_asks_for_proof(made):
    margins, label = made(60, [0.9, 0.2, 0.1])
    found = Committee(np.ones(3)).fit(margins, label).summary
    assert found["gates"]["auto"] == found["gates"]["lower95"]
    margins, label = made(200, [0.9, 0.2, 0.1])
    found = Committee(np.ones(3)).fit(margins, label).summary
    assert found["gates"]["auto"] == found["gates"]["mean"]


def test_a_state_brings_choice_and_fallback_back():
    margins, label = biased(300)
    first = Committee(np.ones(3)).fit(margins, label, origin="stream")
    second = Committee(np.ones(3))
    second.load_state_dict(first.state_dict())
    assert second.summary == first.summary
    second.fall_back()
    assert second.plan.weights == "safe"
    assert second.summary["weights"] == "safe"


def test_unknown_weights_and_origins_are_refused(made):
    with pytest.raises(InputError, match="weights"):
        Committee([1, 1], weights="free")
    with pytest.raises(InputError, match="origin"):
        Committee([1, 1]).fit(*made(50, [1.0, 1.0]), origin="here")


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        watch = PlanWatch()
        for number, advantage in enumerate(
            rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=300)
        ):
            watch.tell(advantage)
            if number in (20, 45, 95, 200):
                watch.start()
        alarms += watch.alarm
    assert alarms / 150 <= FALSE_ALARM + 2 * np.sqrt(FALSE_ALARM / 150)


def test_later_labels_take_signed_weights_away_for_good():
    """The bias has turned round, so that subtracting it doubles it.

    The signed plan is given up, also in later fits.
    """
    committee = Committee(np.ones(3), gate="off").fit(*biased(200), origin="stream")
    online = OnlineCommittee(committee, LabelPolicy(share=1.0))
    online._due = 10_000  # no refit comes to the rescue
    assert committee.plan.weights == "signed"
    for step, (margin, label) in enumerate(zip(*biased(300, seed=2, bias_of=-1.5), strict=True)):
        online.add_label(margin, bool(label), str(step), step)
    restored = OnlineCommittee(Committee(np.ones(3), gate="off"), LabelPolicy(share=1.0))
    restored.load_state_dict(online.state_dict())
    for each in (online, restored):
        assert each.summary["watch"]["fell_back"]
        assert each.committee.plan.weights == "safe"
    assert [refit.fell_back for refit in online.refits] == [True]
    committee.fit(*biased(60), origin="stream")
    assert committee.plan.weights != "signed"
