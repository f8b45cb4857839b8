"""BayesianRouter's online stage.

Every figure of a run recomputed by hand from its ledger and its losses.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.ledger import Ledger
from reward_router.pairs import GapScale
from reward_router.payoffs import QuantileScaler
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
from reward_router.training.step import Pair, Trainer  # noqa: E402

PAIRS = (
    "router={name: bayesian, unit: pair}",
    "pairs={per_prompt: 3, tie: 0.4, truncated: keep}",
    "eval.limit=1",
    "train.batch_prompts=4",
)
ARMS = ["short", "long", "likely"]


@dataclass
class Seen:
    """What a run did, step by step.

    These are the losses of both orders of every trained pair before the step, and its outcomes.
    """

    losses: list[list[tuple[float, float]]] = field(default_factory=list)
    outcomes: list[list[Any]] = field(default_factory=list)


def watched(config: Config, out: Path) -> tuple[Seen, dict[str, Any]]:
    """Train with every step's losses measured one pair at a time beside it."""
    from reward_router.session import Session

    seen, step, outcomes = Seen(), Trainer.step, Session.outcomes

    def measured(self: Trainer, pairs: Any, batch: int = 0) -> Any:
        turned = [Pair(p.prompt, p.rejected, p.chosen) for p in pairs]
        both = zip(pairs, turned, strict=True)
        seen.losses.append(
            [(float(self.losses([p])[0]), float(self.losses([q])[0])) for p, q in both]
        )
        return step(self, pairs, batch)

    def kept(self: Any, *args: Any) -> Any:
        seen.outcomes.append(outcomes(self, *args))
        return seen.outcomes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", measured)
        patch.setattr(Session, "outcomes", kept)
        return seen, run.train(config, out)


@dataclass
class Judged:
    """One decision of the ledger: the gap of every arm that was asked, and what it was paid."""

    step: int
    arm: int
    gaps: dict[int, float]
    payoff: float
    raw: float


def judged(out: Path) -> list[Judged]:
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        d, c = ledger.decisions(), ledger.calls()
    said: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, seq in enumerate(c.decision.tolist()):
        if c.status[i] != "audit":
            said[seq][int(c.arm[i])].append(float(c.score[i]))
    rows = zip(
        d.seq.tolist(),
        d.step.tolist(),
        d.arm.tolist(),
        d.payoff.tolist(),
        d.raw.tolist(),
        strict=True,
    )
    return [
        Judged(t, k, {a: s[1] - s[0] for a, s in said[q].items()}, p, r) for q, t, k, p, r in rows
    ]


def thresholds(rows: list[Judged], step: int, share: float) -> list[float]:
    """By numpy, from all gaps of earlier steps."""
    out = []
    for arm in range(len(ARMS)):
        before = [
            abs(r.gaps[arm])
            for r in rows
            if r.step < step and arm in r.gaps and abs(r.gaps[arm]) > 0
        ]
        out.append(share * float(np.median(before)) if len(before) >= 5 else 0.0)
    return out


def test_gap_scale_is_the_median_in_any_order() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=31)
    one, other = GapScale(), GapScale()
    one.learn([("a", v) for v in values])
    for v in draw.permutation(values):
        other.learn([("a", -v), ("a", 0.0), ("a", float("nan")), ("b", 100 * v)])
    assert one.threshold("a", 0.3) == other.threshold("a", 0.3) == 0.3 * np.median(np.abs(values))
    assert other.threshold("b", 0.3) == pytest.approx(
        100 * other.threshold("a", 0.3)
    )  # each arm in its own units
    assert other.threshold("c", 0.3) == 0.0


