"""The win rate: what a run without gold is measured by.

An arm that takes no part in training says how often it likes the response after training better.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
from reward_router.report import training  # noqa: E402
from reward_router.win_rate import win_rate, wins_of  # noqa: E402


def settings(tmp_path: Path) -> tuple[str, ...]:
    rows = [{"prompt": f"Say {i}.", "category": "ab"[i % 2]} for i in range(12)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = f"{{source: {tmp_path / 'mine.jsonl'}}}"
    return (
        f"data={data}", f"eval.data={data}", "eval.arm=likely", "eval.samples=2",
        "eval.greedy=false", "eval.limit=6", "train.lr=0.05",
    )  # fmt: skip


def test_wins_of_the_turned_pairs_are_the_losses() -> None:
    score_P2 = np.random.default_rng(0).normal(size=(20, 2)).round(1)
    assert wins_of(score_P2[:, ::-1]) == pytest.approx(1 - wins_of(score_P2))


def test_the_arm_judges_the_held_out_responses_and_nothing_else(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny(*settings(tmp_path))
    summary = run.train(config, tmp_path / "run")
    found = summary["win_rate"]
    assert found["arm"] == "likely"
    assert (found["pairs"], found["all"]["n"]) == (12, 6)
    assert 0 <= found["all"]["rate"] <= 1
    assert sum(row["n"] for row in found["by_category"].values()) == 6
    assert summary["arms"].keys() == {"short", "long"}
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        assert set(ledger.calls().arms) == {"short", "long"}
    assert summary["gold_sampled"] is None
    page = training.write(tmp_path / "run").read_text(encoding="utf-8")
    assert "likely likes the response after training better" in page
    rows = RunDir(tmp_path / "run").read_samples()
    turned = [row | {"when": {"before": "after", "after": "before"}[row["when"]]} for row in rows]
    other = win_rate(config, turned)
    assert other is not None
    assert other["all"]["rate"] == pytest.approx(1 - found["all"]["rate"])


def test_an_arm_that_is_not_listed_is_refused(tiny: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the arms"):
        tiny("eval.arm=nobody")
    with pytest.raises(InputError, match="nothing to route"):
        tiny(
            "eval.arm=likely",
            "arms=[{name: likely, kind: loglik, model: tiny}, "
            "{name: short, kind: metric, metric: length}]",
        )
