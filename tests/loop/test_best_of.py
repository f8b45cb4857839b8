"""Best of n in a run.

The frozen router chooses among the sampled held-out responses, and nothing else changes by it.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.examples import Example
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
from reward_router.best_of import PromptPick, tabulate_choices  # noqa: E402

ON = ("eval.samples=3", "eval.limit=6", "eval.greedy=false", "eval.best_of=true")


@pytest.fixture(autouse=True)
def _gold_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model's answers are never right: here every second one is."""
    monkeypatch.setattr(
        Example, "gold", lambda self, texts: np.array([float(len(t) % 2) for t in texts])
    )


def without_seconds(summary: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in summary.items() if k not in ("seconds", "peak_memory_gib", "manifest")}


def test_the_table_is_the_mean_over_prompts() -> None:
    picks = [
        PromptPick("a", "x", "one", 1.0, 0.5, 1.0),
        PromptPick("b", "x", "two", 0.0, 0.25, 1.0),
        PromptPick("c", "y", "one", 1.0, 1.0, 1.0),
    ]
    found = tabulate_choices(picks, ["one", "two", "three"], calls=9, samples=3)
    assert (found["gold"], found["random"], found["oracle"]) == pytest.approx(
        (2 / 3, 1.75 / 3, 1.0)
    )
    assert found["diff"] == pytest.approx(found["gold"] - found["random"])
    assert found["ci95"][0] <= found["diff"] <= found["ci95"][1]
    assert found["by_category"]["x"]["shares"] == {"one": 0.5, "two": 0.5, "three": 0.0}
    assert found["by_category"]["all"]["n"] == 3


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("router={name: thompson, unit: batch}",),
        ("router={name: round_robin, per: iteration}",),
        ("router={name: bayesian, unit: pair}", "payoff.name=probe"),
    ],
    ids=["prompt", "batch", "iteration", "pair"],
)
def test_one_arm_a_prompt_one_call_a_response_and_nothing_else_changes(
    tiny: Callable[..., Config], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    on = run.train(tiny(*ON, *settings), tmp_path / "on")
    off = run.train(tiny(*ON[:-1], *settings), tmp_path / "off")
    for found, gold in zip(
        (on["best_of"]["before"], on["best_of"]["after"]), ("before", "after"), strict=True
    ):
        assert found["calls"] == 6 * 3
        assert found["random"] == pytest.approx(on["gold_sampled"]["all"][gold])
        assert found["random"] <= found["oracle"]
        assert 0 <= found["gold"] <= found["oracle"]
        for row in found["by_category"].values():
            assert sum(row["shares"].values()) == pytest.approx(1.0)
    assert off["best_of"] is None
    assert on["calls"].pop("best_of") == 36
    assert off["calls"].pop("best_of") == 0
    on["best_of"] = None
    assert without_seconds(on) == without_seconds(off)
    ledgers = [Ledger(tmp_path / name / "ledger.sqlite", readonly=True) for name in ("on", "off")]
    one, other = (ledger.decisions() for ledger in ledgers)
    assert (one.unit, one.arm.tolist(), one.propensity.tolist()) == (
        other.unit,
        other.arm.tolist(),
        other.propensity.tolist(),
    )
    assert len(ledgers[0].calls().arm) == len(ledgers[1].calls().arm)
    for ledger in ledgers:
        ledger.close()


def test_a_fixed_router_s_choice_is_its_arm_s(tiny: Callable[..., Config], tmp_path: Path) -> None:
    """The arm `gold` picks a right response wherever there is one: the best of the n."""
    gold = ("arms=[{name: gold, kind: gold}]", "router={name: fixed, arm: gold}")
    found = run.train(tiny(*ON, *gold), tmp_path / "run")["best_of"]
    assert found["before"]["gold"] == found["before"]["oracle"]
    assert found["before"]["by_category"]["all"]["shares"] == {"gold": 1.0}
    assert found["after"]["gold"] > found["after"]["random"]


def test_a_dead_arm_fails_no_run_and_another_chooses(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    arms = (
        "arms=[{name: dead, kind: python, path: 'misbehaving:Arm', how: raise}, "
        "{name: short, kind: metric, metric: length, direction: short}]"
    )
    summary = run.train(tiny(*ON, arms, "router={name: fixed, arm: dead}"), tmp_path / "run")
    assert (
        summary["best_of"]["before"]["calls"] == 2 * 18
    )  # the dead arm is asked, then the one that stands in
    assert summary["best_of"]["before"]["by_category"]["all"]["shares"]["dead"] == 1.0


@pytest.mark.parametrize(
    "settings",
    [("eval.samples=1",), ("router.mode=ensemble", "router.name=uniform"), ("judge=committee",)],
    ids=str,
)
def test_where_nobody_can_choose_there_is_none(
    tiny: Callable[..., Config], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    assert run.train(tiny(*ON, *settings), tmp_path / "run")["best_of"] is None


@pytest.mark.parametrize("keep", ["last", "best"])
def test_resumed_it_is_the_same(
    tiny: Callable[..., Config],
    tmp_path: Path,
    stopped_run: Callable[[Config, Path, int], None],
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
) -> None:
    """With `best` the base model is kept here.

    Its responses are lost with the process and drawn again.
    """
    from reward_router import looks

    monkeypatch.setattr(looks, "kept_look", lambda found: found[0])
    config = tiny(*ON, f"eval.keep={keep}", "eval.look=3")
    whole = run.train(config, tmp_path / "whole")
    assert whole["best_of"].keys() == {"before", "after"}
    out = tmp_path / "broken"
    stopped_run(config, out, 2)
    state = json.loads((RunDir(out).checkpoints()[-1] / "state.json").read_text())
    assert state["best_of"] == {"before": whole["best_of"]["before"]}
    resumed = run.train(config, out, resume=True)
    assert resumed["best_of"] == whole["best_of"]
    assert resumed["gold_sampled"] == whole["gold_sampled"]


def test_gold_that_is_known_is_drawn_again_for_its_responses(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    from reward_router.evaluate import GoldMeasured

    first = run.train(tiny(*ON), tmp_path / "first")
    before = {kind: GoldMeasured(**rows["before"]) for kind, rows in first["gold_rows"].items()}
    again = run.train(tiny(*ON), tmp_path / "again", before=before)
    assert again["best_of"] == first["best_of"]


def test_the_preset_for_pairs_starts_without_a_prior() -> None:
    from reward_router import config

    router = config.load(preset="bayesian-demo").router
    assert (router.name, router.unit, router.prior) == ("bayesian", "pair", None)


def test_the_estimate_counts_its_calls() -> None:
    from reward_router import config
    from reward_router.jobs import estimate

    settings = ["eval.limit=10", "eval.samples=3", "router={name: linucb, unit: prompt}"]
    assert estimate.best_of_responses(config.load(settings=[*settings, "eval.best_of=true"])) == 60
    assert estimate.best_of_responses(config.load(settings=[*settings, "eval.best_of=false"])) == 0
