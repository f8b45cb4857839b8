"""Laws of the committee as a judge.

One unit at a time and whole tables agree; it is safe where it knows little, and cheap where it can
be.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.committee import Committee
from reward_router.errors import InputError


def ask_all(
    committee: Committee, margins_K: np.ndarray, category: str | None = None
) -> tuple[float, dict[int, float]]:
    asked: dict[int, float] = {}
    while (arm := committee.next(asked, category)) is not None:
        assert arm not in asked
        asked[arm] = float(margins_K[arm])
    return committee.posterior(asked, category), asked


@pytest.mark.parametrize("gate", ["off", "lower95"])
@pytest.mark.parametrize("vetoes", [(), (2,)])
def test_next_and_posterior_agree_with_judge(made, gate, vetoes):
    margins, label = made(500, [0.6, 0.5, 0.4, 0.3, 0.2], shared=0.4)
    margins[:, 1] = np.sign(margins[:, 1])
    margins[::7, 3] = np.nan
    margins[:, 2] = np.where(np.arange(500) % 3 == 0, np.where(label, 1.0, 0.0), np.nan)
    category = ["x" if i % 2 else "y" for i in range(500)]
    committee = Committee(np.array([1.0, 2.0, 1.0, 0.5, 1.0]), gate=gate, vetoes=vetoes).fit(
        margins, label, None, category
    )
    prob, calls, asked = committee.judge(margins, [*category[:-1], "unseen"])
    for i in range(0, 500, 7):
        p, seen = ask_all(committee, margins[i], category[i] if i < 499 else "unseen")
        assert abs(p - prob[i]) < 1e-6
        assert {k for k in seen if k not in vetoes or not np.isnan(margins[i, k])} == set(
            np.flatnonzero(asked[i])
        )
        assert calls[i] == asked[i].sum()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(12, 80))
def test_swapping_the_sides_mirrors_the_answer(seed, k, n):
    rng = np.random.default_rng(seed)
    margins, label = rng.normal(size=(n, k)), rng.random(n) < 0.5
    label[:2] = [True, False]
    committee = Committee(np.ones(k), gate="off").fit(margins, label)
    prob, calls, _ = committee.judge(margins)
    other, same, _ = committee.judge(-margins)
    assert np.allclose(prob + other, 1)
    assert (calls == same).all()
    assert (calls >= 1).all()
    assert (calls <= k).all()


def test_it_beats_the_best_arm_and_asks_few(made):
    margins, label = made(3000, [0.8, 0.8, 0.7, 0.7, 0.6, 0.5])
    committee = Committee(np.ones(6)).fit(margins[:1500], label[:1500])
    prob, calls, _ = committee.judge(margins[1500:])
    right = (prob > 0.5) == label[1500:]
    single = ((margins[1500:] > 0) == label[1500:, None]).mean(0).max()
    assert committee.playing
    assert right.mean() > single + 0.05
    assert calls.mean() < 4


def test_noise_is_never_believed(made):
    margins, label = made(300, [0.0] * 8)
    committee = Committee(np.ones(8)).fit(margins, label)
    assert not committee.playing
    prob, calls, _ = committee.judge(margins)
    assert (calls == 1).all()
    assert np.abs(prob - 0.5).max() < 0.2


def test_the_gate_opens_on_evidence_only(made):
    """Weak second opinions: closed on 100 rows in nearly every draw; a real gain: open on 2,000."""
    opened = [
        Committee(np.ones(3), seed=s).fit(*made(100, [1.0, 0.0, 0.0], seed=s)).playing
        for s in range(8)
    ]
    assert sum(opened) <= 2
    assert Committee(np.ones(3)).fit(*made(2000, [0.7, 0.7, 0.7])).playing


def test_while_gated_the_best_single_arm_answers_alone(made):
    margins, label = made(200, [0.1, 1.5, 0.1])
    committee = Committee(np.ones(3)).fit(margins, label)
    assert not committee.playing
    prob, _, asked = committee.judge(margins)
    assert asked.sum(0).tolist() == [0, 200, 0]
    assert ((prob > 0.5) == (margins[:, 1] > 0)).all()
    assert committee.order == (1,)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_duplicate_adds_neither_confidence_nor_calls(made, noise):
    margins, label = made(1500, [0.8, 0.6, 0.5], seed=3)
    twin = np.column_stack(
        [margins, margins[:, 0] + noise * np.random.default_rng(0).normal(size=1500)]
    )
    alone = Committee(np.ones(3), gate="off").fit(margins, label)
    doubled = Committee(np.ones(4), gate="off").fit(twin, label)
    p, calls, _ = alone.judge(margins)
    q, more, asked = doubled.judge(twin)
    assert (asked[:, 0] & asked[:, 3]).mean() < 0.02
    assert more.mean() < calls.mean() + 0.05
    assert np.abs(np.log(q / (1 - q))).mean() < np.abs(np.log(p / (1 - p))).mean() * 1.03


def test_cheap_arms_are_asked_first_and_dear_ones_rarely(made):
    margins, label = made(2000, [0.9, 0.7, 0.7])
    equal = Committee([1.0, 1.0, 1.0], gate="off").fit(margins, label)
    priced = Committee([8.0, 1.0, 1.0], price=0.005, gate="off").fit(margins, label)
    assert equal.order[0] == 0
    assert priced.order[0] in (1, 2)
    assert priced.judge(margins)[2][:, 0].mean() < equal.judge(margins)[2][:, 0].mean() / 2


def test_the_unit_of_cost_does_not_matter(made):
    margins, label = made(400, [0.8, 0.7, 0.4])
    calls = Committee([1.0, 2.0, 1.0], price=0.01, gate="off").fit(margins, label)
    money = Committee([0.001, 0.002, 0.001], price=10.0, gate="off").fit(margins, label)
    assert np.allclose(calls.judge(margins)[0], money.judge(margins)[0])


def test_a_higher_price_asks_less_and_price_can_change_per_call(made):
    margins, label = made(1000, [0.6] * 5)
    committee = Committee(np.ones(5), gate="off").fit(margins, label)
    calls = [
        committee.judge(margins, price=price)[1].mean() for price in (0.0, 0.001, 0.01, 0.1, 1.0)
    ]
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == 1
    assert committee.next({0: 0.1}, price=1.0) is None


def test_an_unseen_category_is_judged_as_no_category(made):
    margins, label = made(900, [0.8, 0.6])
    category = np.array(["x", "y", "z"])[np.arange(900) % 3]
    margins[category == "y", 0] *= -1
    committee = Committee([1, 1], gate="off").fit(margins, label, None, category.tolist())
    assert committee.plan is not None
    assert committee.plan.by_category
    unseen, plain = committee.judge(margins, ["new"] * 900)[0], committee.judge(margins)[0]
    assert (unseen == plain).all()
    assert (committee.judge(margins, category.tolist())[0] != plain).any()


def test_useless_categories_are_not_used(made):
    used = []
    for seed in range(6):
        margins, label = made(300, [0.8, 0.6], seed=seed)
        category = [str(c) for c in np.random.default_rng(seed).integers(0, 6, 300)]
        plan = Committee([1, 1], gate="off").fit(margins, label, None, category).plan
        used.append(plan is not None and plan.by_category)
    assert sum(used) <= 2


def test_another_may_choose_the_first_arm(made):
    margins, label = made(800, [0.8, 0.7, 0.6, 0.0])
    committee = Committee(np.ones(4), gate="off").fit(margins, label)
    for first in (1, 2, 3):
        asked = {first: 0.01}
        assert committee.next(asked) in set(range(4)) - {first}
    gated = Committee(np.ones(4), gate="lower95").fit(*made(60, [0.8, 0.0, 0.0, 0.0]))
    assert gated.playing or gated.next({3: 0.5}) is None


def test_a_veto_only_says_no(made):
    margins, label = made(400, [0.5, 0.5, 0.0])
    refuses_b = np.arange(400) % 5 == 0
    margins[:, 2] = np.where(refuses_b & label, 1.0, np.where(np.arange(400) % 2 == 0, 0.0, np.nan))
    committee = Committee(np.ones(3), gate="off", vetoes=(2,)).fit(margins, label)
    plain = Committee(np.ones(2), gate="off").fit(margins[:, :2], label)
    prob, _, asked = committee.judge(margins)
    vetoed = margins[:, 2] == 1
    assert (prob[vetoed] > 0.9).all()
    assert (asked[vetoed].sum(1) == 1).all()
    assert np.allclose(prob[~vetoed], plain.judge(margins[:, :2])[0][~vetoed])
    assert (asked[:, 2] == ~np.isnan(margins[:, 2])).all()
    assert committee.next({}) == 2
    assert committee.next({2: 1.0}) is None
    assert committee.next({2: 0.0}) is not None


def test_a_budget_is_met(made):
    margins, label = made(5200, [0.5] * 6)
    for budget in (1.5, 2.5):
        committee = Committee(np.ones(6), gate="off", budget=budget).fit(
            margins[:1200], label[:1200]
        )
        calls = committee.judge(margins[1200:])[1]
        average = np.cumsum(calls) / np.arange(1, len(calls) + 1)
        assert abs(average[-1] / budget - 1) < 0.02
        assert average[1000:].max() < budget * 1.01


def test_a_budget_below_the_first_arm_is_refused(made):
    margins, label = made(200, [0.5, 0.5])
    with pytest.raises(InputError, match="below"):
        Committee([1, 1], gate="off", budget=0.5).fit(margins, label).judge(margins)


def test_state_is_restored_bit_for_bit(made):
    margins, label = made(300, [0.8, 0.6, 0.4])
    category = ["x" if i % 3 else "y" for i in range(300)]
    first, second = Committee(np.ones(3)).fit(margins, label, None, category), Committee(np.ones(3))
    state = first.state_dict()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
    second.load_state_dict(state)
    assert second.playing == first.playing
    assert second.gate == first.gate
    assert all(
        (a == b).all()
        for a, b in zip(
            first.judge(margins, category), second.judge(margins, category), strict=True
        )
    )
    with pytest.raises(InputError, match="3 arms"):
        Committee(np.ones(2)).load_state_dict(state)


def test_sixty_four_arms(made):
    margins, label = made(200, [0.9, 0.8, *[0.2] * 62], shared=0.5)
    committee = Committee(np.ones(64), gate="off").fit(margins, label)
    _, calls, _ = committee.judge(margins)
    assert calls.max() <= 16
    assert sum(a.nbytes for a in committee.state_dict().values()) < 400_000


def test_few_labels_or_one_side_are_not_believed(made):
    margins, label = made(9, [3.0, 0.0])
    committee = Committee([1, 1]).fit(margins, label)
    assert committee.plan is None
    assert np.allclose(committee.judge(margins)[0], 0.5, atol=1e-6)
    with pytest.raises(InputError, match="same side"):
        committee.fit(margins, np.ones(9, bool))
    wide, few = made(12, [0.5] * 30)
    few[:2] = [True, False]
    assert Committee(np.ones(30)).fit(wide, few).judge(wide)[1].max() == 1


@pytest.mark.parametrize("prompts", [1, 2, 4])
def test_labels_of_a_few_prompts_are_not_believed(made, prompts):
    """Prompts are held out whole, so that so few leave nothing to compare on: one arm plays."""
    margins, labels = made(60, [1.0, 2.0, 0.5])
    committee = Committee([1, 1, 1]).fit(margins, labels, np.arange(60) % prompts)
    assert committee.plan is None
    assert (committee.judge(margins)[1] == 1).all()


def test_constant_and_missing_arms_carry_no_confidence(made):
    margins, label = made(200, [0.8])
    dull = np.column_stack([np.full(200, 3.0), np.full(200, np.nan), margins])
    committee = Committee(np.ones(3), gate="off").fit(dull, label)
    assert committee.order[0] == 2
    prob, _, _ = committee.judge(np.full((3, 3), np.nan))
    assert (prob == 0.5).all()
    empty = Committee([1, 1], gate="off").fit(np.full((40, 2), np.nan), np.arange(40) % 2 == 0)
    assert np.allclose(empty.judge(np.ones((2, 2)))[0], 0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"costs": [1, -1]}, "costs"),
        ({"costs": [1, np.nan]}, "costs"),
        ({"costs": []}, "costs"),
        ({"costs": [1, 1], "price": -0.1}, "price"),
        ({"costs": [1, 1], "max_calls": 0}, "max_calls"),
        ({"costs": [1, 1], "gate": "maybe"}, "gate"),
        ({"costs": [1, 1], "vetoes": [0, 1]}, "vetoes"),
        ({"costs": [1, 1], "budget": 0.0}, "budget"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        Committee(**settings)


def test_bad_rows_are_named(made):
    margins, label = made(50, [0.5, 0.5])
    committee = Committee([1, 1])
    for arguments, words in (
        ((margins, label[:-1]), "labels"),
        ((margins[:, :1], label), "columns"),
        ((margins, label, np.arange(49)), "groups"),
        ((margins, label, None, ["x"]), "categories"),
    ):
        with pytest.raises(InputError, match=words):
            committee.fit(*arguments)
    with pytest.raises(InputError, match="weights"):
        committee.fit(margins, label, weights=-np.ones(50))


def biased(n: int, bias: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two good arms that share a bias, and one that measures the bias only.

    Signed weights subtract it.
    """
    rng = np.random.default_rng(seed)
    label, shared = rng.random(n) < 0.5, rng.normal(size=n) * bias
    sign = np.where(label, 1.0, -1.0)
    return np.column_stack(
        [
            0.8 * sign + shared + rng.normal(size=n),
            0.6 * sign + shared + rng.normal(size=n),
            shared + 0.2 * rng.normal(size=n),
        ]
    ), label


def test_signed_weights_are_taken_only_where_they_carry_over():
    one, two = biased(600, 2.0, 0), biased(600, 2.0, 1)
    margins, label = np.vstack([one[0], two[0]]), np.concatenate([one[1], two[1]])
    source = ["one"] * 600 + ["two"] * 600
    committee = Committee(np.ones(3), gate="off").fit(margins, label, sources=source)
    assert committee.free is not None
    assert committee.free.open
    assert committee.plan.signed
    p, _ = ask_all(committee, margins[0])
    assert abs(p - committee.judge(margins[:1])[0][0]) < 1e-6
    flipped = margins.copy()
    flipped[600:, 2] *= -1
    stays = Committee(np.ones(3), gate="off").fit(flipped, label, sources=source)
    assert stays.free is not None
    assert not stays.free.open
    assert not stays.plan.signed
    assert Committee(np.ones(3), gate="off").fit(margins, label).free is None
