"""The committee as a judge.

Tested are rounds against the one-prompt rule, labels, failures, vetoes, several processes, and
resuming.
"""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.committee import Committee, LabelPolicy, OnlineCommittee, rank
from reward_router.config import Config, JudgeConfig, PairsConfig
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.types import By, Decision, Float, State

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router import run
from reward_router.rewards.pool import RewardPool
from reward_router.rundir import as_arrays, as_tensors
from reward_router.verdicts.asking import Asker
from reward_router.verdicts.batch import Batch, Unit
from reward_router.verdicts.committee import CommitteeOfArms

N, ARMS = 4, ["a", "b", "c"]
STRENGTH = {"a": 1.5, "b": 1.0, "c": 0.6}


class Noisy:
    """Right responses (they end in 'right') score higher by the arm's strength.

    The noise is keyed by the text.
    """

    def __init__(self, name: str, how: str = "") -> None:
        self.name, self.how, self.requests = name, how, 0

    def one(self, text: str) -> float:
        if self.how == "nan":
            return float("nan")
        seed = sum(ord(c) * (i + 1) for i, c in enumerate(self.name + text))
        return STRENGTH[self.name] * text.endswith("right") + float(
            np.random.default_rng(seed).normal()
        )

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        self.requests += 1
        if self.how == "raise":
            raise RuntimeError("away")
        if self.how == "veto":
            return np.array(
                [[float(not r.startswith("bad")) for r in group] for group in responses]
            )
        return np.array([[self.one(r) for r in group] for group in responses])


def texts(i: int, bad: Sequence[int] = ()) -> list[str]:
    draw = np.random.default_rng(i)
    marks = ["right" if u < 0.5 else "wrong" for u in draw.random(N)]
    return [f"{'bad ' if n in bad else ''}{i}.{n} {mark}" for n, mark in enumerate(marks)]


@functools.cache
def learned(vetoes: tuple[int, ...]) -> State:
    """The state of a committee that 600 labels have taught, made once for the tests below."""
    draw = np.random.default_rng(7)
    label = draw.random(600) < 0.5
    signal = np.where(label, 1.0, -1.0)[:, None] * [1.5, 1.0, 0.6]
    committee = Committee(np.ones(3), gate="off", vetoes=vetoes)
    return committee.fit(signal + 1.4 * draw.normal(size=(600, 3)), label).state_dict()


def judge(
    how: dict[str, str] | None = None,
    policy: LabelPolicy | None = None,
    gather: Callable[[list[Any]], list[Any]] = lambda x: x,
    fitted: bool = False,
    vetoes: tuple[int, ...] = (),
    **settings: Any,
) -> tuple[CommitteeOfArms, dict[str, Noisy]]:
    models = {name: Noisy(name, (how or {}).get(name, "")) for name in ARMS}
    online = OnlineCommittee(
        Committee(np.ones(3), gate="off", vetoes=vetoes), policy or LabelPolicy(share=0.0)
    )
    if fitted:
        online.committee.load_state_dict(learned(vetoes))
    config = JudgeConfig(mode="committee", **settings)
    pool = RewardPool({}, models=dict(models))
    return CommitteeOfArms(Asker(pool, {}), online, ARMS, config, gather=gather), models


def step(
    j: CommitteeOfArms, rows: Sequence[int], t: int = 0, name: str = "", bad: Sequence[int] = ()
) -> Any:
    responses = [texts(i, bad) for i in rows]
    ids = [f"p{i}" for i in rows]
    by = By.ROUTER if name else By.COMMITTEE
    gold = [np.array([float(r.endswith("right")) for r in group]) for group in responses]
    batch = Batch(t, [f"prompt {i}" for i in rows], ids, responses, gold)
    batch.units = [Unit(unit, ((b, tuple(range(N))),)) for b, unit in enumerate(ids)]
    batch.decisions = [
        Decision(f"{i:032x}", f"p{i}", t, -1, name, 1.0, np.ones(1), by=by) for i in rows
    ]
    return j.judge(batch), responses, models_scores(responses)


def models_scores(responses: Sequence[Sequence[str]]) -> list[Float]:
    return [np.array([[Noisy(k).one(r) for k in ARMS] for r in group]) for group in responses]


def test_rounds_give_what_one_prompt_alone_gives() -> None:
    j, models = judge(fitted=True)
    verdicts, _, recorded = step(j, range(30))
    sizes = set()
    for i, scores_NK in enumerate(recorded):
        wanted = rank(j.online.committee, scores_NK)
        got = verdicts.rankings[i, 0]
        assert got.asked == wanted.asked
        assert np.array_equal(got.value_N, wanted.value_N)
        assert np.array_equal(verdicts.scores[i][0], wanted.value_N)
        sizes.add(len(got.asked))
    assert len(sizes) > 1  # some prompts needed a second opinion, others did not
    assert (
        max(model.requests for model in models.values()) <= 3
    )  # once an arm and round, however many prompts
    assert len(verdicts.calls) == sum(verdicts.rankings[i, 0].calls for i in range(30))
    assert (
        j.counts["units"] == 30 == j.counts["asked_1"] + j.counts["asked_2"] + j.counts["asked_3"]
    )


