"""Responses that the token limit cut.

They stand below every finished one, in no pair, or as any other, however a pair comes about.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reward_router import keyed
from reward_router.config import Config
from reward_router.pairs import form_pairs, rewards_with_truncation

scores = st.one_of(st.just(float("nan")), st.floats(-3, 3), st.sampled_from([0.0, 1.0]))
scored = st.lists(st.tuples(scores, st.booleans()), max_size=8)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scored, st.sampled_from(["lose", "drop", "keep"]), st.sampled_from([0.0, 0.5]))
def test_every_pair_that_may_be_is_there_and_no_other(
    rows: list[tuple[float, bool]], truncated: Any, margin: float
) -> None:
    score_N, finished_N = np.array([s for s, _ in rows]), np.array([f for _, f in rows], dtype=bool)
    texts = [f"text {i}" for i in range(len(rows))]
    found = form_pairs(
        score_N,
        texts,
        99,
        keyed.rng(0, "pairs", 0),
        margin,
        finished_N=finished_N,
        truncated=truncated,
    )
    wanted = set()
    for w, (first, ended) in enumerate(rows):
        for x, (second, other_ended) in enumerate(rows):
            by_score = first - second > margin
            if truncated == "keep" or (ended and other_ended):
                wanted |= {(w, x)} if by_score else set()
            elif truncated == "lose" and ended and not other_ended:
                wanted.add((w, x))
    assert set(found) == wanted


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scored)
def test_rewards_put_cut_responses_below_finished_ones(rows: list[tuple[float, bool]]) -> None:
    score_BN = np.array([[s for s, _ in rows]]).reshape(1, len(rows))
    finished_BN = np.array([[f for _, f in rows]], dtype=bool).reshape(1, len(rows))
    lose = rewards_with_truncation(score_BN, finished_BN)[0]
    finished_N, score_N = finished_BN[0], score_BN[0]
    assert np.array_equal(lose[finished_N], score_N[finished_N], equal_nan=True)
    cut = lose[~finished_N]
    assert len(set(cut.tolist())) <= 1
    assert np.isfinite(cut).all()
    known = score_N[finished_N & np.isfinite(score_N)]
    assert all(c < k for c in cut for k in known)
    drop = rewards_with_truncation(score_BN, finished_BN, "drop")[0]
    assert np.isnan(drop[~finished_N]).all()
    assert np.array_equal(drop[finished_N], score_N[finished_N], equal_nan=True)
    assert np.array_equal(
        rewards_with_truncation(score_BN, finished_BN, "keep")[0], score_N, equal_nan=True
    )


WAYS = {
    "prompt": (),
    "batch": ("router.unit=batch",),
    "pair": ("router={name: linucb, unit: pair}",),
    "advantage": ("router={name: bayesian, unit: pair}", "payoff.name=full_advantage"),
    "committee": ("judge={mode: committee, gate: mean, labels: {fraction: 1.0}}",),
    "committee of pairs": (
        "router.unit=pair",
        "judge={mode: committee, gate: mean, labels: {fraction: 1.0}}",
    ),
    "ensemble": ("router={name: uniform, mode: ensemble}",),
    "fallback": (
        "arms=[{name: broken, kind: python, path: 'misbehaving:Arm', how: raise}, "
        "{name: long, kind: metric, metric: length}]",
    ),
}


@pytest.fixture
def half_cut(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every other response is a cut one; returns the pairs that are trained on."""
    policy = pytest.importorskip(
        "reward_router.policy", reason="needs the packages of the extra `train`"
    )
    from reward_router.training.step import Trainer

    real_sample, real_step, trained = policy.Policy.sample, Trainer.step, list[Any]()

    def sample(self: Any, prompts: Any, ids: Any, n: int, step: int) -> Any:
        groups = real_sample(self, prompts, ids, n, step)
        return [
            [policy.Response(str(r), (i + j) % 2 == 0) for j, r in enumerate(group)]
            for i, group in enumerate(groups)
        ]

    def step(self: Any, pairs: Sequence[Any], *rest: Any) -> Any:
        trained.extend(pairs)
        return real_step(self, pairs, *rest)

    monkeypatch.setattr(policy.Policy, "sample", sample)
    monkeypatch.setattr(Trainer, "step", step)
    return trained


@pytest.mark.parametrize("way", WAYS)
def test_cut_responses_lose_however_a_pair_comes_about(
    tiny: Callable[..., Config], tmp_path: Path, half_cut: list[Any], way: str
) -> None:
    from reward_router.run import train

    settings = [
        *WAYS[way],
        "policy.n_responses=4",
        "pairs.per_prompt=6",
        "eval.limit=1",
        "train.iterations=1",
    ]
    summary = train(tiny(*settings, "pairs.truncated=lose"), tmp_path / "run")
    finished = [(p.chosen.finished, p.rejected.finished) for p in half_cut]
    # of four different responses two are cut: four pairs are fixed, one is the arm's, one is none
    assert finished.count((True, False)) == 6 * 4
    assert {won for won, _ in finished} == {True}
    assert 0 < finished.count((True, True)) <= 6
    assert summary["counts"]["truncated"] == 6 * 2


@pytest.mark.parametrize("way", ["prompt", "pair", "committee"])
def test_dropped_ones_make_no_pair(
    tiny: Callable[..., Config], tmp_path: Path, half_cut: list[Any], way: str
) -> None:
    from reward_router.run import train

    settings = [
        *WAYS[way],
        "policy.n_responses=4",
        "pairs.per_prompt=6",
        "eval.limit=1",
        "train.iterations=1",
    ]
    train(tiny(*settings, "pairs.truncated=drop"), tmp_path / "run")
    assert {(p.chosen.finished, p.rejected.finished) for p in half_cut} == {(True, True)}


def test_a_loss_payoff_is_not_credited_with_what_the_rule_decided(
    tiny: Callable[..., Config], tmp_path: Path, half_cut: list[Any]
) -> None:
    """All pairs but one a prompt are fixed by the rule.

    With two responses a prompt all are, and nothing is learned.
    """
    from reward_router.run import train

    two = ["policy.n_responses=2", "payoff={name: neg_loss, hold_back: 0}", "eval.limit=1"]
    summary = train(tiny(*two, "pairs.truncated=lose"), tmp_path / "run")
    assert len(half_cut) == 12
    assert summary["counts"]["no_payoff"] == 12
