"""Whatever JSON stands in whatever field.

It gives a record, or one line that says why not; never another exception.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reward_router.data import load_preferences, load_prompts
from reward_router.errors import InputError
from reward_router.replay.importers import load_records

U, A, B = (
    {"role": r, "content": c}
    for r, c in [("user", "p"), ("assistant", "one"), ("assistant", "two")]
)
TEXTS = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    [
        "",
        "a",
        "A>B",
        "tie",
        "\ud83d",
        "x\udc00",
        '{"role": "user"}',
        '[{"role": "user", "content": 3}]',
        "[1, 2]",
        "nan",
        "1e999",
        '"\\ud83d"',
    ]
)
NUMBERS = st.sampled_from(
    [0, 1, 2, -1, 0.5, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 1e308, -0.0]
)
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "type", "text", "a", "b", "chosen", "rejected", "x", "y",
     "tool_calls", "function", "name", "arguments", "messages", "rank", "score", "response",
     "judgment", "decision", "scores", "ground_truth", "images"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=8,
)
SCORED = {
    "id": "q",
    "prompt": "p",
    "response_a": "one",
    "response_b": "two",
    "label": "a",
    "scores": {"x": [1, 0], "y": [0, 1]},
}
PREFERENCES: list[dict[str, Any]] = [
    {"id": "q", "prompt": "p", "chosen": "one", "rejected": "two", "category": "c", "source": "s"},
    {"prompt": [U], "chosen": [A], "rejected": [B], "system": "s", "images": []},
    {"chosen": [U, A], "rejected": [U, B]},
    {"messages": [U, A], "rejected_response": "two"},
    {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [B]},
    {"prompt": "p", "response_0": "one", "response_1": "two", "better_response_id": 0},
    {"history": "p", "human_ref_A": "one", "human_ref_B": "two", "labels": 1},
    {"question": "p", "response_a": "one", "response_b": "two", "winner": "model_a"},
    {
        "prompt": "p",
        "response_a": "one",
        "response_b": "two",
        "winner_model_a": 1,
        "winner_model_b": 0,
    },
    {"prompt": "p", "response1": "one", "response2": "two", "overall_preference": -2},
    {"prompt": "p", "responses": ["one", "two"], "scores": [2, 1]},
    {"prompt": "p", "answers": [{"answer": "one", "rank": 1}, {"answer": "two", "rank": 2}]},
]
PROMPTS: list[dict[str, Any]] = [
    {"id": "q", "prompt": "p", "answer": "5", "category": "c", "split": "train"},
    {"messages": [U, A], "images": None},
    {"conversations": [{"from": "human", "value": "p"}], "reward_model": {"ground_truth": "5"}},
]
RECORDED: list[dict[str, Any]] = [
    SCORED | {"category": "c", "cost": {"x": 1}, "verdicts": {"z": "b"}, "source": "s"},
    {"prompt": "p", "chosen": "one", "rejected": "two",
     "scores": {"x": {"chosen": 1, "rejected": 0}, "y": [0, 1]}},
    {"id": 7, "label": "a", "x:a": 1, "x:b": 0, "y:verdict": "b", "y:cost": 2},
    {"id": 7, "subset": "s", "scores_chosen": 1, "scores_rejected": 0, "text_chosen": "one",
     "text_rejected": "two", "prompt": "p"},
    {"id": 7, "subset": "s", "results": 1, "text_chosen": "one", "text_rejected": "two",
     "prompt": "p"},
    {"id": "7", "subset": "Math", "num_correct": 1, "scores": [1, 0, 0, 0], "results": 1},
    {"id": "ref:7", "subset": "Ties", "num_correct": 1, "scores": [1, 0, 0, 0]},
    {"pair_id": "7", "question": "p", "response_A": "one", "response_B": "two", "label": "A>B",
     "judgments": [{"judgment": {"scores": [1, 0]}}, {"decision": "B>A"}]},
    {"id": "7", "prompt": "p", "chosen": ["one"], "rejected": ["two"], "score_chosen": [1],
     "score_rejected": [0]},
]  # fmt: skip
MANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def tried(path: Path, rows: list[Any], read: Any) -> None:
    """Read as lines and as an array: a result or an InputError of one line."""
    for text in ("\n".join(map(json.dumps, rows)), json.dumps(rows, indent=1)):
        path.write_text(text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(str(path))
        except InputError as error:
            str(error).encode()  # half a surrogate pair cannot be printed


@pytest.mark.parametrize("row", PROMPTS, ids=lambda row: "-".join(row)[:40])
@MANY
@given(data=st.data())
def test_prompts(tmp_path: Path, row: dict[str, Any], data: st.DataObject) -> None:
    field, value = data.draw(st.sampled_from(sorted(row))), data.draw(JSON)
    tried(tmp_path / "p", [row, {**row, "id": "r", field: value}, {**row, "id": "s"}], load_prompts)
    tried(
        tmp_path / "p",
        [{**row, field: value}],
        lambda path: load_prompts(path, template="{prompt}"),
    )


@pytest.mark.parametrize("row", PREFERENCES, ids=lambda row: "-".join(row)[:40])
@MANY
@given(data=st.data())
def test_preferences(tmp_path: Path, row: dict[str, Any], data: st.DataObject) -> None:
    field, value = data.draw(st.sampled_from(sorted(row))), data.draw(JSON)
    tried(
        tmp_path / "p",
        [row, {**row, "id": "r", field: value}, {**row, "id": "s"}],
        load_preferences,
    )
    tried(
        tmp_path / "p",
        [{**row, field: value}],
        lambda path: load_preferences(path, preference=field),
    )


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: "-".join(row)[:40])
@MANY
@given(data=st.data())
def test_recorded_scores(tmp_path: Path, row: dict[str, Any], data: st.DataObject) -> None:
    field, value = data.draw(st.sampled_from(sorted(row))), data.draw(JSON)
    other = tmp_path / "other"
    other.write_text(json.dumps(row))
    rows = [row, {**row, "id": "r", "pair_id": "r", field: value}]
    tried(tmp_path / "one", rows, lambda path: list(load_records([path, str(other)])))
    tried(tmp_path / "one", [{**row, field: value}], lambda path: list(load_records([path])))


@MANY
@given(rows=st.lists(JSON, max_size=3), text=st.binary(max_size=40))
def test_any_json_and_any_bytes(tmp_path: Path, rows: list[Any], text: bytes) -> None:
    readers = (load_prompts, load_preferences, lambda path: list(load_records([path])))
    for read in readers:
        tried(tmp_path / "x", rows, read)
        (tmp_path / "y").write_bytes(text)
        try:
            read(str(tmp_path / "y"))
        except InputError as error:
            str(error).encode()