def test_ties_are_dropped_by_each_arms_own_threshold(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    summary = run.train(tiny(*PAIRS, "train.iterations=3"), tmp_path / "run")
    rows, log = judged(tmp_path / "run"), RunDir(tmp_path / "run").read_log()
    limits = {t: thresholds(rows, t, 0.4) for t in range(6)}
    kept = [abs(r.gaps[r.arm]) > limits[r.step][r.arm] for r in rows]
    assert [sum(k for k, r in zip(kept, rows, strict=True) if r.step == t) for t in range(6)] == [
        x["pairs"] for x in log
    ]
    assert summary["counts"]["tied_pairs"] == len(rows) - sum(kept)
    by_share = [0 < abs(r.gaps[r.arm]) <= limits[r.step][r.arm] for r in rows]
    assert sum(by_share) > 0, "the threshold never bit: this run tests nothing"
    assert [np.isfinite(r.payoff) for r in rows] == kept  # a tie teaches nothing


def test_light_advantage_is_the_batch_mean_less_the_own_loss(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny(*PAIRS, "payoff={name: light_advantage, hold_back: 0}")
    seen, _ = watched(config, tmp_path / "run")
    rows = judged(tmp_path / "run")
    raw = [r.raw for r in rows if np.isfinite(r.raw)]
    wanted = []
    for outcomes, losses in zip(seen.outcomes, seen.losses, strict=True):
        own = [o.loss_P[0] for o in outcomes if o.loss_P]
        assert own == pytest.approx(
            [first for first, _ in losses], abs=1e-5
        )  # measured pair by pair
        wanted += (sum(own) / len(own) - np.array(own)).tolist()
    assert raw == pytest.approx(wanted, abs=1e-12)
    scaler = QuantileScaler()
    assert [r.payoff for r in rows if np.isfinite(r.raw)] == [scaler.scale(v) for v in raw]


@pytest.mark.parametrize("loss", ["dpo", "dpo+nll"])
def test_full_advantage_is_the_mean_over_all_labels_less_the_own_loss(
    tiny: Callable[..., Config], tmp_path: Path, loss: str
) -> None:
    seen, summary = watched(
        tiny(*PAIRS, "payoff.name=full_advantage", f"train.loss={loss}"), tmp_path / "run"
    )
    rows, wanted = judged(tmp_path / "run"), []
    for t in range(4):
        limits, losses = thresholds(rows, t, 0.4), iter(seen.losses[t])
        for r in [r for r in rows if r.step == t]:
            if abs(r.gaps[r.arm]) <= limits[r.arm]:
                wanted.append(np.nan)
                continue
            assert set(r.gaps) == {0, 1, 2}
            own, turned = next(losses)
            label = [
                np.sign(r.gaps[k] * r.gaps[r.arm]) * (abs(r.gaps[k]) > limits[k]) for k in range(3)
            ]
            each = [own if x > 0 else turned for x in label if x]
            gap = np.mean(each) - own
            wanted.append(np.nan if abs(gap) < 1e-5 else float(gap > 0))
    assert np.array_equal([r.payoff for r in rows], wanted, equal_nan=True)
    assert {0.0, 1.0} <= set(wanted)
    calls = summary["calls"]
    assert calls["by_status"]["compared"] > 0
    assert calls["made"] <= calls["all_arms"]
    assert calls["made"] == sum(
        n for status, n in calls["by_status"].items() if status not in ("shared", "audit")
    )


def test_propensities_are_the_exact_probabilities_of_the_drawn_arms(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run.train(tiny(*PAIRS), tmp_path / "run")
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        d = ledger.decisions()
    assert d.propensity.tolist() == d.probs_BK[np.arange(len(d.arm)), d.arm].tolist()
    assert np.allclose(d.probs_BK.sum(axis=1), 1.0)
    assert np.allclose(d.probs_BK[d.step == 0], 1 / 3)  # no prior: equal arms
    assert not np.allclose(d.probs_BK[d.step == 3], 1 / 3)


def test_equal_responses_make_no_pair(tiny: Callable[..., Config], tmp_path: Path) -> None:
    summary = run.train(tiny(*PAIRS, "policy.temperature=1e-6"), tmp_path / "run")
    assert summary["counts"]["equal_pairs"] == 4 * 4 * 3
    assert summary["counts"]["skipped_prompts"] == 4 * 4
    assert summary["calls"]["made"] == summary["counts"]["pairs"] == 0


def test_a_silent_arm_is_stood_in_for_and_paid_nothing(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    arms = ", ".join(
        f"{{name: {h}, kind: python, path: 'misbehaving:Arm', how: {h}}}" for h in ("nan", "length")
    )
    summary = run.train(tiny(*PAIRS, f"arms=[{arms}]"), tmp_path / "run")
    silent = summary["arms"]["nan"]
    assert silent["decisions"] == summary["counts"]["abstained"] > 0
    assert silent["payoffs"] == 0
    assert (
        summary["counts"]["pairs"] > summary["arms"]["length"]["payoffs"]
    )  # the stand-in's are trained on
