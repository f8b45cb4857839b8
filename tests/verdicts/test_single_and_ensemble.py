"""One arm and an ensemble against brute force.

Tested are noise, shared responses, and who answers where an arm abstains.
"""

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward_router.pairs import form_pairs
from reward_router.rewards.pool import RewardPool
from reward_router.testing import FakeArm
from reward_router.types import By, Decision, Float
from reward_router.verdicts.asking import Asker, zscores
from reward_router.verdicts.batch import Batch, Unit, Verdicts
from reward_router.verdicts.ensemble import Ensemble, How, majority
from reward_router.verdicts.single import SingleArm

PROMPTS = ["p0", "p1"]
RESPONSES = [["a", "bb", "ccc"], ["dddd", "e", "ff"]]
WHOLE = [Unit("p0", ((0, (0, 1, 2)),)), Unit("p1", ((1, (0, 1, 2)),))]


def judged(
    mode: SingleArm | Ensemble,
    decided: Sequence[Decision],
    units: Sequence[Unit] = WHOLE,
    responses: Sequence[Sequence[str]] = RESPONSES,
    **fields: Any,
) -> Verdicts:
    """What ``mode`` says of these units."""
    prompts = PROMPTS[: len(responses)]
    fields.setdefault("step", 0)
    return mode.judge(
        Batch(
            prompts=prompts,
            ids=prompts,
            responses=responses,
            units=list(units),
            decisions=list(decided),
            **fields,
        )
    )


def single(
    models: Any,
    costs: dict[str, float] | None = None,
    fallback: str | None = None,
    noise: float = 0.0,
) -> SingleArm:
    pool = models if isinstance(models, RewardPool) else RewardPool({}, models=dict(models))
    asker = Asker(pool, costs, fallback=fallback)
    asker.noise, asker.seed = noise, 3
    return SingleArm(asker)


Scores = dict[str, dict[str, float]]


def table() -> Scores:
    """What three arms say of every response; the fourth says nothing of p0."""
    draw = np.random.default_rng(0)
    texts = [r for group in RESPONSES for r in group]
    scores = {}
    for name in "xyz":
        scores[name] = {r: float(x) for r, x in zip(texts, draw.normal(3, 2, 6), strict=True)}
    scores["half"] = {"dddd": 1.0, "e": 2.0, "ff": 3.0}
    return scores


def fakes(scores: Scores) -> dict[str, FakeArm]:
    return {name: FakeArm.of(known) for name, known in scores.items()}


