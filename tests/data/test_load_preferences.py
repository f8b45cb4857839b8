"""Preferences as records: TRL's explicit and implicit forms, texts and conversations."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reward_router.chat import Reply
from reward_router.data import PreferenceRecord, load_preferences
from reward_router.errors import DataWarning, InputError

DATA = os.environ.get("REWARD_ROUTER_DATA", "")
USER, GOOD, BAD = (
    {"role": r, "content": c}
    for r, c in [("user", "hi"), ("assistant", "Hello."), ("assistant", "No.")]
)


def load(path: Path, *rows: dict[str, Any], **options: Any) -> list[PreferenceRecord]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_preferences(str(path), **options)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "chosen": "Hello.", "rejected": "No."},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)
def test_forms_of_the_same_preference(tmp_path: Path, row: dict[str, Any]) -> None:
    [record] = load(tmp_path / "a.jsonl", row)
    assert (record.prompt, record.chosen, record.rejected) == ("hi", "Hello.", "No.")


def test_implicit_prompt_of_texts_ends_at_a_word(tmp_path: Path) -> None:
    [record] = load(
        tmp_path / "a.jsonl", {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    )
    assert (record.prompt, record.chosen, record.rejected) == ("The sky is", " blue.", " black.")


def test_trl_agrees_on_implicit_prompts(tmp_path: Path) -> None:
    extract_prompt = pytest.importorskip("trl.data_utils").extract_prompt
    for row in [
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    ]:
        [record] = load(tmp_path / "a.jsonl", row)
        theirs = extract_prompt(row)
        texts = [
            v if isinstance(v, str) else v[-1]["content"]
            for v in (theirs[k] for k in ("prompt", "chosen", "rejected"))
        ]
        assert [record.prompt, record.chosen, record.rejected] == texts


def test_mapping_source_category_and_ids(tmp_path: Path) -> None:
    row = {"q": "hi", "better": "a", "worse": "b", "source": "s", "kind": "chat"}
    columns = {"prompt": "q", "chosen": "better", "rejected": "worse", "category": "kind"}
    first, second = load(tmp_path / "a.jsonl", row, row, columns=columns)
    assert (first.source, first.category) == ("s", "chat")
    assert first.id != second.id


def test_json_values_as_responses_are_their_text(tmp_path: Path) -> None:
    [record] = load(tmp_path / "a.jsonl", {"prompt": "true?", "chosen": True, "rejected": 7})
    assert (record.chosen, record.rejected) == ("True", "7")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "x", "chosen": "a"},
            "column 'rejected' does not exist; columns there are: prompt, chosen",
        ),
        (
            {"prompt": "x", "chosen": [GOOD, BAD], "rejected": [BAD]},
            "chosen must be one assistant turn .*found 2",
        ),
        ({"prompt": "x", "chosen": [USER], "rejected": [BAD]}, "chosen must be one assistant turn"),
        ({"chosen": "yes", "rejected": "no"}, "the prompt is empty"),
        (
            {"prompt": "x", "chosen": "a", "rejected": "b", "images": ["x.png"]},
            "the row has images, which no arm here",
        ),
        (
            {
                "prompt": "x",
                "chosen": [{"role": "assistant", "content": [{"type": "image_url"}]}],
                "rejected": "b",
            },
            "chosen has a part of type 'image_url', which no arm here can read",
        ),
        ({"prompt": "x", "response_a": "a", "response_b": "b"}, "none that says which is better"),
        (
            {"prompt": "x", "response_a": "a", "response_b": "b", "label": "A wins"},
            "must be a number .* or a label",
        ),
        ({"prompt": "x", "chosen": {"a": 1}, "rejected": "b"}, "chosen must be a text or a list"),
    ],
)
def test_what_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.jsonl", row)


@pytest.mark.skipif(
    not DATA, reason="REWARD_ROUTER_DATA is not set: shared preferences are not read"
)
def test_shared_preferences_load_whole() -> None:
    for path in Path(DATA, "preferences").glob("*.jsonl.gz"):
        records = load_preferences(str(path))
        assert len({r.id for r in records}) == len(records) > 10


def test_lists_of_texts_are_every_pair_and_a_signed_column_says_which_is_better(
    tmp_path: Path,
) -> None:
    rows = [
        {
            "id": "a",
            "prompt": "p",
            "chosen": ["c1", "c2"],
            "rejected": ["r1", "r2", "r3"],
            "score": -2,
        },
        {"id": "b", "prompt": "p", "chosen": "x", "rejected": "y", "score": 3},
        {"id": "c", "prompt": "p", "chosen": "x", "rejected": "y", "score": 0},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(DataWarning, match="1 pair without a better response"):
        found = load_preferences(str(file), preference="score")
    assert len(found) == 7
    assert {(r.chosen, r.rejected) for r in found[:6]} == {
        (c, r) for c in ("c1", "c2") for r in ("r1", "r2", "r3")
    }
    assert len({r.id for r in found}) == 7
    assert (found[6].chosen, found[6].rejected) == ("y", "x")
    with pytest.raises(InputError, match="column 'prompt' must be a number"):
        load_preferences(str(file), preference="prompt")


def test_two_infinite_scores_are_a_tie(tmp_path: Path) -> None:
    row = {
        "prompt": "p",
        "responses": ["x", "y", "z"],
        "scores": [float("-inf"), float("-inf"), 0.0],
    }
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.warns(DataWarning, match="1 pair without a better response"):
        found = load_preferences(str(file))
    assert [(r.chosen, r.rejected) for r in found] == [("z", "x"), ("z", "y")]


def test_identical_pairs_are_no_loss(tmp_path: Path) -> None:
    same = {"chosen": [USER, GOOD], "rejected": [USER, GOOD]}
    with pytest.warns(DataWarning, match="3 pairs of identical responses left out"):
        assert (
            len(
                load(
                    tmp_path / "a.jsonl",
                    same,
                    same,
                    same,
                    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
                )
            )
            == 1
        )
    with pytest.raises(InputError, match="no rows; 1 pair of identical responses left out"):
        load(tmp_path / "b.jsonl", same)


@pytest.mark.parametrize(
    ("column", "values", "firsts"),
    [
        ("better_response_id", [0, 1], [True, False]),
        ("better_response_id", [0, 0], [True, True]),
        ("which", [0, 1], [True, False]),
        ("which", ["0", "1"], [True, False]),
        ("which", [-1, 1], [True, False]),
        ("which", [-3, 2], [True, False]),
        ("which:first", [1, 0], [True, False]),
        ("which:first", [True, False], [True, False]),
        ("which:index1", [1, 2], [True, False]),
        ("which:signed", [1, 2], [False, False]),
        ("which", ["A>B", "B>A"], [True, False]),
        ("which", ["model_a", "Model B"], [True, False]),
    ],
)
def test_what_a_preference_column_says(
    tmp_path: Path, column: str, values: list[Any], firsts: list[bool]
) -> None:
    name = column.partition(":")[0]
    rows = [{"prompt": f"p{i}", "x": "one", "y": "two", name: v} for i, v in enumerate(values)]
    found = load(
        tmp_path / "a.jsonl", *rows, columns={"chosen": "x", "rejected": "y"}, preference=column
    )
    assert [r.chosen == "one" for r in found] == firsts


@pytest.mark.parametrize(
    ("values", "says"),
    [([True, False], "true and false"), ([1, 1], "1: what"), ([True, True], "true")],
)
def test_labels_of_two_responses_that_say_two_things_are_refused(
    tmp_path: Path, values: list[Any], says: str
) -> None:
    rows = [
        {"prompt": f"p{i}", "response_a": "one", "response_b": "two", "label": v}
        for i, v in enumerate(values)
    ]
    with pytest.raises(
        InputError, match=f"column 'label' holds .*{says}.*write preference: label:CONVENTION"
    ):
        load(tmp_path / "a.jsonl", *rows)
    found = load(tmp_path / "a.jsonl", *rows, preference="label:first")
    assert [r.chosen == "one" for r in found] == [bool(v) for v in values]


def test_one_is_the_second_index_and_the_first_of_two_that_are_counted_from_one(
    tmp_path: Path,
) -> None:
    row = {"prompt": "p", "response_0": "one", "response_1": "two", "winner_index": 1}
    assert load(tmp_path / "a.jsonl", row)[0].chosen == "two"
    row = {"prompt": "p", "response_1": "one", "response_2": "two", "label": 1}
    assert load(tmp_path / "a.jsonl", row)[0].chosen == "one"


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        {"id": nan, "prompt": f"p{i}", "chosen": "x", "rejected": "y", "category": nan}
        for i in range(3)
    ]
    rows.append({"prompt": "p", "chosen": nan, "rejected": "y"})
    with pytest.warns(DataWarning, match="1 of 4 rows cannot be read .*'chosen' is null"):
        found = load(tmp_path / "a.jsonl", *rows)
    assert [r.category for r in found] == [""] * 3
    two = {"prompt": "p", "response_a": "x", "response_b": nan, "label": "a"}
    with pytest.raises(InputError, match="more than half"):
        load(tmp_path / "b.jsonl", two)


@pytest.mark.parametrize("values", [[0, 0], [1, 2], [0, 1, 2], [2, 3]])
def test_numbers_that_say_two_things_are_refused(tmp_path: Path, values: list[int]) -> None:
    rows = [
        {"prompt": f"p{i}", "chosen": "one", "rejected": "two", "which": v}
        for i, v in enumerate(values)
    ]
    with pytest.raises(
        InputError,
        match=r"column 'which' holds .*what they say is open; write preference: which:CONVENTION",
    ):
        load(tmp_path / "a.jsonl", *rows, preference="which")


def test_tool_calls_are_kept_for_templates_and_are_json_text_elsewhere(tmp_path: Path) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
    }
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    [record] = load(
        tmp_path / "a.jsonl", {"prompt": "Weather?", "chosen": [turn], "rejected": "I do not know."}
    )
    assert record.chosen == '{"name": "weather", "arguments": {"city": "Oslo"}}'
    assert isinstance(record.chosen, Reply)
    assert record.chosen.message["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
