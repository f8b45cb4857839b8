"""Online and cross-fitted runs.

Who learns from what, when, and never from the rows it is judged on.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.replay import baselines, embed, feedback, methods
from reward_router.replay.feedback import Feedback
from reward_router.replay.protocols import (
    Split,
    crossfit,
    folds,
    hindsight,
    online,
    rows_by_group,
    splits,
    visits,
)
from reward_router.replay.records import Records
from reward_router.routers import LinUCB
from reward_router.types import AnyFloat, Float, Int

CORRECT = Feedback("correct")


class Spy:
    """A router that always picks one arm and notes what it was shown and told, in order."""

    def __init__(self, n_arms: int, arm: int = 0) -> None:
        self.n_arms, self.arm = n_arms, arm
        self.events: list[tuple[str, Any]] = []

    def probs(self, context_BD: AnyFloat) -> Float:
        self.events.append(("asked", len(context_BD)))
        return np.tile(np.eye(self.n_arms)[self.arm], (len(context_BD), 1))

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        assert propensity_B is not None
        assert (propensity_B == 1.0).all()
        self.events.append(("told", payoff_B.tolist()))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        raise AssertionError("never loaded")


def told(spy: Spy) -> list[float]:
    return [p for kind, payoffs in spy.events if kind == "told" for p in payoffs]


def test_a_prompts_payoffs_are_released_after_the_prompt(records: Records) -> None:
    spy = Spy(4)
    run = online(records, embed.build(records, "none"), spy, CORRECT, seed=3)
    assert [kind for kind, _ in spy.events] == ["asked", "told"] * records.n_groups
    assert all(
        n == 1 for kind, n in spy.events if kind == "asked"
    )  # one context a prompt: asked once
    expected = records.correct_PK[visits(records, 3), 0]
    assert told(spy) == expected.tolist()
    assert run.accuracy_P.tolist() == records.correct_PK[:, 0].tolist()


def test_delay_postpones_and_keeps_the_order(records: Records) -> None:
    spy = Spy(4)
    online(records, embed.build(records, "none"), spy, Feedback("correct", delay=7), seed=3)
    kinds = [kind for kind, _ in spy.events]
    assert kinds[:6] == [
        "asked",
        "asked",
        "asked",
        "asked",
        "told",
        "asked",
    ]  # 3 rows wait until 3 + 7 <= rows seen
    expected = records.correct_PK[visits(records, 3), 0]
    assert told(spy) == expected[: len(told(spy))].tolist()
    assert len(told(spy)) == len(records) - 9


def test_sparse_labels_reach_the_router_at_their_rate(records: Records) -> None:
    spy = Spy(4)
    online(records, embed.build(records, "none"), spy, Feedback("correct", fraction=0.3), seed=0)
    assert abs(len(told(spy)) / len(records) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(records))


class Drawn(Spy):
    """Notes the arms and propensities it was told of."""

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        assert propensity_B is not None
        self.events += [
            ("told", [pair]) for pair in zip(arm_B.tolist(), propensity_B.tolist(), strict=True)
        ]


def test_missing_scores_are_drawn_by_nobody(records: Records) -> None:
    """Where the one arm that a router wants has no score, the others judge alike.

    That is the propensity it is told.
    """
    records.first_PK[::2, 0] = np.nan
    spy = Drawn(4)
    run = online(records, embed.build(records, "none"), spy, CORRECT, seed=0)
    pairs = [pair for what, values in spy.events if what == "told" for pair in values]
    assert sum(pair == (0, 1.0) for pair in pairs) == len(records) // 2
    assert len(pairs) == len(records)
    assert all(arm > 0 and p == pytest.approx(1 / 3) for arm, p in pairs if (arm, p) != (0, 1.0))
    assert run.share_K == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])


def test_rows_that_nobody_scored_teach_nothing(records: Records) -> None:
    records.first_PK[::2] = np.nan
    spy = Spy(4)
    online(records, embed.build(records, "none"), spy, CORRECT, seed=0)
    assert len(told(spy)) == len(records) // 2


def test_online_runs_repeat_bit_for_bit_and_differ_between_seeds(records: Records) -> None:
    contexts = embed.build(records, "category")
    runs = [
        online(records, contexts, LinUCB(4, contexts.width), CORRECT, seed) for seed in (1, 1, 2)
    ]
    assert np.array_equal(runs[0].accuracy_P, runs[1].accuracy_P)
    assert not np.array_equal(runs[0].accuracy_P, runs[2].accuracy_P)


def test_linucb_learns_the_categories(records: Records) -> None:
    contexts = embed.build(records, "category")
    late = [
        online(records, contexts, LinUCB(4, contexts.width, alpha=0.3), CORRECT, s).share_TK
        for s in range(8)
    ]
    shares = np.mean([s[-10:] for s in late if s is not None], axis=(0, 1))
    assert shares[records.arms.index("mathy")] + shares[records.arms.index("chatty")] > 0.6


def test_share_accuracy_and_regret_agree(records: Records) -> None:
    contexts = embed.build(records, "category")
    run = online(records, contexts, LinUCB(4, contexts.width), CORRECT, 0)
    best_P, _ = hindsight(records)
    assert run.share_K.sum() == pytest.approx(1.0, abs=1e-6)
    assert run.share_TK is not None
    assert run.regret_T is not None
    assert run.category_regret_T is not None
    assert run.regret_T[-1] == pytest.approx(float((best_P - run.accuracy_P).sum()), abs=1e-4)
    assert run.category_regret_T[-1] >= run.regret_T[-1]


def test_hindsight_bests(records: Records) -> None:
    best_P, category_P = hindsight(records)
    assert best_P.mean() == records.correct_PK.mean(axis=0).max()
    by_category = [records.correct_PK[records.category_P == c].mean(axis=0).max() for c in (0, 1)]
    assert category_P.mean() == pytest.approx(np.mean(by_category))


def test_folds_never_split_a_prompt_and_cover_every_row_once(records: Records) -> None:
    for repeat in range(3):
        tested = []
        for train_P, test_P in folds(records.group_P, 5, repeat):
            assert not set(records.group_P[train_P]) & set(records.group_P[test_P])
            assert len(train_P) + len(test_P) == len(records)
            tested.append(test_P)
        assert sorted(np.concatenate(tested).tolist()) == list(range(len(records)))


def test_rows_by_group() -> None:
    assert [g.tolist() for g in rows_by_group(np.array([1, 0, 1, 2]))] == [[1], [0, 2], [3]]


def test_crossfit_methods_never_see_a_test_label(records: Records) -> None:
    """Turning round one fold's test labels leaves what is decided there unchanged.

    The accuracy becomes 1 - accuracy.
    """
    paid = (
        "committee",
        *methods._BAYES,
    )  # they are paid on the judged rows; what reaches their prior: test_replay_bayesian
    chosen = {name: methods._CROSSFIT[name][2]() for name in methods._CROSSFIT if name not in paid}
    train_P, test_P = next(folds(records.group_P, 5, 0))
    contexts = embed.build(records, "category")
    before = {n: m(Split(records, contexts, train_P, test_P)) for n, m in chosen.items()}
    flipped = records.label_P.copy()
    flipped[test_P] *= -1
    turned = replace(records, label_P=flipped)
    for name, method in chosen.items():
        accuracy_T, asked_TK = method(Split(turned, contexts, train_P, test_P))
        assert np.allclose(accuracy_T, 1 - before[name][0]), name
        assert np.array_equal(asked_TK, before[name][1]), name


def test_swapping_the_sides_of_rows_changes_nothing(records: Records) -> None:
    """Every aggregate is symmetric.

    Exchanging a and b on any rows, scores and label alike, gives the same accuracy.
    """
    swap_P = np.random.default_rng(1).random(len(records)) < 0.5
    first_PK, second_PK = records.first_PK.copy(), records.second_PK.copy()
    first_PK[swap_P], second_PK[swap_P] = records.second_PK[swap_P], records.first_PK[swap_P]
    turned = replace(
        records,
        first_PK=first_PK,
        second_PK=second_PK,
        label_P=np.where(swap_P, -records.label_P, records.label_P).astype(np.int8),
    )
    contexts = embed.build(records, "category")
    chosen = {
        name: methods._CROSSFIT[name][2]() for name in methods._CROSSFIT if name != "committee"
    }
    one, two = (crossfit(splits(r, contexts, 5, 0), chosen) for r in (records, turned))
    for name in chosen:
        assert np.allclose(one[name].accuracy_P, two[name].accuracy_P), name


def test_pca_is_fitted_on_the_training_side_only(records: Records) -> None:
    contexts = embed.build(
        records,
        "prompt",
        encoder=(lambda texts: np.random.default_rng(0).normal(size=(len(texts), 40)), "noise"),
    )
    train_U = np.arange(30)
    before = contexts.fit(train_U)
    contexts.learned_UE[30:] *= 100.0
    after = contexts.fit(train_U)
    assert np.allclose(before[:30], after[:30])


def test_online_contexts_use_the_past_only(records: Records) -> None:
    contexts = embed.build(
        records,
        "prompt",
        encoder=(lambda texts: np.random.default_rng(0).normal(size=(len(texts), 40)), "noise"),
    )
    order = np.random.default_rng(2).permutation(60)
    before = contexts.online(order)
    contexts.learned_UE[order[50:]] *= -7.0
    after = contexts.online(order)
    assert np.allclose(before[order[:50]], after[order[:50]])
    assert (before[order[:16], 1:] == 0).all()


@pytest.mark.parametrize(
    "features",
    ["none", "category", "lengths", "category+lengths", "prompt", "pair", "prompt+category"],
)
def test_contexts_have_bounded_norm(records: Records, features: str) -> None:
    contexts = embed.build(
        records,
        features,
        encoder=(lambda texts: np.random.default_rng(0).normal(size=(len(texts), 40)), "noise"),
    )
    rows_UD = contexts.fit(np.arange(40))
    assert rows_UD.shape[1] == contexts.width
    assert np.linalg.norm(rows_UD, axis=1).max() <= 1 + 1e-9
    assert contexts.unit_P.max() + 1 == (
        180 if {"pair", "lengths"} & set(features.split("+")) else 60
    )


def test_features_that_the_file_cannot_give_are_refused(records: Records) -> None:
    bare = replace(records, prompts=(), responses=())
    for features in ("prompt", "pair", "lengths"):
        with pytest.raises(InputError, match=features):
            embed.build(bare, features)
    with pytest.raises(InputError, match="allowed"):
        embed.parse_contexts("prompt+magic")
    assert embed.build(bare, "auto").blocks == ("category",)


def test_agreement_pays_what_others_say(records: Records) -> None:
    payoff_PK = feedback.parse_feedback("agreement:others=3").matrix(records, 0)
    sign_PK = np.sign(records.margins_PK)
    expected = np.stack(
        [
            np.mean([0.5 + 0.5 * sign_PK[:, k] * sign_PK[:, j] for j in range(4) if j != k], axis=0)
            for k in range(4)
        ],
        axis=1,
    )
    assert np.allclose(payoff_PK, expected)
    assert feedback.parse_feedback("agreement:others=3").extra_calls == 3


def test_agreement_never_asks_the_arm_itself(records: Records) -> None:
    records.first_PK[:, 0] = records.label_P * 9.0
    records.first_PK[:, 1:] = -records.label_P[:, None] * 9.0
    records.second_PK[:] = 0.0
    payoff_PK = feedback.parse_feedback("agreement:others=1").matrix(records, 0)
    assert (payoff_PK[:, 0] == 0).all()
    assert abs(payoff_PK[:, 1].mean() - 2 / 3) < 4 * np.sqrt(2 / 9 / len(records))


def halves(records: Records) -> Float:
    return np.full(records.margins_PK.shape, 0.5)


def wrong_shape(records: Records) -> Float:
    return np.zeros(3)


def out_of_range(records: Records) -> Float:
    return np.full(records.margins_PK.shape, 2.0)


def test_custom_payoffs_are_checked(records: Records) -> None:
    assert (Feedback("mine", custom=halves).matrix(records, 0) == 0.5).all()
    for bad in (wrong_shape, out_of_range):
        with pytest.raises(InputError, match="custom payoff"):
            Feedback("mine", custom=bad).matrix(records, 0)


@pytest.mark.parametrize(
    "text",
    [
        "corect",
        "correct:fraction=2",
        "correct:delay=x",
        "correct:late=1",
        "no.such.module:function",
        "json:absent",
        "agreement:others=0",
    ],
)
def test_unknown_payoffs_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        feedback.parse_feedback(text)


def test_fit_logistic_is_the_penalised_optimum() -> None:
    from scipy.optimize import minimize

    draw = np.random.default_rng(0)
    x_TD = np.hstack([np.ones((200, 1)), draw.normal(size=(200, 3))])
    y_T = (draw.random(200) < 1 / (1 + np.exp(-x_TD @ [0.3, 1.0, -1.0, 0.0]))).astype(float)
    penalty_D = np.array([1e-6, 1.0, 1.0, 1.0])

    def loss(w: Float) -> float:
        z = x_TD @ w
        return float(np.logaddexp(0, z).sum() - y_T @ z + 0.5 * penalty_D @ w**2)

    found = baselines.fit_logistic(x_TD, y_T[:, None], 1.0)[:, 0]
    assert np.allclose(found, minimize(loss, np.zeros(4), method="BFGS").x, atol=2e-3)