def test_a_router_names_the_first_arm() -> None:
    j, _ = judge(fitted=True)
    verdicts, _, recorded = step(j, range(10), name="c")
    assert all(verdicts.rankings[i, 0].asked[0] == 2 for i in range(10))
    assert all(
        np.array_equal(verdicts.own[i][0], recorded[i][:, 2]) for i in range(10)
    )  # what the router is paid for


def test_labels_are_right_against_wrong_and_scored_by_all() -> None:
    j, _ = judge(policy=LabelPolicy(share=1.0))
    verdicts, responses, recorded = step(j, range(40))
    store = j.online.store
    assert len(store) == j.counts["rows"] > 40
    assert j.counts["labelled"] + j.counts["no_pair"] == 40
    assert 0.25 < np.mean(store.labels) < 0.75  # sides are drawn
    for margin, label, group in zip(store.margins, store.labels, store.groups, strict=True):
        i = int(group[1:])
        gold = np.array([r.endswith("right") for r in responses[i]])
        gaps = {
            (w, x): recorded[i][w] - recorded[i][x]
            for w in np.flatnonzero(gold)
            for x in np.flatnonzero(~gold)
        }
        signed = margin if label else -margin
        assert any(np.allclose(signed, gap) for gap in gaps.values())
    assert len(verdicts.calls) == 40 * N * 3  # three voted on each; nobody is asked twice
    assert j.refits
    assert j.online.committee.plan is not None


def test_the_extra_cost_is_kept() -> None:
    j, _ = judge(policy=LabelPolicy(share=1.0, extra_cost=7.0), fitted=True)
    verdicts, _, _ = step(j, range(40))
    extra = [c for c in verdicts.calls if c.status == "label"]
    assert 0 < len(extra) <= 7 * N
    assert j.counts["not_scored"] > 0


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_an_arm_that_cannot_answer_is_passed_over(how: str) -> None:
    j, _ = judge({"a": how}, fitted=True)
    verdicts, _, _ = step(j, range(8), name="a")
    for i in range(8):
        assert np.isfinite(verdicts.scores[i][0]).all()
        assert np.isnan(verdicts.own[i][0]).all()
    assert (verdicts.failed == set(range(8))) == (how == "raise")
    assert (verdicts.abstained == {(i, 0) for i in range(8)}) == (how == "nan")


def test_all_arms_missing_is_no_verdict_and_no_label() -> None:
    j, _ = judge(dict.fromkeys(ARMS, "nan"), policy=LabelPolicy(share=1.0))
    verdicts, responses, _ = step(j, range(12))
    assert all(np.isnan(parts[0]).all() for parts in verdicts.scores)
    draw = np.random.default_rng(0)
    assert not any(
        j.pairs(verdicts.rankings[i, 0], responses[i], PairsConfig(), draw) for i in range(12)
    )
    later, _, _ = step(
        j, range(12), 1
    )  # a fit on labels that no arm said anything about judges nothing
    assert not j.online.committee.playing
    assert all(np.isnan(parts[0]).all() for parts in later.scores)


def test_a_veto_says_no() -> None:
    j, _ = judge({"c": "veto"}, fitted=True, vetoes=(2,))
    verdicts, responses, _ = step(j, range(10), bad=[0, 1])
    for i in range(10):
        ranking = verdicts.rankings[i, 0]
        assert ranking.asked[0] == 2
        assert ranking.refused_N.tolist() == [True, True, False, False]
        pairs = j.pairs(ranking, responses[i], PairsConfig(per_prompt=20), np.random.default_rng(0))
        assert not any(winner in (0, 1) and loser in (2, 3) for winner, loser, _ in pairs)
        assert ranking.best in (2, 3)


def test_unsure_pairs_are_dropped_or_weigh_less() -> None:
    limits = PairsConfig(per_prompt=20)
    drop, _ = judge(fitted=True, min_confidence=0.8)
    weigh, _ = judge(fitted=True, min_confidence=0.8, below="weight")
    verdicts, responses, _ = step(drop, range(20))
    step(weigh, range(20))
    kept, weighed = [], []
    for i in range(20):
        ranking = verdicts.rankings[i, 0]
        kept += [
            (i, w, x)
            for w, x, weight in drop.pairs(ranking, responses[i], limits, np.random.default_rng(0))
        ]
        for w, x, weight in weigh.pairs(ranking, responses[i], limits, np.random.default_rng(0)):
            sure = float(ranking.confidence([w], [x])[0])
            assert weight == pytest.approx(min(1.0, max(0.0, (2 * sure - 1) / 0.6)))
            weighed.append((i, w, x, weight))
    assert kept == [(i, w, x) for i, w, x, weight in weighed if weight == 1.0]
    drop.record()
    weigh.record()
    assert drop.counts["below"] == weigh.counts["below"] == len(weighed) - len(kept) > 0


