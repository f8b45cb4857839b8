"""Each command calls one function: eval, export, ledger, arms check, replay."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reward_router import cli
from reward_router.config import Config

Cli = Callable[..., str]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Run the command line in this process; its output.

    Exit code 0 is expected unless ``code`` says otherwise.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["reward-router", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert (stop.value.code or 0) == code, said.err
        return said.out + said.err

    return run


def test_eval_export_and_ledger_of_a_run(
    command: Cli, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reward_router.policy import Policy
    from reward_router.rundir import adapter_tensors

    config = tiny("train.lr=0.05", "eval.limit=4")
    summary = run.train(config, tmp_path / "run")

    shown = command("eval", "run", "--limit", "4")
    assert f"{summary['gold']['all']['after']:.2f}" in shown
    Path("sums.jsonl").write_text(
        "".join(
            json.dumps({"question": f"{i} + 1?", "answer": str(i + 1)}) + "\n" for i in range(3)
        )
    )
    assert "gold on sums.jsonl" in command(
        "eval", "run", "sums.jsonl", "--answer-kind", "number", "--column", "prompt=question"
    )
    assert "no gold" in command("eval", "run", "sums.jsonl", "--column", "prompt=question", code=2)
    assert "allowed" in command("eval", "run", "sums.jsonl", "--answer-kind", "numbers", code=2)
    assert "no finished run" in command("eval", "nowhere", code=2)

    assert "merged" in command("export", "run", "merged")
    assert "exists already" in command("export", "run", "merged", code=2)
    merged = AutoModelForCausalLM.from_pretrained("merged", use_safetensors=True)
    assert AutoTokenizer.from_pretrained("merged").chat_template
    policy = Policy(config.policy, config.train, config.seed)
    policy.load_adapter(adapter_tensors(tmp_path / "run"))
    batch = policy.tokenize(["Is it the same model?"])
    with torch.no_grad():
        wanted, base = policy.model(**batch).logits, policy.model.get_base_model()
        assert torch.allclose(merged(**batch).logits, wanted, atol=1e-5)
        with policy.model.disable_adapter():
            assert not torch.allclose(base(**batch).logits, wanted, atol=1e-3)

    assert "whole" in command("ledger", "check", "run/ledger.sqlite")
    command("ledger", "export", "run/ledger.sqlite", "events.jsonl")
    events = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
    assert sum(e["type"] == "decisions" for e in events) == 12
    assert ".jsonl" in command("ledger", "export", "run/ledger.sqlite", "events.txt", code=2)
    command("ledger", "check", "nothing.sqlite", code=2)
    assert "report" in command("report", "run")


def test_arms_check(command: Cli, tiny: Callable[..., Config], tiny_yaml: Path) -> None:
    pytest.importorskip("torch", reason="needs the packages of the extra `train`")
    tiny()
    rows = [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": f"It may be {i}, or not."}
        for i in range(5, 9)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    shown = command("arms", "check", str(tiny_yaml), "pairs.jsonl", "--json", "check.json")
    for arm in ("short", "long", "likely"):
        assert arm in shown
    found = {row["arm"]: row for row in json.loads(Path("check.json").read_text())}
    assert (found["short"]["accuracy"], found["long"]["accuracy"]) == (1.0, 0.0)
    again = command(
        "arms", "check", str(tiny_yaml), "pairs.jsonl", "--baseline", "check.json", "--limit", "2"
    )
    assert "+0.00" in again
    assert "arms check" in command(
        "arms", "check", str(tiny_yaml), "pairs.jsonl", "--baseline", "pairs.jsonl", code=2
    )


def test_replay(command: Cli) -> None:
    rows = [
        {
            "id": f"r{i}",
            "prompt": f"prompt {i}",
            "category": "odd" if i % 2 else "even",
            "label": "a" if i % 3 else "b",
            "scores": {"good": [1.0, 0.0] if i % 3 else [0.0, 1.0], "odd": [float(i % 2), 0.5]},
        }
        for i in range(40)
    ]
    Path("scores.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = [
        "--router",
        "uniform",
        "--router",
        "linucb:alpha=0.5",
        "--seeds",
        "2",
        "--folds",
        "2",
    ]
    shown = command(
        "replay", "scores.jsonl", *options, "--json", "out.json", "--report", "out.html"
    )
    assert "linucb" in shown
    assert json.loads(Path("out.json").read_text())["files"]
    assert "<html" in Path("out.html").read_text()
    assert "no-such-router" in command(
        "replay", "scores.jsonl", "--router", "no-such-router", code=2
    )
    assert "folds" in command("replay", "scores.jsonl", "--folds", "1", code=2)
