"""What holds of every run.

There is one call a response and one decision a unit, nothing goes across prompts, and the reference
moves per iteration.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reward_router.config import Config
from reward_router.ledger import Ledger

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")


def ledger(out: Path) -> Ledger:
    return Ledger(out / "ledger.sqlite", readonly=True)


def test_one_call_a_response_outside_audits(tiny: Callable[..., Config], tmp_path: Path) -> None:
    summary = run.train(tiny("audit=0.5", "eval.limit=1"), tmp_path / "run")
    with ledger(tmp_path / "run") as record:
        calls, decisions = record.calls(), record.decisions()
    own = np.array([s != "audit" for s in calls.status])
    asked = Counter(
        zip(calls.decision[own].tolist(), np.array(calls.response)[own].tolist(), strict=True)
    )
    assert set(asked.values()) == {1}
    assert len(asked) == summary["calls"]["made"] == 12 * 3
    assert summary["calls"]["all_arms"] == 12 * 3 * 3
    assert 0 < summary["calls"]["audit"] == (~own).sum()
    assert len(decisions.unit) == 12


def test_a_batch_is_one_decision(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run.train(tiny("router.unit=batch", "eval.limit=1"), tmp_path / "run")
    with ledger(tmp_path / "run") as record:
        decisions = record.decisions()
    assert decisions.unit == [f"batch-{t}" for t in range(4)]
    assert decisions.n_units.tolist() == [3] * 4
    assert decisions.context_BD is not None
    assert np.allclose(np.linalg.norm(decisions.context_BD, axis=1), 1.0)


def test_a_pair_is_two_calls(tiny: Callable[..., Config], tmp_path: Path) -> None:
    summary = run.train(tiny("router.unit=pair", "eval.limit=1"), tmp_path / "run")
    with ledger(tmp_path / "run") as record:
        calls, decisions = record.calls(), record.decisions()
    assert set(Counter(calls.decision.tolist()).values()) == {2}
    shared = calls.status.count("shared")
    assert summary["calls"]["made"] == 2 * len(decisions.unit) - shared
    asked = {(a, d[: d.index("/")].split("|")[0], d.rpartition("/")[2], s) for a, d, s in zip(
        calls.arm.tolist(), calls.response,
        decisions.step[np.searchsorted(decisions.seq, calls.decision)].tolist(),
        strict=True)}  # fmt: skip
    assert summary["calls"]["made"] == len(asked)  # a response is asked about once an arm and step
    assert len(set(decisions.unit)) == len(decisions.unit)
    assert summary["counts"]["pairs"] <= len(decisions.unit)


def test_round_robin_by_iteration(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run.train(
        tiny("router={name: round_robin, per: iteration, unit: batch}", "eval.limit=1"),
        tmp_path / "run",
    )
    with ledger(tmp_path / "run") as record:
        assert record.decisions().arm.tolist() == [0, 0, 1, 1]


def test_the_ensemble_asks_all_arms(tiny: Callable[..., Config], tmp_path: Path) -> None:
    summary = run.train(
        tiny("router={name: uniform, mode: ensemble}", "eval.limit=1"), tmp_path / "run"
    )
    assert summary["calls"]["made"] == summary["calls"]["all_arms"] == 12 * 3 * 3
    assert {name: row["calls"] for name, row in summary["arms"].items()} == dict.fromkeys(
        ("short", "long", "likely"), 36
    )


def test_plain_dpo_warns_once_and_teaches_nothing_at_the_reference(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    console = Console(record=True, width=400, quiet=False, file=(tmp_path / "said").open("w"))
    summary = run.train(
        tiny("train.loss=dpo", "payoff.hold_back=0", "eval.limit=1"),
        tmp_path / "run",
        console=console,
    )
    with ledger(tmp_path / "run") as record:
        decisions = record.decisions()
    at_reference = decisions.step % 2 == 0  # the first batch of each iteration
    assert not np.isfinite(decisions.payoff[at_reference]).any()
    assert np.isfinite(decisions.payoff[~at_reference]).any()
    assert summary["counts"]["uninformative"] >= 3
    assert console.export_text().count("warning: train.loss dpo is log 2") == 1


def test_long_prompts_are_skipped_and_counted(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny("data.long_prompts=skip", "policy.max_prompt_tokens=90", "eval.limit=1")
    summary = run.train(config, tmp_path / "run")
    assert summary["counts"]["long_prompts"] > 0


def test_the_manifest_names_what_has_to_be_equal(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    short = ("train.iterations=1", "train.batches_per_iteration=1", "eval.limit=1")
    first, again, other = (
        run.train(tiny(*short, *more), tmp_path / name)["manifest"]
        for name, more in (("a", ()), ("b", ()), ("c", ("seed=1", "data.categories=[sums]")))
    )
    for stamp in ("began", "ended"):
        times = [manifest.pop(stamp) for manifest in (first, again, other)]
        assert all(times)
    assert first == again
    assert first["arms"] == {"likely": "tiny"}
    changed = {key for key in first if first[key] != other[key]}
    assert changed == {"seed", "config", "data"}
