"""Whatever is wrong with the input, it is said in one line.

The exit code is 2, one line stands on stderr, there is no traceback, and nothing is left behind.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reward_router import cli
from reward_router.config import Config

Cli = Callable[..., tuple[int, str, str]]
needs_training = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("peft") is None,
    reason="needs the packages of the extra `train`",
)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reward-router", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return run


def refused(result: tuple[int, str, str], *says: str) -> None:
    code, _, error = result
    assert code == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith("reward-router: ")
    for text in says:
        assert text in error


CONFIGS = {
    "unknown key": (["train.learning_rate=1"], ["train.learning_rate", "allowed"]),
    "unknown key, near": (["train.beta_=1"], ["did you mean 'beta'"]),
    "wrong type": (["train.lr=fast"], ["train.lr", "'fast'"]),
    "out of range": (["payoff.fraction=0"], ["payoff.fraction"]),
    "arm twice": (
        ["arms=[{name: a, kind: metric, metric: length}, {name: a, kind: metric, metric: length}]"],
        ["'a'", "twice"],
    ),
    "one arm": (["arms=[{name: a, kind: metric, metric: length}]"], ["nothing to route"]),
    "unknown router": (["router.name=linucbb"], ["router.name"]),
    "foreign option": (["router={name: uniform, alpha: 1}"], ["alpha is no option of uniform"]),
    "fixed without arm": (["router.name=fixed"], ["arm names"]),
    "unknown ablation": (
        ["router={name: bayesian, unit: pair, prior: p, without: onlin}"],
        ["router.without", "'online', 'offline' or 'cls'", "'onlin'"],
    ),
    "ablation of nothing": (
        ["router={name: bayesian, unit: pair, without: cls}"],
        ["without: cls", "prior"],
    ),
    "bayesian per batch": (
        ["router={name: bayesian, unit: batch}"],
        ["bayesian routes prompts", "'batch'"],
    ),
    "trust in nothing": (
        ["router={name: bayesian, unit: pair, trust: 0.5}"],
        ["trust", "prior is not given"],
    ),
    "tie per prompt": (["pairs.tie=0.1"], ["pairs.tie", "router.unit: pair"]),
    "advantage per prompt": (
        ["payoff.name=light_advantage"],
        ["light_advantage", "router.unit: pair"],
    ),
    "advantage of nll": (
        ["payoff.name=full_advantage", "router.unit=pair", "train.loss=nll"],
        ["full_advantage", "dpo or dpo+nll", "not nll"],
    ),
    "unknown arm of the router": (["router={name: fixed, arm: nobody}"], ["'nobody'", "short"]),
    "unknown fallback": (["pool.fallback=nobody"], ["'nobody'"]),
    "unknown kind": (["arms.0.kind=metrics"], ["arms.0.kind"]),
    "python payoff without path": (["payoff.name=python"], ["path"]),
    "set without value": (["train.lr"], ["section.key=value"]),
    "a missing data file": (
        ["data.source=none.jsonl", "data.categories=null"],
        ["none.jsonl", "no such file"],
    ),
    "unknown category": (["data.categories=[summs]"], ["did you mean 'sums'"]),
    "unknown split": (["data.split=eval"], ["train, fit, dev, test"]),
    "unknown metric": (["arms.0.metric=lenght"], ["lenght", "length"]),
    "unknown arm option": (["arms.0.taste=1"], ["taste"]),
    "payoff module": (["payoff={name: python, path: 'nowhere:f'}"], ["nowhere"]),
    "payoff function": (
        ["payoff={name: python, path: 'misbehaving:nothing'}"],
        ["misbehaving", "nothing"],
    ),
    "arm module": (["arms.0={name: x, kind: python, path: 'nowhere:Arm'}"], ["nowhere"]),
    "arm option of its own": (
        ["arms.0={name: x, kind: python, path: 'misbehaving:Arm', colour: red}"],
        ["colour"],
    ),
    "long prompt": (["policy.max_prompt_tokens=20"], ["max_prompt_tokens", "20"]),
    "policy model": (["policy.model=./no/such/model"], ["./no/such/model"]),
    "model of an arm": (["arms.likely.model=./no/such/judge"], ["arm 'likely'", "./no/such/judge"]),
    "lora targets": (["train.lora_targets=[nothing_like_it]"], ["nothing_like_it"]),
    "payoff above 1": (
        ["payoff={name: python, path: 'misbehaving:payoff_two'}"],
        ["2.0", "[0, 1]"],
    ),
    "payoff NaN": (["payoff={name: python, path: 'misbehaving:payoff_nan'}"], ["nan", "[0, 1]"]),
    "payoff text": (["payoff={name: python, path: 'misbehaving:payoff_text'}"], ["'high'"]),
    "payoff raises": (["payoff={name: python, path: 'misbehaving:payoff_raises'}"], ["KeyError"]),
}


@needs_training
@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(
    name: str, command: Cli, tiny: Callable[..., Config], tiny_yaml: Path
) -> None:
    settings, says = CONFIGS[name]
    if name.startswith(("arm module", "arm option of")):  # an item is replaced as a whole
        text = tiny_yaml.read_text()
        start = text.index("  - {name: short")
        tiny_yaml.write_text(
            text[:start] + f"  - {settings[0].partition('=')[2]}" + text[text.index("\n", start) :]
        )
        settings = []
    tiny()
    options = [part for setting in settings for part in ("--set", setting)]
    refused(command("train", str(tiny_yaml), "--out", "runs/bad", *options), *says)
    assert not Path("runs").exists()


DATA = {
    "empty": ("", ["no rows"]),
    "broken": (
        '{"prompt": "x", "answer": "1"}\n{"prompt": \n{"prompt"\n',
        ["2 of 3 rows", "line 2"],
    ),
    "without prompt": ('{"text": "x"}\n', ["prompt", "text"]),
    "unreadable gold": ('{"prompt": "x", "answer": "none"}\n', ["'none'", "number"]),
    "the same id twice": (
        '{"id": "a", "prompt": "x", "answer": "1"}\n{"id": "a", "prompt": "y", "answer": "1"}\n',
        ["'a'"],
    ),
}


@needs_training
@pytest.mark.parametrize("name", DATA)
def test_data(name: str, command: Cli, tiny_yaml: Path) -> None:
    text, says = DATA[name]
    Path("rows.jsonl").write_text(text)
    settings = ["data={source: rows.jsonl, answer_kind: number}", "payoff.name=neg_loss"]
    options = [part for setting in settings for part in ("--set", setting)]
    refused(command("train", str(tiny_yaml), "--out", "run", *options), *says)
    assert not Path("run").exists()


@needs_training
def test_gold_that_is_not_there(command: Cli, tiny_yaml: Path) -> None:
    Path("rows.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    given = ["--set", "data={source: rows.jsonl}", "--set", "payoff.name=probe"]
    refused(command("train", str(tiny_yaml), "--out", "run", *given), "probe", "needs gold")


def test_files_and_options(command: Cli, tiny_yaml: Path) -> None:
    refused(command("train", "nothing.yaml"), "nothing.yaml", "no such file")
    refused(command("train", str(tiny_yaml), "--preset", "laser"), "not both")
    refused(command("train", "--preset", "lasr"), "did you mean 'laser'")
    refused(command("train", "--speed", "fast"), "--speed")
    refused(command("trane"), "trane")
    refused(command("report"), "")
    refused(command("study", "--part", "2/2"), "2/2")
    Path("list.yaml").write_text("- a\n")
    refused(command("train", "list.yaml"), "mapping")
    Path("broken.yaml").write_text("a: [1\nb: 2\n")
    refused(command("train", "broken.yaml"), "broken.yaml line")
    assert not Path("runs").exists()


@needs_training
def test_directories(command: Cli, tiny: Callable[..., Config], tiny_yaml: Path) -> None:
    tiny()
    train = ("train", str(tiny_yaml), "--set", "eval.limit=1", "--out")
    refused(command(*train, "run", "--resume"), "no run here")
    Path("other").mkdir()
    Path("other/file").write_text("mine")
    refused(command(*train, "other"), "something else")
    assert [p.name for p in Path("other").iterdir()] == ["file"]
    Path("empty").mkdir()
    refused(command(*train, "empty", "--set", "policy.max_prompt_tokens=20"), "max_prompt_tokens")
    assert list(Path("empty").iterdir()) == []
    code, out, error = command(*train, "empty")
    assert code == 0, error
    assert "report" in out
    refused(command(*train, "empty"), "a finished run")
    refused(command(*train, "empty", "--resume"), "finished")
    (Path("empty") / "summary.json").unlink()
    refused(command(*train, "empty"), "an unfinished run", "--resume")
    refused(command(*train, "empty", "--resume", "--set", "train.lr=0.5"), "train.lr", "0.5")
    code, _, error = command(*train, "empty", "--resume")
    assert code == 0, error
    assert json.loads((Path("empty") / "summary.json").read_text())["steps"] == 4


def test_version_and_help(command: Cli) -> None:
    assert command("--version") == (0, "reward-router 0.1.0\n", "")
    for arguments in ((), ("--help",), ("ledger",), ("train", "--help")):
        code, out, error = command(*arguments)
        assert (code, error) == (0, "")
        assert "Usage" in out
