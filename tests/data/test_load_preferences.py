"""Preferences as records: TRL's explicit and implicit forms, texts and conversations."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reward_router.data import PreferenceRecord, load_preferences
from reward_router.errors import InputError

DATA = os.environ.get("REWARD_ROUTER_DATA", "")
USER, GOOD, BAD = (
    {"role": r, "content": c} for r, c in [("user", "hi"), ("assistant", "Hello."), ("assistant", "No.")]
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
    [record] = load(tmp_path / "a.jsonl", {"chosen": "The sky is blue.", "rejected": "The sky is black."})
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
            v if isinstance(v, str) else v[-1]["content"] for v in (theirs[k] for k in ("prompt", "chosen", "rejected"))
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
        ({"prompt": "x", "chosen": "a"}, "column 'rejected' does not exist; columns there are: prompt, chosen"),
        ({"prompt": "x", "chosen": [GOOD, BAD], "rejected": [BAD]}, "chosen must be one assistant turn .*found 2"),
        ({"prompt": "x", "chosen": [USER], "rejected": [BAD]}, "chosen must be one assistant turn"),
        ({"chosen": "yes", "rejected": "no"}, "the prompt is empty"),
        ({"prompt": "x", "chosen": {"a": 1}, "rejected": "b"}, "chosen must be a text or a list"),
    ],
)
def test_what_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.jsonl", row)


@pytest.mark.skipif(not DATA, reason="REWARD_ROUTER_DATA is not set: shared preferences are not read")
def test_shared_preferences_load_whole() -> None:
    for path in Path(DATA, "preferences").glob("*.jsonl.gz"):
        records = load_preferences(str(path))
        assert len({r.id for r in records}) == len(records) > 10


def test_lists_of_texts_are_every_pair_and_a_signed_column_says_which_is_better(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "p", "chosen": ["c1", "c2"], "rejected": ["r1", "r2", "r3"], "score": -2},
        {"id": "b", "prompt": "p", "chosen": "x", "rejected": "y", "score": 3},
        {"id": "c", "prompt": "p", "chosen": "x", "rejected": "y", "score": 0},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_preferences(str(file), preference="score")
    assert len(found) == 7
    assert {(r.chosen, r.rejected) for r in found[:6]} == {(c, r) for c in ("c1", "c2") for r in ("r1", "r2", "r3")}
    assert len({r.id for r in found}) == 7
    assert (found[6].chosen, found[6].rejected) == ("y", "x")
    with pytest.raises(InputError, match="column 'prompt' must be a number"):
        load_preferences(str(file), preference="prompt")