def decisions(*names: str) -> list[Decision]:
    return [
        Decision(f"{i:032x}", f"u{i}", 0, 0, name, 1.0, np.ones(1)) for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("kind", ["zscore", "raw"])
def test_ensemble_equals_brute_force(kind: Literal["zscore", "raw"]) -> None:
    nobody = [
        Decision(f"{i:032x}", f"u{i}", 0, -1, "", 1.0, np.zeros(4), by=By.ENSEMBLE)
        for i in range(2)
    ]
    got = judged(Ensemble(Asker(RewardPool({}, models=dict(fakes(table())))), kind), nobody)
    columns = []
    for known in table().values():
        flat = np.array([known.get(r, np.nan) for group in RESPONSES for r in group])
        columns.append((flat - np.nanmean(flat)) / np.nanstd(flat) if kind == "zscore" else flat)
    wanted = np.nanmean(columns, axis=0).reshape(2, 3)
    assert np.allclose([parts[0] for parts in got.scores], wanted)
    assert len(got.calls) == 4 * 6


def _by_all(how: How, penalty: float = 1.0) -> Verdicts:
    nobody = [
        Decision(f"{i:032x}", f"u{i}", 0, -1, "", 1.0, np.zeros(4), by=By.ENSEMBLE)
        for i in range(2)
    ]
    pool = RewardPool({}, models=dict(fakes(table())))
    return judged(Ensemble(Asker(pool), how, penalty), nobody)


@pytest.mark.parametrize("penalty", [0.0, 0.5, 2.0])
def test_uwo_is_the_mean_less_the_variance_of_z_scores(penalty: float) -> None:
    got = _by_all("uwo", penalty)
    flat = [response for group in RESPONSES for response in group]
    for u, group in enumerate(RESPONSES):
        for n, response in enumerate(group):
            z_scores = []
            for known in table().values():
                values = np.array(list(known.values()))
                if response in known:
                    z_scores.append((known[response] - values.mean()) / values.std())
            spread = statistics.pvariance(z_scores)
            wanted = statistics.fmean(z_scores) - penalty * spread
            assert got.scores[u][0][n] == pytest.approx(wanted)
    assert len(got.calls) == 4 * len(flat)


def test_a_majority_counts_votes_on_every_pair() -> None:
    got = _by_all("majority")
    for u, group in enumerate(RESPONSES):
        for i, first in enumerate(group):
            for j, second in enumerate(group):
                both = [k for k in table().values() if first in k and second in k]
                ballots = [np.sign(known[first] - known[second]) for known in both]
                wanted = sum(ballots) / len(ballots)
                assert got.gaps[u, 0][i, j] == pytest.approx(wanted)
        others = [np.delete(got.gaps[u, 0][i], i).mean() for i in range(len(group))]
        assert np.allclose(got.scores[u][0], others)


def test_a_majority_is_not_the_mean() -> None:
    # Two arms like the first a little better, the third likes the second much better.
    votes_NN = majority([[1.0, 0.9], [1.0, 0.9], [0.0, 90.0]])
    assert votes_NN[0, 1] == pytest.approx(1 / 3)
    # Round in a circle: each response beats the next by two votes of three.
    circle_NN = majority([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
    texts = ["a", "b", "c"]
    rng = np.random.default_rng(0)
    pairs = form_pairs(np.zeros(3), texts, 10, rng, gap_NN=circle_NN)
    assert sorted(pairs) == [(0, 1), (1, 2), (2, 0)]


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=st.floats(-9, 9))
)
def test_the_majority_does_not_read_scales(scores_KN: Float) -> None:
    votes_NN = majority(scores_KN)
    assert np.array_equal(votes_NN, -votes_NN.T)
    stretch_K1 = 4.0 ** np.arange(len(scores_KN))[:, None]
    assert np.array_equal(votes_NN, majority(scores_KN * stretch_K1))


def test_a_constant_arm_says_nothing() -> None:
    assert set(zscores({(0, 0): 5.0, (0, 1): 5.0}).values()) == {0.0}


def test_noise_is_keyed_and_of_the_stated_size() -> None:
    texts = [f"response {i}" for i in range(4000)]
    values = np.random.default_rng(1).normal(9, 5, 4000)
    known = {r: float(x) for r, x in zip(texts, values, strict=True)}
    unit = [Unit("p", ((0, tuple(range(4000))),))]

    def scored(step: int, noise: float) -> Float:
        mode = single({"x": FakeArm.of(known)}, noise=noise)
        return judged(mode, decisions("x"), unit, [texts], step=step).scores[0][0]

    added = scored(0, 0.4) - (values - values.mean()) / values.std()
    assert np.array_equal(scored(0, 0.4), scored(0, 0.4))
    assert not np.array_equal(scored(0, 0.4), scored(1, 0.4))
    assert abs(added.std() - 0.4) < 5 * 0.4 / np.sqrt(2 * 4000)
    assert np.array_equal(scored(0, 0.0), values)


def test_an_arm_asked_as_itself_and_as_fallback_has_two_draws_of_noise() -> None:
    texts = [["a", "bb", "ccc"], ["a", "bb", "ccc"]]
    mode = single(
        fakes({"x": {"a": 1.0, "bb": 2.0, "ccc": 4.0}, "half": {}}), fallback="x", noise=0.4
    )
    got = judged(mode, decisions("x", "half"), WHOLE, texts)
    alone = judged(mode, decisions("x"), WHOLE[:1], texts)
    assert (
        got.scores[0][0].tolist() == alone.scores[0][0].tolist()
    )  # what it says in its own right is unchanged
    clean = (np.array([1.0, 2.0, 4.0]) - 7 / 3) / np.std([1.0, 2.0, 4.0])
    assert not np.isclose(got.scores[0][0] - clean, got.scores[1][0] - clean).any()


def test_a_failed_audit_is_a_failure() -> None:
    mode = single({"x": FakeArm(len), "down": FakeArm(len, fails=True)})
    every_row = frozenset({0, 1})
    got = judged(mode, decisions("x", "x"), audited=every_row)
    assert [(i, arm) for i, arm, _ in got.failures] == [(f"{i:032x}", "down") for i in range(2)]
    assert {call.status for call in got.calls if call.arm == "down"} == {"failed"}
    assert got.failed == set()  # the arms that were to judge did
    rest = judged(mode, decisions("x", "x"), audited=every_row, resting=frozenset({"down"}))
    assert {call.arm for call in rest.calls} == {"x"}


def test_shared_responses_of_pairs_are_scored_once() -> None:
    scores = table()
    models = fakes(scores)
    units = [
        Unit("p0|ab", ((0, (0, 1)),)),
        Unit("p0|ac", ((0, (0, 2)),)),
        Unit("p1|de", ((1, (0, 1)),)),
    ]
    got = judged(single(models), decisions("x", "x", "y"), units)
    assert [call.status for call in got.calls] == [
        "ok",
        "ok",
        "shared",
        "ok",
        "ok",
        "ok",
    ]  # "a" is asked about once
    assert [call.price for call in got.calls] == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert got.calls[0].score == got.calls[2].score
    assert (models["x"].asked, models["y"].asked) == (3, 2)
    assert got.scores[0][0][0] == got.scores[1][0][0] == scores["x"]["a"]


def test_the_fallback_answers_where_the_arm_abstains() -> None:
    scores = table()
    mode = single(fakes(scores), {"z": 2.5}, fallback="z")
    got = judged(mode, decisions("half", "half"), audited=frozenset({0}))
    assert got.abstained == {(0, 0)}
    assert got.failed == set()
    assert np.isnan(got.own[0][0]).all()
    assert got.scores[0][0].tolist() == [scores["z"][r] for r in RESPONSES[0]]
    assert got.scores[1][0].tolist() == got.own[1][0].tolist() == [1.0, 2.0, 3.0]
    statuses = [call.status for call in got.calls]
    assert [statuses.count(s) for s in ("abstained", "fallback", "ok", "audit")] == [3, 3, 3, 9]
    assert {call.price for call in got.calls if call.status == "fallback"} == {2.5}


def test_without_a_fallback_the_first_that_answers() -> None:
    scores: Scores = {"none": {}, "also none": {}, "y": table()["y"]}
    got = judged(single(fakes(scores)), decisions("none", "y"))
    assert got.scores[0][0].tolist() == [scores["y"][r] for r in RESPONSES[0]]
    nobody = judged(single(fakes({"none": {}})), decisions("none", "none"))
    assert np.isnan(nobody.scores[0][0]).all()


@pytest.mark.parametrize("unit", ["prompt", "batch"])
def test_a_row_that_fails_is_judged_by_the_fallback_and_the_others_keep_their_scores(
    unit: str,
) -> None:
    scores = table()
    picky = FakeArm(len, fails=["p0"])
    mode = single({"picky": picky, **fakes(scores)}, fallback="z")
    units = WHOLE if unit == "prompt" else [Unit("batch-0", ((0, (0, 1, 2)), (1, (0, 1, 2))))]
    got = judged(mode, decisions(*["picky"] * len(units)), units)
    said, own = ([part for parts in cells for part in parts] for cells in (got.scores, got.own))
    assert said[0].tolist() == [scores["z"][r] for r in RESPONSES[0]]
    assert np.isnan(own[0]).all()
    assert said[1].tolist() == own[1].tolist() == [4.0, 1.0, 2.0]
    assert (got.failures, got.abstained, got.stand_in) == ([], set(), {(0, 0): "z"})
    assert [(arm, why.split(":")[0]) for _, arm, why in got.row_failures] == [
        ("picky", "RuntimeError")
    ]
    assert got.failed_cells == {(0, 0)}
    assert got.failed == (
        {0} if unit == "prompt" else set()
    )  # a batch was judged in part: it has a payoff
    statuses = [call.status for call in got.calls]
    assert [statuses.count(s) for s in ("failed", "fallback", "ok")] == [3, 3, 3]
