"""The judge against brute force: ensemble, noise, shared responses, and who answers where an arm abstains."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router.judging.judge import Judge, Unit, zscores
from reward_router.rewards.pool import RewardPool
from reward_router.types import Decision, Float

PROMPTS = ["p0", "p1"]
RESPONSES = [["a", "bb", "ccc"], ["dddd", "e", "ff"]]
WHOLE = [Unit("p0", ((0, (0, 1, 2)),)), Unit("p1", ((1, (0, 1, 2)),))]


class Table:
    """Scores from a table; counts what it was asked."""

    def __init__(self, table: dict[str, float]) -> None:
        self.table, self.asked = table, 0

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        self.asked += sum(map(len, responses))
        return np.array([[self.table.get(r, np.nan) for r in group] for group in responses])


def pool() -> tuple[RewardPool, dict[str, Table]]:
    draw = np.random.default_rng(0)
    texts = [r for group in RESPONSES for r in group]
    models = {name: Table({r: float(x) for r, x in zip(texts, draw.normal(3, 2, 6), strict=True)}) for name in "xyz"}
    models["half"] = Table({"dddd": 1.0, "e": 2.0, "ff": 3.0})  # says nothing of p0
    return RewardPool({}, models=dict(models)), models


def decisions(*names: str) -> list[Decision]:
    return [Decision(f"{i:032x}", f"u{i}", 0, 0, name, 1.0, np.ones(1)) for i, name in enumerate(names)]


@pytest.mark.parametrize("kind", ["zscore", "raw"])
def test_ensemble_equals_brute_force(kind: str) -> None:
    arms, models = pool()
    got = Judge(arms, {}, ensemble=kind).judge(WHOLE, decisions("ensemble", "ensemble"), PROMPTS, RESPONSES, 0)
    columns = []
    for model in models.values():
        flat = np.array([model.table.get(r, np.nan) for group in RESPONSES for r in group])
        columns.append((flat - np.nanmean(flat)) / np.nanstd(flat) if kind == "zscore" else flat)
    wanted = np.nanmean(columns, axis=0).reshape(2, 3)
    assert np.allclose([parts[0] for parts in got.scores], wanted)
    assert len(got.calls) == 4 * 6


def test_a_constant_arm_says_nothing() -> None:
    assert set(zscores({(0, 0): 5.0, (0, 1): 5.0}).values()) == {0.0}


def test_noise_is_keyed_and_of_the_stated_size() -> None:
    texts = [[f"response {i}" for i in range(4000)]]
    table = Table({r: float(x) for r, x in zip(texts[0], np.random.default_rng(1).normal(9, 5, 4000), strict=True)})
    unit = [Unit("p", ((0, tuple(range(4000))),))]

    def scored(step: int, noise: float) -> Float:
        judge = Judge(RewardPool({}, models={"x": table}), {}, noise=noise, seed=3)
        return judge.judge(unit, decisions("x"), ["p"], texts, step).scores[0][0]

    clean = np.array([table.table[r] for r in texts[0]])
    added = scored(0, 0.4) - (clean - clean.mean()) / clean.std()
    assert np.array_equal(scored(0, 0.4), scored(0, 0.4))
    assert not np.array_equal(scored(0, 0.4), scored(1, 0.4))
    assert abs(added.std() - 0.4) < 5 * 0.4 / np.sqrt(2 * 4000)
    assert np.array_equal(scored(0, 0.0), clean)


def test_an_arm_asked_as_itself_and_as_fallback_has_two_draws_of_noise() -> None:
    texts = [["a", "bb", "ccc"], ["a", "bb", "ccc"]]
    table = {"x": Table({"a": 1.0, "bb": 2.0, "ccc": 4.0}), "half": Table({})}
    judge = Judge(RewardPool({}, models=dict(table)), {}, fallback="x", noise=0.4, seed=3)
    got = judge.judge(WHOLE, decisions("x", "half"), PROMPTS, texts, 0)
    alone = judge.judge(WHOLE[:1], decisions("x"), PROMPTS, texts, 0)
    assert got.scores[0][0].tolist() == alone.scores[0][0].tolist()  # what it says in its own right is unchanged
    clean = (np.array([1.0, 2.0, 4.0]) - 7 / 3) / np.std([1.0, 2.0, 4.0])
    assert not np.isclose(got.scores[0][0] - clean, got.scores[1][0] - clean).any()


def test_a_failed_audit_is_a_failure() -> None:
    class Down:
        def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
            raise ConnectionError("503")

    models = {"x": Table({r: float(len(r)) for group in RESPONSES for r in group}), "down": Down()}
    judge = Judge(RewardPool({}, models=dict(models)), {})
    got = judge.judge(WHOLE, decisions("x", "x"), PROMPTS, RESPONSES, 0, audited=frozenset({0, 1}))
    assert [(i, arm) for i, arm, _ in got.failures] == [(f"{i:032x}", "down") for i in range(2)]
    assert {call.status for call in got.calls if call.arm == "down"} == {"failed"}
    assert got.failed == set()  # the arms that were to judge did
    rest = judge.judge(WHOLE, decisions("x", "x"), PROMPTS, RESPONSES, 0, frozenset({0, 1}), frozenset({"down"}))
    assert {call.arm for call in rest.calls} == {"x"}


def test_shared_responses_of_pairs_are_scored_once() -> None:
    arms, models = pool()
    units = [Unit("p0|ab", ((0, (0, 1)),)), Unit("p0|ac", ((0, (0, 2)),)), Unit("p1|de", ((1, (0, 1)),))]
    got = Judge(arms, {}).judge(units, decisions("x", "x", "y"), PROMPTS, RESPONSES, 0)
    assert [call.status for call in got.calls] == ["ok", "ok", "shared", "ok", "ok", "ok"]  # "a" is asked about once
    assert [call.price for call in got.calls] == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert got.calls[0].score == got.calls[2].score
    assert (models["x"].asked, models["y"].asked) == (3, 2)
    assert got.scores[0][0][0] == got.scores[1][0][0] == models["x"].table["a"]


def test_the_fallback_answers_where_the_arm_abstains() -> None:
    arms, models = pool()
    judge = Judge(arms, {"z": 2.5}, fallback="z")
    got = judge.judge(WHOLE, decisions("half", "half"), PROMPTS, RESPONSES, 0, audited=frozenset({0}))
    assert got.abstained == {(0, 0)}
    assert got.failed == set()
    assert np.isnan(got.own[0][0]).all()
    assert got.scores[0][0].tolist() == [models["z"].table[r] for r in RESPONSES[0]]
    assert got.scores[1][0].tolist() == got.own[1][0].tolist() == [1.0, 2.0, 3.0]
    statuses = [call.status for call in got.calls]
    assert [statuses.count(s) for s in ("abstained", "fallback", "ok", "audit")] == [3, 3, 3, 9]
    assert {call.price for call in got.calls if call.status == "fallback"} == {2.5}


def test_without_a_fallback_the_first_that_answers() -> None:
    models = {"none": Table({}), "also none": Table({}), "y": pool()[1]["y"]}
    judge = Judge(RewardPool({}, models=dict(models)), {})
    got = judge.judge(WHOLE, decisions("none", "y"), PROMPTS, RESPONSES, 0)
    assert got.scores[0][0].tolist() == [models["y"].table[r] for r in RESPONSES[0]]
    nobody = Judge(RewardPool({}, models={"none": Table({})}), {})
    assert np.isnan(nobody.judge(WHOLE, decisions("none", "none"), PROMPTS, RESPONSES, 0).scores[0][0]).all()


class Picky(Table):
    """Raises on the first prompt."""

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        if "p0" in prompts:
            raise ValueError("cannot read p0")
        return super().score(prompts, responses)


@pytest.mark.parametrize("unit", ["prompt", "batch"])
def test_a_row_that_fails_is_judged_by_the_fallback_and_the_others_keep_their_scores(unit: str) -> None:
    models = pool()[1]
    picky = Picky({r: float(len(r)) for group in RESPONSES for r in group})
    judge = Judge(RewardPool({}, models={"picky": picky, **models}), {}, fallback="z")
    units = WHOLE if unit == "prompt" else [Unit("batch-0", ((0, (0, 1, 2)), (1, (0, 1, 2))))]
    got = judge.judge(units, decisions(*["picky"] * len(units)), PROMPTS, RESPONSES, 0)
    scores, own = ([part for parts in cells for part in parts] for cells in (got.scores, got.own))
    assert scores[0].tolist() == [models["z"].table[r] for r in RESPONSES[0]]
    assert np.isnan(own[0]).all()
    assert scores[1].tolist() == own[1].tolist() == [4.0, 1.0, 2.0]
    assert (got.failures, got.abstained, got.stand_in) == ([], set(), {(0, 0): "z"})
    assert [(arm, why.split(":")[0]) for _, arm, why in got.row_failures] == [("picky", "ValueError")]
    assert got.failed_cells == {(0, 0)}
    assert got.failed == ({0} if unit == "prompt" else set())  # a batch was judged in part: it has a payoff
    statuses = [call.status for call in got.calls]
    assert [statuses.count(s) for s in ("failed", "fallback", "ok")] == [3, 3, 3]
