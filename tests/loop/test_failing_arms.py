"""Arms that raise, answer nonsense, abstain or take too long.

The run goes on, nothing is invented, all is counted.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.errors import RunError
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
step = pytest.importorskip("reward_router.training.step")

FAILING = ("raise", "inf", "short", "sleep")


def arm(how: str) -> str:
    return f"{{name: {how}, kind: python, path: 'misbehaving:Arm', how: {how}}}"


def arms(*names: str) -> str:
    return f"arms=[{', '.join(arm(n) for n in names)}]"


def test_failures_are_data(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny(
        arms(*FAILING, "nan", "length"), "router={name: round_robin}", "train.batch_prompts=6",
        "pool.timeout=3", "pool.fallback=length", "pool.breaker=off", "payoff.hold_back=0",
        "eval.limit=2",
    )  # fmt: skip
    summary = run.train(config, tmp_path / "run")
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        decisions, calls, counts = ledger.decisions(), ledger.calls(), ledger.counts()
    names = [*FAILING, "nan", "length"]
    paid = {name: np.isfinite(decisions.payoff[decisions.arm == k]) for k, name in enumerate(names)}
    assert all(len(p) == 4 for p in paid.values())  # round robin: each arm once a step
    assert paid["length"].any()
    assert not any(
        paid[name].any() for name in (*FAILING, "nan")
    )  # a loss says nothing of an arm that did not judge
    assert counts["failures"] == summary["counts"]["arm_failures"] == 4 * len(FAILING)
    assert summary["counts"]["abstained"] == 4
    by_status = summary["calls"]["by_status"]
    assert by_status["timeout"] == 4 * 3
    assert by_status["failed"] == 3 * 4 * 3
    assert by_status["abstained"] == 4 * 3
    assert by_status["fallback"] == (len(FAILING) + 1) * 4 * 3
    fallback = np.array([s == "fallback" for s in calls.status])
    assert {names[k] for k in calls.arm[fallback]} == {"length"}
    assert summary["counts"]["pairs"] > 0
    assert summary["calls"]["all_arms"] == 6 * 4 * 3 * len(names)


def test_an_abstention_is_valued_as_such(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny(
        arms("nan", "length"), "router={name: fixed, arm: nan}", "payoff.name=probe", "eval.limit=1"
    )
    monkey: dict[str, Any] = {}
    from reward_router.session import Session

    original = Session.outcomes

    def with_gold(self: Any, *args: Any) -> Any:
        found = original(self, *args)
        for outcome in found:
            outcome.golds = [np.array([1.0] + [0.0] * (len(g) - 1)) for g in outcome.golds]
        monkey["seen"] = found
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "outcomes", with_gold)
        summary = run.train(config, tmp_path / "run")
    assert summary["arms"]["nan"]["mean_payoff"] == 0.5  # orders right and wrong as a coin does
    assert summary["counts"]["abstained"] == summary["arms"]["nan"]["decisions"]
    assert summary["counts"]["pairs"] > 0  # the fallback's
    assert all(np.isnan(s).all() for outcome in monkey["seen"] for s in outcome.scores)


def test_without_the_breaker_all_arms_failing_ends_all_the_same(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    summary = run.train(
        tiny(arms("raise", "short"), "eval.limit=1", "pool.breaker=off"), tmp_path / "run"
    )
    assert summary["counts"]["pairs"] == 0
    assert summary["counts"]["skipped_prompts"] == summary["counts"]["no_payoff"] == 12
    assert all(a["payoffs"] == 0 for a in summary["arms"].values())


def test_ties_are_skipped_and_teach_nothing(tiny: Callable[..., Config], tmp_path: Path) -> None:
    tied = "kind: python, path: 'misbehaving:Arm', how: tie"
    config = tiny(f"arms=[{{name: a, {tied}}}, {{name: b, {tied}}}]", "eval.limit=1")
    summary = run.train(config, tmp_path / "run")
    assert summary["counts"]["skipped_prompts"] == summary["counts"]["no_payoff"] == 12
    assert summary["counts"]["arm_failures"] == summary["counts"]["abstained"] == 0


def bad_losses(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Losses of the steps that ``bad`` names become NaN."""
    calls, original, real_step = {"step": -1}, step.dpo, step.Trainer.step

    def count(self: Any, pairs: Any, batch: int = 0) -> Any:
        calls["step"] += 1
        return real_step(self, pairs, batch)

    monkeypatch.setattr(step.Trainer, "step", count)
    monkeypatch.setattr(
        step, "dpo", lambda *a: original(*a) * (math.nan if bad(calls["step"]) else 1.0)
    )


def test_one_bad_loss_is_skipped(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_losses(monkeypatch, lambda t: t == 1)
    summary = run.train(tiny("eval.limit=1"), tmp_path / "run")
    assert summary["counts"]["skipped_steps"] == 1
    lines = RunDir(tmp_path / "run").read_log()
    assert [(x["skipped"], x["payoffs"] > 0) for x in lines] == [
        (False, True),
        (True, False),
        (False, True),
        (False, True),
    ]


def test_three_bad_losses_stop_the_run_with_its_state(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tiny("eval.limit=1", "checkpoint_every=100"), tmp_path / "run"
    with monkeypatch.context() as patch:
        bad_losses(patch, lambda t: t >= 1)
        with pytest.raises(RunError, match="not finite"):
            run.train(config, out)
    assert [p.name for p in RunDir(out).checkpoints()] == [
        "000002",
        "000003",
    ]  # 0 is dropped: two are kept
    summary = run.train(config, out, resume=True)
    assert summary["counts"]["skipped_steps"] == 2
