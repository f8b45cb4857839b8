"""BayesianRouter in replay.

What it may learn from, its ablations by name, and a prior that is wrong.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.replay import bayesian, embed, methods
from reward_router.replay.columns import collect
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.feedback import Feedback
from reward_router.replay.offline_stage import (
    Fitted,
    _dev_rows,
    from_artifact,
    no_prior,
    offline_stage,
    with_prior,
)
from reward_router.replay.protocols import Split, folds
from reward_router.replay.records import Records
from reward_router.routers.trusted import TrustedThompson

torch = pytest.importorskip("torch", reason="strengths are learned with torch")
SMALL = (8, 0.2, False)  # dim, lambda, balance


def split_of(records: Records, feedback: Feedback | None = None) -> Split:
    train_P, test_P = next(iter(folds(records.group_P, 3, 0)))
    return Split(
        records, embed.build(records, "category"), train_P, test_P, feedback or Feedback("correct")
    )


def arrays(fitted: Fitted) -> dict[str, Any]:
    return dict(vars(fitted))


def turned(records: Records, rows: np.ndarray) -> Records:
    label_P = records.label_P.copy()
    label_P[rows] = rng(0, "data", 0, "turned").permutation(label_P[rows])
    return replace(records, label_P=label_P)


@pytest.mark.parametrize("payoff", [Feedback("correct"), Feedback("agreement", others=2)])
def test_labels_of_the_judged_rows_do_not_reach_the_prior(
    records: Records, payoff: Feedback
) -> None:
    split = split_of(records, payoff)
    other = replace(split, records=turned(records, split.test_P), shared={})
    assert (other.records.label_P != records.label_P).any()
    mine, theirs = (arrays(offline_stage(s, *SMALL)) for s in (split, other))
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_labels_of_the_training_rows_do(records: Records) -> None:
    split = split_of(records)
    other = replace(split, records=turned(records, split.train_P), shared={})
    mine, theirs = (offline_stage(s, *SMALL) for s in (split, other))
    assert (mine.score_PK != theirs.score_PK).any()


def test_it_finds_which_arm_knows_what(records: Records) -> None:
    names = [
        "bayesian:dim=8",
        "bayesian:without=online,dim=8",
        "bayesian:without=offline,dim=8",
        "best_train",
        "uniform",
    ]
    found = evaluate_methods(records, ReplaySettings(names, "category", seeds=2, folds=3))[
        "routers"
    ]
    accuracy = {name: entry["accuracy"] for name, entry in found.items()}
    assert accuracy["bayesian:without=online,dim=8"] > accuracy["uniform"]
    assert (
        accuracy["bayesian:dim=8"]
        > accuracy["bayesian:without=offline,dim=8"]
        > accuracy["uniform"]
    )
    assert found["bayesian:dim=8"]["kind"] == "online"
    assert found["bayesian:without=online,dim=8"]["kind"] == "one call"
    assert found["bayesian:dim=8"]["calls_per_row"] == pytest.approx(1.0)


def test_weighted_score_at_its_ends_is_an_ablation(records: Records) -> None:
    split = split_of(records)
    ends = {1.0: "online", 0.0: "offline"}
    for a, without in ends.items():
        mine = bayesian.weighted_score(a=a, dim=8)(split)
        theirs = bayesian.bayesian_method(without=without, dim=8)(split)
        np.testing.assert_allclose(mine[0], theirs[0], atol=1e-9)
        np.testing.assert_allclose(mine[1], theirs[1], atol=1e-9)
    between = bayesian.weighted_score(a=0.5, dim=8)(split)[0].mean()
    assert between > 0


def test_agreement_payoffs_cost_their_calls(records: Records) -> None:
    _, asked_TK, _ = bayesian.bayesian_method(dim=8)(
        split_of(records, Feedback("agreement", others=2))
    )
    np.testing.assert_allclose(asked_TK.sum(axis=1), 3.0)


def test_the_last_third_is_that_of_the_streams(records: Records) -> None:
    """Of all folds together it has a third of the rows; one pass by hand gives the same sums."""
    split = split_of(records)
    fitted = offline_stage(split, *SMALL)
    p_TK, late_3 = bayesian.online_stage(split, fitted.h_PD, lambda: with_prior(fitted))
    correct_PK = split.records.correct_PK
    best = correct_PK.mean(axis=0).argmax()
    assert late_3[0] == len(split.test_P) - -(-2 * len(split.test_P) // 3)

    right = regret = 0.0
    for seed in range(bayesian.ORDERS):
        groups = bayesian.judged_groups(split)
        order_G = rng(seed, "order", 2, "bayesian").permutation(len(groups))
        blocks = [groups[g] for g in order_G]
        pass_TK = bayesian.one_pass(split, fitted.h_PD, with_prior(fitted), blocks, seed)
        places = {row: place for place, row in enumerate(split.test_P.tolist())}
        for row in np.concatenate(blocks).tolist()[-int(late_3[0]) :]:
            accuracy = float(pass_TK[places[row]] @ correct_PK[row])
            right += accuracy
            regret += float(correct_PK[row, best]) - accuracy
    np.testing.assert_allclose(late_3[1:], [right / bayesian.ORDERS, regret / bayesian.ORDERS])
    np.testing.assert_allclose(p_TK.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", ["bayesian:dim=8", "weighted_score:dim=8", "laser", "exp3"])
def test_every_online_method_has_a_last_third_in_the_json(records: Records, name: str) -> None:
    result = evaluate_methods(records, ReplaySettings(routers=[name], seeds=1, folds=3))
    late = result["routers"][name]["last_third"]
    assert 0 <= late["accuracy"] <= 1
    assert abs(late["regret"]) <= len(records) / 3


def test_a_run_repeats_bit_for_bit(records: Records) -> None:
    one, two = (bayesian.bayesian_method(dim=8)(split_of(records))[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_stale_prior_is_given_up(rows: list[dict[str, Any]]) -> None:
    """Arms of the prior permuted so that the best one is taken for the worst.

    What that may cost is in the tests of TrustedThompson.
    """
    copies = [{**row, "prompt": f"{copy} {row['prompt']}"} for copy in range(6) for row in rows]
    split = split_of(collect("longer", ((str(i), row) for i, row in enumerate(copies))))
    fitted = offline_stage(split, *SMALL)
    rank = split.records.correct_PK.mean(axis=0).argsort()
    other = np.empty_like(rank)
    other[rank] = rank[::-1]
    stale = replace(fitted, strength_KD=fitted.strength_KD[other], offset_K=fitted.offset_K[other])
    truth_TK = split.records.correct_PK[split.test_P]
    ways = {
        "stale": lambda: with_prior(stale),
        "stale outright": lambda: with_prior(stale, 1.0),
        "none": lambda: no_prior(fitted),
        "good": lambda: with_prior(fitted),
    }
    right = {
        n: (bayesian.online_stage(split, fitted.h_PD, w)[0] * truth_TK).sum()
        for n, w in ways.items()
    }
    assert right["none"] - right["stale"] < 0.5 * (right["none"] - right["stale outright"])
    assert right["good"] > right["none"]


def test_a_stream_hardly_moves_a_prior_that_is_worth_much(records: Records) -> None:
    """Its part of the mixture stays; the dev rows alone may say that it is worth a pair."""
    split = split_of(records)
    fitted = replace(offline_stage(split, *SMALL), precision=1.0, offset_precision=1.0)
    x_1D = fitted.h_PD[:1]
    expected_K = (x_1D @ fitted.strength_KD.T + fitted.offset_K)[0]

    def moved(worth: float) -> float:
        router = with_prior(fitted, worth=worth)
        assert isinstance(router, TrustedThompson)
        for arm in (0, 1, 0, 1):
            router.update(x_1D, np.array([arm]), np.array([float(arm)]))
        # what all arms share is the level of payoffs, which no arm is preferred for
        return float(np.ptp(router.informed.posterior(x_1D)[0][0] - expected_K))

    assert moved(1000.0) < 0.02 < 0.2 < moved(0.0)


def test_a_dev_split_without_anything_to_tell_is_drawn_again() -> None:
    """Two of thirty prompts tell arms apart: most draws leave the dev side without one."""
    right_TK = np.ones((30, 3))
    right_TK[[4, 21], 0] = 0.0
    for seed in range(5):
        dev_T = _dev_rows(np.arange(30), right_TK, seed)
        assert dev_T[[4, 21]].sum() == 1
        assert dev_T.sum() == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bayesian:without=onlin", r"without=onlin; did you mean online\?.*online, offline, cls"),
        ("bayesian:without=pca", r"without=pca.*allowed: online, offline, cls"),
        ("bayesian:trust=0", r"trust=0.0, allowed: above 0"),
        ("bayesian:worth=-1", r"worth must lie in \[0, 1e\+09\], got -1"),
        ("bayesian:deep=3", r"unknown key 'deep'.*without"),
        ("weighted_score:a=2", r"a=2.0, allowed: 0"),
        ("bayesan", r"did you mean bayesian\?"),
        (
            "bayesian:without=cls,prior=somewhere",
            r"without=cls is decided when strengths are learned",
        ),
    ],
)
def test_bad_options_are_one_clear_line(records: Records, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        methods.plan([name], records)
    assert "\n" not in str(caught.value)


def test_without_torch_it_says_what_to_install(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torch, which is absent: pip install"):
        methods.plan(["bayesian"], records)
    assert methods.plan(["linucb"], records)


def test_missing_scores_and_rows_where_all_agree_are_bearable(rows: list[dict[str, Any]]) -> None:
    for row in rows[::7]:
        row["scores"].pop("mathy")
    for row in rows[::5]:
        row["scores"] = dict.fromkeys(
            row["scores"], [1.0, 0.0] if row["label"] == "a" else [0.0, 1.0]
        )
    records = collect("holes", ((str(i), row) for i, row in enumerate(rows)))
    accuracy_T, asked_TK, _ = bayesian.bayesian_method(dim=8)(split_of(records))
    assert np.isfinite(accuracy_T).all()
    np.testing.assert_allclose(asked_TK.sum(axis=1), 1.0)


def test_a_prior_folder_that_is_none_is_named(records: Records, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a whole artifact"):
        from_artifact(str(tmp_path), records)