def test_two_processes_hold_the_same_committee(
    two_processes: Callable[..., dict[int, Any]],
) -> None:
    def work(me: int, gather: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
        j, _ = judge(policy=LabelPolicy(share=0.7, extra_cost=25.0), gather=gather)
        for t in range(4):
            step(j, range(20 * t + me, 20 * t + 20, 2), t)
            j.record()
        return j.state_dict()

    states = two_processes(work)
    assert states[0].keys() == states[1].keys()
    assert all(
        np.array_equal(states[0][k], states[1][k], equal_nan=states[0][k].dtype.kind == "f")
        for k in states[0]
    )
    assert states[0]["judged"][0] == 80
    assert "committee.z_GK" in states[0]


def test_the_state_survives_a_checkpoint_bit_for_bit() -> None:
    j, _ = judge(policy=LabelPolicy(share=0.8))
    fresh, _ = judge(policy=LabelPolicy(share=0.8))
    before = fresh.state_dict()
    fresh.load_state_dict(as_arrays(as_tensors(before)))  # before any label
    for t in range(3):
        step(j, range(20 * t, 20 * t + 20), t)
    fresh.load_state_dict(as_arrays(as_tensors(j.state_dict())))
    one, two = step(j, range(60, 80), 3)[0], step(fresh, range(60, 80), 3)[0]
    told = [[(c.response_id, c.arm, c.score, c.status) for c in v.calls] for v in (one, two)]
    assert told[0] == told[1]
    first, second = j.state_dict(), fresh.state_dict()
    assert all(
        first[k].tobytes() == second[k].tobytes() and first[k].dtype == second[k].dtype
        for k in first
    )


# whole runs ---------------------------------------------------------------------------------------

COMMITTEE = [
    # The tiny model is right now and then, so that there are labels.
    "data.categories=[short, include]",
    "judge={mode: committee, gate: mean, labels: {fraction: 1.0, extra_calls: 60}, "
    "min_confidence: 0.55}",
    "train.batch_prompts=16",
    "train.micro_batch=16",
    "payoff.name=probe",
    "eval.limit=1",
]


def evidence(out: Path) -> dict[str, Any]:
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        calls, d = ledger.calls(), ledger.decisions()
    summary = json.loads((out / "summary.json").read_text())
    return {
        "calls": list(
            zip(
                calls.response,
                calls.arm.tolist(),
                calls.score.tobytes(),
                calls.status,
                strict=False,
            )
        ),
        "payoffs": d.payoff.tobytes(),
        "adapter": (out / "policy" / "adapter_model.safetensors").read_bytes(),
        "committee": summary["committee"],
        "counts": summary["counts"],
    }


@pytest.mark.parametrize("first", [pytest.param("order", marks=pytest.mark.slow), "linucb"])
def test_a_run_judged_by_a_committee_resumes_bit_for_bit(
    tiny: Callable[..., Config], stopped_run: Callable[..., None], tmp_path: Path, first: str
) -> None:
    config, out = tiny(*COMMITTEE, f"judge.first={first}"), tmp_path / "run"
    summary = run.train(config, tmp_path / "whole")
    stopped_run(config, out, 3)
    run.train(config, out, resume=True)
    assert evidence(out) == evidence(tmp_path / "whole")
    assert summary["committee"]["refits"]
    assert 0 < summary["calls"]["label"] <= 60
    assert summary["calls"]["made"] == sum(summary["calls"]["by_status"].values())
    judged = summary["calls"]["made"] - summary["calls"]["label"]
    assert judged == sum(k * summary["committee"]["counts"][f"asked_{k}"] for k in (1, 2, 3)) * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["judge=comittee"], "single"),
        (["judge={mode: single, price: 0.1}"], "price belongs to mode: committee"),
        (["judge=committee", "router.unit=batch"], "router.unit: batch"),
        (["judge={mode: committee, first: exp3}"], "allowed order, or the router"),
        (["judge={mode: committee, vetoes: [shrt]}"], "none of the arms"),
        (["judge={mode: committee, vetoes: [short, long, likely]}"], "all arms"),
        (["judge={mode: committee, budget: 0.5}"], "judge.budget=0.5 is below 1.0"),
        (["judge=committee", "arms.short.cost=0"], "short.cost"),
    ],
)
def test_what_cannot_be_is_said_before_the_run(
    tiny: Callable[..., Config], tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run.train(tiny(*settings), tmp_path / "run")
