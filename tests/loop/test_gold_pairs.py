"""Preference pairs from prompts with gold.

Right stands above wrong, no pair comes twice, and one clear line is given where there are none.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.examples import Example

gold = pytest.importorskip(
    "reward_router.jobs.gold_pairs", reason="needs the packages of the extra `train`"
)
EXAMPLE = Example("e", "Say an even number.", "numbers", lambda r: int(r) % 2 == 0)


@pytest.mark.parametrize("per_prompt", [1, 3, 99])
def test_pairs_are_right_above_wrong_and_drawn_by_key(per_prompt: int) -> None:
    rows = gold.gold_pairs_of(EXAMPLE, ["1", "2", "2", "3", "4", " "], per_prompt, 7)
    assert rows == gold.gold_pairs_of(EXAMPLE, ["1", "2", "2", "3", "4", " "], per_prompt, 7)
    found = {(r["chosen"], r["rejected"]) for r in rows}
    assert len(rows) == len(found) == min(per_prompt, 4)
    assert found <= {(c, w) for c in "24" for w in "13"}
    assert {(r["prompt"], r["category"]) for r in rows} == {(EXAMPLE.prompt, "numbers")}
    assert len({r["id"] for r in rows}) == len(rows)


@pytest.mark.parametrize("responses", [["2", "4"], ["1", "3"], ["2", "2"], []])
def test_a_prompt_that_is_all_right_or_all_wrong_gives_none(responses: list[str]) -> None:
    assert gold.gold_pairs_of(EXAMPLE, responses, 2, 0) == []


def test_the_file_is_what_fit_prior_reads(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reward_router.fit_prior.pairs import load_pairs
    from reward_router.offline.settings import PairSource

    monkeypatch.setattr(
        gold,
        "load_examples",
        lambda data: [Example("e", "Say it.", "x", lambda r: len(r) % 2 == 0)],
    )
    out = tmp_path / "deep" / "pairs.jsonl"
    n = gold.gold_pairs(
        tiny("policy.n_responses=12", "policy.max_new_tokens=3"), out, 5, 2, Console(quiet=True)
    )
    assert n == len(out.read_text().splitlines()) == 2
    pairs, dropped = load_pairs([PairSource(source=str(out))])
    assert [p.chosen for p in pairs] == [
        json.loads(line)["chosen"] for line in out.read_text().splitlines()
    ]
    assert not dropped


def test_a_policy_that_is_never_right_is_told_so(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gold, "load_examples", lambda data: [Example("e", "Say it.", "x", lambda r: False)]
    )
    with pytest.raises(InputError, match="none got a right and a wrong answer"):
        gold.gold_pairs(tiny(), tmp_path / "pairs.jsonl", 3, 2, Console(quiet=True))
    assert not (tmp_path / "pairs.jsonl").exists()


def test_cut_responses_are_left_out_unless_they_are_kept(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a run the rule on cut responses decides their pairs, so no arm learns from them."""
    from reward_router.policy import Response

    sampled = ["2", Response("4", finished=False), Response("3", finished=False), "1"]
    monkeypatch.setattr(gold, "load_examples", lambda data: [EXAMPLE])
    monkeypatch.setattr(gold.Policy, "sample", lambda self, prompts, ids, n, step: [sampled])
    for rule, most in (("lose", 1), ("drop", 1), ("keep", 4)):
        out = tmp_path / f"{rule}.jsonl"
        n = gold.gold_pairs(tiny(f"pairs.truncated={rule}"), out, None, 9, Console(quiet=True))
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert n == len(rows) == most
    monkeypatch.setattr(gold.Policy, "sample", lambda self, prompts, ids, n, step: [sampled[:3]])
    with pytest.raises(InputError, match="2 of 3 responses were cut"):
        gold.gold_pairs(
            tiny("pairs.truncated=lose"), tmp_path / "no.jsonl", None, 9, Console(quiet=True)
        )


def test_the_split_and_all_prompts_are_options(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from reward_router.cli import app

    asked = []
    monkeypatch.setattr(
        gold,
        "gold_pairs",
        lambda config, out, prompts, *rest: asked.append((config.data.split, prompts)),
    )
    run = CliRunner().invoke
    assert (
        run(app, ["gold-pairs", str(tiny_yaml), "--split", "fit", "--prompts", "all"]).exit_code
        == 0
    )
    assert run(app, ["gold-pairs", str(tiny_yaml), "--prompts", "5000"]).exit_code == 0
    assert asked == [("fit", None), ("train", 5000)]
    for wrong in ("0", "-1", "some"):
        found = run(app, ["gold-pairs", str(tiny_yaml), f"--prompts={wrong}"])
        assert isinstance(found.exception, InputError)
        assert "a number of 1 or more, or all" in str(found.exception)
