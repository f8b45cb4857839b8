"""Rows that cannot be right.

They are refused in one line that names the row and what is allowed, and nothing is written.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router.bestofn.rows import read_responses
from reward_router.bestofn.run import Files, bestofn
from reward_router.config import Config
from reward_router.errors import InputError

GOOD = {"id": "a", "prompt": "Say hi.", "responses": ["hi", "hello"], "golds": [1, 0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"responses": ["hi"], "golds": [1]},
            "line 2: responses is one response only, so there is nothing to choose",
        ),
        ({"responses": [], "golds": []}, "line 2: responses is an empty list"),
        ({"responses": "hi"}, "line 2: responses is 'hi'; a list of texts"),
        ({"responses": None}, "line 2: column 'responses' is null"),
        (
            {"responses": ["hi", {"role": "user", "content": "x"}]},
            "line 2: response 1 is .*role: assistant",
        ),
        ({"golds": [1]}, "line 2: golds is 1 numbers for 2 responses"),
        ({"golds": 1}, "line 2: golds is 1 for 2 responses"),
        ({"golds": [1, 7]}, r"line 2: golds\[1\] is 7; allowed a number in \[0, 1\]"),
        ({"golds": [1, "yes"]}, r"line 2: golds\[1\] is 'yes'"),
        ({"golds": [1, float("nan")]}, r"golds\[1\] is nan"),
        ({"golds": ["1", "many"]}, r"line 2: golds\[1\] is 'many'"),
        ({"golds": ["1", "nan"]}, r"line 2: golds\[1\] is 'nan'"),
        ({"split": "later"}, "line 2: split is 'later'; allowed train"),
        ({"id": "a"}, "id 'a' was given before"),
        ({"prompt": " "}, "line 2: the prompt is empty"),
    ],
)
def test_a_bad_row_is_named(
    change: dict[str, Any],
    message: str,
    write: Callable[..., str],
    settled: Callable[..., Config],
    tmp_path: Path,
) -> None:
    file = write([GOOD, {**GOOD, "id": "b", **change}])
    with pytest.raises(InputError, match=message):
        bestofn(settled(), tmp_path / "best.jsonl", files=Files(file))
    assert not (tmp_path / "best.jsonl").exists()


def test_golds_written_as_texts(write: Callable[..., str], settled: Callable[..., Config]) -> None:
    """What CSV, pandas and a verifier's log make of numbers and of true and false."""
    [item] = read_responses(write([{**GOOD, "golds": ["1.0", "False"]}]), settled())
    assert item.gold_N.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("column", ["split", "part"])
def test_every_row_is_on_the_side_that_it_names(
    column: str, write: Callable[..., str], settled: Callable[..., Config]
) -> None:
    """In any spelling, and none is lost for being called something else than train or test."""
    words = ["Train", "training", "TEST", "validation", "dev", None]
    rows = [{**GOOD, "id": str(i), column: word} for i, word in enumerate(words)]
    columns = ["data.columns={split: part}"] if column == "part" else []
    items = read_responses(write(rows), settled(*columns))
    assert [item.side for item in items] == ["train", "train", "test", "test", "test", None]


def test_a_split_column_does_not_empty_a_file_to_choose_for(
    write: Callable[..., str], settled: Callable[..., Config]
) -> None:
    rows = [{**GOOD, "split": "held out"}]
    [item] = read_responses(write(rows), settled(), "test")
    assert item.side == "test"


def test_no_row_at_all(write: Callable[..., str], settled: Callable[..., Config]) -> None:
    with pytest.raises(InputError, match="no rows"):
        read_responses(write([]), settled())


def test_numbers_and_turns_are_texts(
    write: Callable[..., str], settled: Callable[..., Config]
) -> None:
    turn = [{"role": "assistant", "content": "four"}]
    [item] = read_responses(
        write([{"prompt": "2 + 2?", "responses": [4, turn, turn[0], True]}]), settled()
    )
    assert item.responses == ("4", "four", "four", "True")
    assert not item.measured


def test_responses_in_the_forms_of_the_one_reader(
    settled: Callable[..., Config], tmp_path: Path
) -> None:
    """Lists as JSON text in a CSV cell.

    A prompt as messages, and a response as the conversation it ends.
    """
    asked = [{"from": "human", "value": "2 + 2?"}]
    said = [
        json.dumps([[*asked, {"from": "gpt", "value": answer}] for answer in ("four", "five")]),
        "[1, 0]",
    ]
    file = tmp_path / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["prompt", "responses", "golds"], [json.dumps(asked), *said]])
    [item] = read_responses(str(file), settled())
    assert (item.prompt, item.responses, item.gold_N.tolist()) == (
        "2 + 2?",
        ("four", "five"),
        [1.0, 0.0],
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["router.unit=batch"], "router.unit: batch"),
        (["router={name: uniform, mode: ensemble}"], "the row `mean`"),
        (["router={name: round_robin, per: iteration}"], "per: decision"),
        (["payoff.name=neg_loss"], "payoff.name=probe"),
        (["payoff.name=improvement"], "use probe, verifier, python or neg_loss"),
        (["context.kind=policy"], "context.kind=sentence"),
        (["noise=0.1"], "noise: 0"),
        (["arms.seven.name=oracle"], "'oracle'.*another"),
        (["pool.fallback=who"], "pool.fallback='who' is none of the arms"),
        (["split={train: 0.999999}"], "none is left to choose for"),
        (["measure=f1"], "measure f1 compares with `answer`"),
    ],
)
def test_settings_without_meaning_are_refused(
    settings: list[str],
    message: str,
    write: Callable[..., str],
    settled: Callable[..., Config],
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=message):
        bestofn(settled(*settings), tmp_path / "best.jsonl", files=Files(write([GOOD])))


def test_files_that_do_not_go_together(
    write: Callable[..., str], settled: Callable[..., Config]
) -> None:
    with pytest.raises(InputError, match="belong together"):
        Files(train="x.jsonl")
    with pytest.raises(InputError, match="not both"):
        Files("r.jsonl", "x.jsonl", "y.jsonl")
    one, two = write([GOOD], "one.jsonl"), write([GOOD], "two.jsonl")
    with pytest.raises(InputError, match="id 'a' is in"):
        bestofn(settled(), Path(one).parent / "best.jsonl", files=Files(train=one, test=two))


def test_a_folder_is_no_file_to_write(
    write: Callable[..., str], settled: Callable[..., Config], tmp_path: Path
) -> None:
    """Said before anything is scored, for both of the files."""
    files = Files(write([GOOD, {**GOOD, "id": "b"}]))
    with pytest.raises(InputError, match="is a folder"):
        bestofn(settled(), tmp_path, files=files)
    with pytest.raises(InputError, match="is a folder"):
        bestofn(settled(), tmp_path / "best.jsonl", files=files, json_out=tmp_path)
    under_a_file = Path(files.responses or "") / "best.jsonl"
    with pytest.raises(InputError, match="Not a directory; give another path"):
        bestofn(settled(), under_a_file, files=files)
    assert not (tmp_path / "best.kept").exists()
