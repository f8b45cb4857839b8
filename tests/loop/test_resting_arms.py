"""A failing arm in a run.

It rests, in every unit of routing; where all fail the run stops, and goes on once one is back.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")

ARMS = (
    "arms=[{name: dead, kind: python, path: 'misbehaving:Arm', how: raise}, "
    "{name: short, kind: metric, metric: length, direction: short}, "
    "{name: long, kind: metric, metric: length, direction: long}]"
)
ALONE = "{name: dead, kind: python, path: 'misbehaving:Served'}"
SHORT = (
    "eval.limit=1",
    "data.categories=[sums, short, include]",
    "train.loss=nll",
    "policy.max_new_tokens=4",
)


def probabilities(out: Path) -> Any:
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        return ledger.decisions()


@pytest.mark.parametrize(
    "settings",
    [
        ("router={name: linucb, unit: batch}", "train.batches_per_iteration=24",
         "train.batch_prompts=1", "payoff.hold_back=0"),
        ("router={name: linucb, unit: pair}", "train.batch_prompts=5",
         "train.batches_per_iteration=8"),
        ("router={name: uniform, unit: prompt}", "train.batch_prompts=9",
         "train.batches_per_iteration=8"),
    ],
    ids=["batch", "pair", "prompt"],
)  # fmt: skip
def test_a_dead_arm_rests(
    tiny: Callable[..., Config], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    summary = run.train(tiny(ARMS, *SHORT, *settings), tmp_path / "run")
    found = probabilities(tmp_path / "run")
    late = 20 if "unit: batch" in settings[0] else 100
    assert len(found.arm) > late + 20
    assert (found.arm[late:] == 0).mean() < 0.05
    np.testing.assert_allclose(found.probs_BK.sum(axis=1), 1.0, atol=1e-12)
    assert (found.propensity == found.probs_BK[np.arange(len(found.arm)), found.arm]).all()
    dead, others = summary["arms"]["dead"], [summary["arms"][name] for name in ("short", "long")]
    assert dead["asked"] == dead["failed"] == dead["decisions"] > 0
    assert dead["judged"] == 0
    assert 0 < dead["rested"] < len(found.arm)
    assert all(row["failed"] == row["rested"] == 0 for row in others)
    # who judged is who really did: the others share what the dead one was drawn for
    assert sum(row["judged"] for row in others) == len(found.arm)
    assert RunDir(tmp_path / "run").read_log()[-1]["resting"] == ["dead"]


def test_the_committee_passes_over_an_arm_that_rests(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    committee = "judge={mode: committee, gate: mean, labels: {fraction: 1.0}}"
    config = tiny(
        ARMS,
        *SHORT,
        committee,
        "train.batch_prompts=12",
        "train.batches_per_iteration=6",
        "audit=0.3",
    )
    summary = run.train(config, tmp_path / "run")
    dead = summary["arms"]["dead"]
    units = summary["committee"]["counts"]["units"]
    assert units == 144
    assert 0 < dead["asked"] < 0.5 * units  # without a rest it is asked about most of them
    assert dead["rested"] > 0
    assert dead["judged"] == 0


def test_an_ensemble_and_audits_leave_a_resting_arm_alone(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny(
        ARMS, *SHORT, "router={name: uniform, mode: ensemble}", "train.batches_per_iteration=6"
    )
    summary = run.train(config, tmp_path / "ensemble")
    assert 0 < summary["arms"]["dead"]["failed"] < 12
    assert summary["arms"]["short"]["judged"] == 36
    audited = tiny(
        ARMS,
        *SHORT,
        "router={name: fixed, arm: short}",
        "audit=1.0",
        "train.batches_per_iteration=6",
    )
    summary = run.train(audited, tmp_path / "audits")
    dead = summary["arms"]["dead"]
    assert dead["decisions"] == 0  # a fixed router's other arms are asked in audits only
    assert (
        0 < dead["failed"] == summary["counts"]["arm_failures"] < 36
    )  # a failed audit is a failure, and rests
    assert summary["calls"]["audit"] == summary["arms"]["long"]["calls"]


def test_where_all_arms_fail_the_run_stops_and_goes_on_when_one_is_back(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import misbehaving

    config = tiny(
        f"arms=[{ALONE}, {{name: other, kind: python, path: 'misbehaving:Served'}}]",
        *SHORT,
        "checkpoint_every=100",
    )
    out = tmp_path / "run"
    monkeypatch.setattr(misbehaving.Served, "up", False)
    with pytest.raises(RunError, match=r"all arms failed .*--resume") as stopped:
        run.train(config, out)
    assert stopped.value.exit_code == 1
    assert not (out / "summary.json").exists()
    with pytest.raises(RunError, match="all arms failed"):
        run.train(config, out, resume=True)  # still down: it may be tried any number of times
    monkeypatch.setattr(misbehaving.Served, "up", True)
    summary = run.train(config, out, resume=True)
    assert summary["counts"]["pairs"] > 0
    assert sum(row["judged"] for row in summary["arms"].values()) > 0


def test_a_run_that_was_stopped_and_resumed_ends_as_one_that_was_not(
    tiny: Callable[..., Config], stopped_run: Callable[..., None], tmp_path: Path
) -> None:
    config = tiny(ARMS, *SHORT, "train.batch_prompts=6", "train.batches_per_iteration=3")
    run.train(config, tmp_path / "whole")
    stopped_run(config, tmp_path / "broken", 3)
    run.train(config, tmp_path / "broken", resume=True)
    whole, broken = probabilities(tmp_path / "whole"), probabilities(tmp_path / "broken")
    assert whole.probs_BK.tobytes() == broken.probs_BK.tobytes()
    assert whole.arm.tolist() == broken.arm.tolist()
    tables = [
        json.loads((tmp_path / name / "summary.json").read_text())["arms"]
        for name in ("whole", "broken")
    ]
    assert tables[0] == tables[1]
    assert tables[0]["dead"]["rested"] > 0


def test_a_run_begun_before_there_was_a_breaker_goes_on(
    tiny: Callable[..., Config], stopped_run: Callable[..., None], tmp_path: Path
) -> None:
    config, out = tiny(ARMS, *SHORT), tmp_path / "run"
    stopped_run(config, out, 2)
    kept = out / "config.yaml"
    lines, inside = [], False
    for line in kept.read_text(encoding="utf-8").splitlines(keepends=True):
        inside = line.startswith("  breaker:") or (inside and line.startswith("    "))
        lines += [] if inside else [line]
    kept.write_text("".join(lines), encoding="utf-8")
    assert "breaker" not in kept.read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"pool\.breaker"):
        run.train(tiny(ARMS, *SHORT, "pool.breaker=off"), out, resume=True)
    assert run.train(config, out, resume=True)["steps"] == 4


@pytest.mark.parametrize(
    "bad", ["{pause: 41}", "{pause: 20, longest: 10}", "{failures: 0}", "{recent: 11}", "sometimes"]
)
def test_settings_out_of_range_are_refused(tiny: Callable[..., Config], bad: str) -> None:
    with pytest.raises(InputError, match=r"pool\.breaker"):
        tiny(f"pool.breaker={bad}")


def test_the_breaker_is_switched_off_in_one_word(tiny: Callable[..., Config]) -> None:
    for text in ("off", "false", "{enabled: false}"):
        assert not tiny(f"pool.breaker={text}").pool.breaker.enabled
    for text in ("on", "true", "{failures: 3}"):
        assert tiny(f"pool.breaker={text}").pool.breaker.enabled
