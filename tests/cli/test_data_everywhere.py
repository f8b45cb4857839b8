"""The same data in every container, through the commands; what is left out is told on stderr."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router import cli
from reward_router.config import DataConfig
from reward_router.errors import InputError
from reward_router.examples import load_examples

Cli = Callable[..., tuple[int, str, str]]
ARMS = """
data: {source: embedded}
policy: {model: tiny}
arms:
  - {name: short, kind: metric, metric: length, direction: short}
  - {name: long, kind: metric, metric: length, direction: long}
"""
ROWS = [
    {"prompt": f"Name city {i}.", "chosen": "Oslo", "rejected": "Norway, a country"}
    for i in range(6)
]
PKU = [
    {"prompt": f"Name city {i}.", "response_0": ("Oslo", "Norway, a country")[i % 2],
     "response_1": ("Norway, a country", "Oslo")[i % 2], "better_response_id": i % 2}
    for i in range(6)
]  # fmt: skip


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("arms.yaml").write_text(ARMS)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reward-router", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return run


def as_csv(rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0])] + [",".join(f'"{value}"' for value in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


CONTAINERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "lines": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "array": lambda rows: json.dumps(rows).encode(),
    "pretty": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    "csv": lambda rows: as_csv(rows).encode(),
    "gzip": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "utf-16": lambda rows: as_csv(rows).encode("utf-16"),
}


def accuracy(command: Cli, *arguments: str) -> dict[str, float]:
    pytest.importorskip("torch")
    code, _, error = command("arms", "check", "arms.yaml", *arguments, "--json", "out.json")
    assert code == 0, error
    return {check["arm"]: check["accuracy"] for check in json.loads(Path("out.json").read_text())}


@pytest.mark.parametrize("name", CONTAINERS)
def test_arms_check_reads_every_container(name: str, command: Cli) -> None:
    Path("pairs").write_bytes(CONTAINERS[name](ROWS))
    assert accuracy(command, "pairs") == {"short": 1.0, "long": 0.0}


def test_arms_check_takes_columns_and_a_preference_column(command: Cli) -> None:
    Path("pku.jsonl").write_bytes(CONTAINERS["lines"](PKU))
    right = {"short": 1.0, "long": 0.0}
    assert accuracy(command, "pku.jsonl") == right
    mapped = [
        "--column",
        "chosen=response_0",
        "--column",
        "rejected=response_1",
        "--preference",
        "better_response_id",
    ]
    assert accuracy(command, "pku.jsonl", *mapped) == right
    section = "data.columns={prompt: prompt, answer: a, chosen: response_0, rejected: response_1}"
    assert (
        accuracy(
            command, "pku.jsonl", "--set", section, "--set", "data.preference=better_response_id"
        )
        == right
    )
    Path("plain.jsonl").write_bytes(CONTAINERS["lines"](ROWS))
    assert (
        accuracy(command, "plain.jsonl", "--set", "data.columns={prompt: question, answer: answer}")
        == right
    )


def test_what_is_left_out_is_one_line_on_stderr(command: Cli) -> None:
    pytest.importorskip("torch")
    Path("pairs.jsonl").write_bytes(
        CONTAINERS["lines"]([*ROWS, {**ROWS[0], "rejected": "Oslo"}]) + b"\n{broken\n"
    )
    code, _, error = command("arms", "check", "arms.yaml", "pairs.jsonl")
    assert (code, error.count("\n")) == (0, 1)
    assert (
        "1 of 8 rows cannot be read and are left out, first: data pairs.jsonl line 8: not JSON"
        in error
    )
    assert "1 pair of identical responses left out" in error


def test_more_than_half_lost_ends_with_2(command: Cli) -> None:
    Path("pairs.jsonl").write_text(json.dumps(ROWS[0]) + "\n{\n}\n")
    code, _, error = command("arms", "check", "arms.yaml", "pairs.jsonl")
    assert (code, error.count("\n")) == (2, 1)
    assert "2 of 3 rows cannot be read, more than half" in error


def test_fit_prior_leaves_nothing_behind_where_its_data_cannot_be_read(command: Cli) -> None:
    pytest.importorskip("torch")
    Path("prior.yaml").write_text(
        "data: [{source: pairs.jsonl}]\nencoder: {model: tiny, tune: frozen}\n"
    )
    Path("pairs.jsonl").write_text('{"prompt": "x"}\n')
    code, _, error = command("fit-prior", "prior.yaml", "--out", "runs/prior")
    assert code == 2, error
    assert not Path("runs").exists()
    Path("there").mkdir()
    assert command("fit-prior", "prior.yaml", "--out", "there")[0] == 2
    assert list(Path("there").iterdir()) == []


def test_keys_of_the_data_section_count_for_the_embedded_prompts_or_are_refused() -> None:
    some = load_examples(DataConfig(limit=3))
    assert len(some) == 3
    wrapped = load_examples(DataConfig(limit=3, template="Answer: {prompt}"))
    assert [e.prompt for e in wrapped] == [f"Answer: {e.prompt}" for e in some]
    assert [e.id for e in wrapped] == [e.id for e in some]
    for change in ({"columns": {"prompt": "q"}}, {"answer_kind": "number"}, {"name": "main"}):
        with pytest.raises(
            InputError, match=f"data.{next(iter(change))}: the embedded prompts bring their own"
        ):
            load_examples(DataConfig.model_validate(change))
