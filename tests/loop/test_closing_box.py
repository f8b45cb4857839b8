"""What a run ends with is one box of facts.

It fits 80 columns, says in words what happened, and opens the report, too.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from reward_router import artifacts, facts
from reward_router import config as configuration
from reward_router.config import Config
from reward_router.progress import show_box

STUDY = {
    "machine": "AMD EPYC",
    "seeds": 8,
    "variants": {
        "default": {"change": 0.171, "ci95": [0.12, 0.222]},
        "uniform": {"change": 0.1, "ci95": [0.05, 0.15]},
        "only marks": {"change": 0.12, "ci95": [0.07, 0.17]},
        "only short": {"change": 0.02, "ci95": [-0.03, 0.07]},
        "verifier (control)": {"change": 0.25, "ci95": [0.2, 0.3]},
    },
}
CHOICE = {
    "prompts": 40, "samples": 3, "gold": 0.4, "random": 0.3, "oracle": 0.6, "diff": 0.1,
    "ci95": [0.02, 0.18], "calls": 120,
}  # fmt: skip


def summary(**more: Any) -> dict[str, Any]:
    row = {"n": 40, "before": 0.25, "after": 0.375, "diff": 0.125, "ci95": [0.05, 0.2]}
    arm = {"share": 0.5, "decisions": 5, "judged_share": 0.5}
    return {
        "steps": 8,
        "samples": 3,
        "gold_sampled": {"all": row},
        "arms": {
            "grammar": {**arm, "judged_share_by_category": {"sums": 0.2, "title": 0.9}},
            "marks [/b]": {**arm, "judged_share_by_category": {"sums": 0.8, "title": 0.1}},
        },
        "n_arms": 2,
        "calls": {"made": 384, "audit": 24, "all_arms": 768, "best_of": 240},
        "seconds": {"load": 10.0, "step": 65.0},
        **more,
    }


def said(**more: Any) -> dict[str, str]:
    return dict(facts.facts(summary(**more)))


@pytest.mark.parametrize(
    ("ci95", "words"),
    [([0.05, 0.2], "better"), ([-0.2, -0.05], "worse"), ([-0.1, 0.1], "no difference shown"),
     ([None, None], "no difference shown")],
)  # fmt: skip
def test_it_says_in_words_what_became_of_gold(ci95: list[float | None], words: str) -> None:
    row = {"n": 40, "before": 0.25, "after": 0.375, "diff": 0.125, "ci95": ci95}
    told = said(gold_sampled={"all": row})["gold"]
    assert told.startswith("from 0.250 to 0.375 on 40 held-out prompts, 3 samples each: +0.125")
    assert told.endswith(words)


def test_which_step_was_kept() -> None:
    kept = {"step": 6, "last_step": 8, "gold": 0.5, "base": 0.4, "prompts": 20}
    assert said()["kept"] == "the adapter of the last step, 8"
    assert said(kept=kept)["kept"].startswith(
        "the adapter of step 6 of 8 (0.500 on 20 train prompts"
    )
    base = said(kept={**kept, "step": 0})
    assert base["kept"].startswith("the base model")
    assert "nothing was gained" in base["gold"]


def test_who_is_trusted_for_what_and_what_it_took() -> None:
    told = said(best_of={"before": CHOICE, "after": {**CHOICE, "gold": 0.5}})
    assert told["trusted"] == "sums: marks [/b] 80%, title: grammar 90%"
    assert (
        told["calls"] == "384, 50% of the 768 that all 2 arms would take; "
        "24 for audits and 240 for best of n on top"
    )
    assert told["time"] == "1 min 15 s"
    assert told["best of 3"].startswith(
        "before training 0.400 by one arm a prompt, 0.300 at random (+0.100 [+0.020"
    )
    assert "after training 0.500" in told["best of 3"]
    assert "best of 3" not in said()


def test_what_others_make_of_the_same_calls_is_the_shipped_study_s() -> None:
    assert "same calls" not in said(study=None)
    told = said(study=STUDY)["same calls"]
    assert "arms drawn at random +0.100 [+0.050, +0.150]" in told
    assert "the best single arm (marks) +0.120" in told
    assert told.endswith("(in the shipped study: 8 seeds, AMD EPYC)")


def test_after_own_data_a_comparison_is_next() -> None:
    assert "train my.yaml" in facts.what_next(summary(study=STUDY))
    own = facts.what_next(summary(study=None))
    assert "name: uniform" in own
    assert "compare RUN OTHER" in own
    # What ran with arms drawn at random is compared with a router.
    assert "name: uniform" not in facts.what_next(summary(study=None, router="uniform"))


def test_why_no_pair_was_trained_on() -> None:
    """Arms that tell nothing apart, or a limit that cut all: two cut responses make no pair."""
    cut = {"pairs": 0, "responses": 36, "truncated": 36}
    change = {"n": 40, "before": 0.25, "after": 0.25, "diff": 0.0, "ci95": [0.0, 0.0]}
    gold = {"all": change}
    assert "token limit cut every" in said(counts=cut, gold_sampled=gold)["likely cause"]
    some_ended = {**cut, "truncated": 35}
    assert "told no two" in said(counts=some_ended, gold_sampled=gold)["likely cause"]


def test_a_policy_that_is_hardly_ever_right_is_named_as_the_cause() -> None:
    row = {"n": 40, "before": 0.01, "after": 0.02, "diff": 0.01, "ci95": [-0.02, 0.04]}
    gold = {"all": row}
    assert "hardly ever right" in said(gold_sampled=gold, payoff="probe")["likely cause"]
    assert "1 % before training" in said(gold_sampled=gold, payoff="probe")["likely cause"]
    # A payoff that needs no gold can teach all the same, and so can gold that is there at times.
    assert "likely cause" not in said(gold_sampled=gold, payoff="neg_loss")
    often = {"all": {**row, "before": 0.2}}
    assert "likely cause" not in said(gold_sampled=often, payoff="probe")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_box_fits(width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width)
    rows = facts.facts(summary(study=STUDY, best_of={"before": CHOICE, "after": CHOICE}))
    show_box(console, "what came of it", [*rows, ("next", facts.what_next({"study": STUDY}))])
    lines = file.getvalue().splitlines()
    assert {cell_len(line) for line in lines} == {min(width, 80)}
    assert "marks [/b] 80%" in " ".join(file.getvalue().replace("│", " ").split())
    if width >= 80:
        for command in (
            "reward-router train my.yaml --out runs/mine",
            "reward-router replay scores.jsonl --report replay.html",
        ):
            assert any(command in line for line in lines)


def test_the_shipped_study_is_told_of_the_default_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    assert run.is_default(configuration.load(settings=["seed=7"]))
    assert not run.is_default(configuration.load(settings=["train.lr=1e-4"]))
    monkeypatch.setattr(artifacts.resources, "files", lambda _: tmp_path)
    assert artifacts.shipped_study() is None
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    assert artifacts.shipped_study() == STUDY


def test_a_run_ends_with_the_box_and_its_report_opens_with_it(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    from html import unescape

    from reward_router.report import training

    monkeypatch.setattr(run, "is_default", lambda _: True)
    monkeypatch.setattr(run, "shipped_study", lambda: STUDY)
    file = io.StringIO()
    settings = (
        "eval.samples=2",
        "eval.best_of=true",
        "eval.keep=best",
        "eval.look=2",
        "eval.limit=6",
    )
    made = run.train(
        tiny(*settings),
        tmp_path / "run",
        console=Console(file=file, width=80, highlight=False, markup=False),
    )
    box = file.getvalue().split("what came of it")[1]
    plain = " ".join(box.replace("│", " ").split())
    page = training.write(tmp_path / "run").read_text(encoding="utf-8")
    opening = unescape(page[: page.index("<nav>")])
    told = dict(facts.facts(made))
    assert told.keys() == {"gold", "kept", "same calls", "trusted", "best of 2", "calls", "time"}
    for text in told.values():
        assert " ".join(text.split()) in plain
        assert text in opening
    assert 'id="best-of"' in page
    assert "Who picked, after training" in page
