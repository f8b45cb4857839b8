"""``reward-router replay`` on bad input, as typed.

The exit code is 2, and one line on stderr says what, where and what is allowed.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from reward_router import cli

Rows = list[dict[str, Any]]


def good(n: int = 12) -> Rows:
    """Rows that nothing is wrong with."""
    draw = ((f"q{i}", "ab"[i % 2], float(i % 3)) for i in range(n))
    return [
        {"id": f"{q}-0", "label": label, "scores": {"x": [1.0, s], "y": [s, 0.5]}}
        for q, label, s in draw
    ]


def with_(**change: Any) -> Rows:
    return [{**row, **change} for row in good()]


FILES: dict[str, tuple[str, list[str]]] = {
    "no label": ("".join(json.dumps({k: v for k,
                                     v in r.items() if k != "label"}) + "\n" for r in good()),
                                     ["no usable row", "line 1", "label None"]),
    "true for a label": ("".join(json.dumps(r) + "\n" for r in with_(label=True)),
                         ["label True does not say which response is better", "a or b"]),
    "a label of its own": ("".join(json.dumps(r) + "\n" for r in with_(label="A wins")),
                           ["'A wins'", "allowed: a, b"]),
    "one arm only": ("".join(json.dumps(r) + "\n" for r in with_(scores={"x": [1, 2]})),
                     ["only one arm (x)", "at least 2"]),
    "three scores": ("".join(json.dumps(r) + "\n" for r in with_(scores={"x": [1, 2, 3],
                                                                         "y": [1, 2]})),
                                                                         ["line 1", "scores of x",
                                                                          "[1, 2, 3]"]),
    "one score": ("".join(json.dumps(r) + "\n" for r in with_(scores={"x": 1.5, "y": [1, 2]})),
                  ["line 1", "scores of x", "1.5"]),
    "neither scores nor verdicts": ("".join(json.dumps(r) + "\n" for r in with_(scores={})),
                                    ["neither scores nor verdicts"]),
    "empty": ("", ["no usable row"]),
    "CSV without scores": ("id,label\n1,a\n", ["line 2", "neither scores nor verdicts"]),
    "an arm without a name": ("".join(json.dumps(r) + "\n" for r in with_(scores={"": [1, 2],
                                                                                  "y": [1, 2]})),
                              ["line 1", "an arm without a name"]),
    "nearly the columns of scores": ("prompt,chosen,rejected,rm_chosen,rm_rejected\nx,y,z,1,0\n",
                                     ["call rm_chosen and rm_rejected rm:a and rm:b"]),
    "not JSON": ("{id: 1}\n", ["line 1", "not JSON"]),
}  # fmt: skip

OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "unknown router": (["--router", "linucbb"], ["'linucbb'", "did you mean linucb"]),
    "unknown arm": (["--router", "zz"], ["'zz'", "uniform"]),
    "unknown key": (["--router", "linucb:aplha=1"], ["'aplha'", "alpha"]),
    "a bad value": (["--router", "linucb:alpha=high"], ["alpha=high", "float"]),
    "a value out of range": (["--router", "exp3:gamma=2"], ["gamma", "2"]),
    "a key of another router": (["--router", "uniform:alpha=1"], ["'alpha'", "none"]),
    "a router twice": (["--router", "exp3", "--router", "exp3"], ["exp3", "twice"]),
    "unknown features": (["--features", "prompts"], ["'prompts'", "prompt"]),
    "features that are not there": (["--features", "prompt"], ["prompt"]),
    "unknown payoff": (["--payoff", "correkt"], ["'correkt'", "correct"]),
    "unknown key of a payoff": (["--payoff", "correct:part=1"], ["'part'", "fraction"]),
    "a payoff out of range": (["--payoff", "correct:fraction=0"], ["fraction"]),
    "more witnesses than arms": (
        ["--payoff", "agreement:others=2", "--router", "exp3"],
        ["others", "3 arms"],
    ),
    "no arm left": (["--arms", "z*"], ["at least 2 arms", "x, y"]),
    "one arm left": (["--drop-arms", "x"], ["at least 2 arms", "y left"]),
    "unknown grouping": (["--by", "subject"], ["subject", "category"]),
    "no runs": (["--seeds", "0"], ["--seeds 0"]),
    "one fold": (["--folds", "1"], ["--folds 1"]),
    "no such folder": (["--json", "no/such/out.json"], ["no/such"]),
    "runs in words": (["--seeds", "many"], ["--seeds", "integer"]),
}


def replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """stderr of a refused command."""
    monkeypatch.setattr(sys, "argv", ["reward-router", "replay", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert stop.value.code == 2, said.out + said.err
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("reward-router: ")
    return said.err


@pytest.mark.parametrize("name", FILES)
def test_files(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text, says = FILES[name]
    monkeypatch.chdir(tmp_path)
    Path("scores.jsonl").write_text(text)
    said = replayed(
        monkeypatch, capsys, "scores.jsonl", "--router", "uniform", "--json", "out.json"
    )
    assert "scores.jsonl" in said or "scores:" in said
    for part in says:
        assert part in said
    assert not Path("out.json").exists()


@pytest.mark.parametrize("name", OPTIONS)
def test_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options, says = OPTIONS[name]
    monkeypatch.chdir(tmp_path)
    Path("scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good()))
    given = options if "--router" in options else ["--router", "uniform", *options]
    said = replayed(monkeypatch, capsys, "scores.jsonl", *given)
    for part in says:
        assert part in said


def test_missing_and_unknown_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such file" in replayed(monkeypatch, capsys, "gone.jsonl")
    assert "no such ledger" in replayed(monkeypatch, capsys, "gone.sqlite")
    Path("scores.xlsx").write_text("x")
    assert "unknown kind of file, allowed: .jsonl" in replayed(monkeypatch, capsys, "scores.xlsx")
    replayed(monkeypatch, capsys)
