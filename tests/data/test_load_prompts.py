"""Prompts as records: mapping, templates, messages, ids, folds, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.column_names import fill_template
from reward_router.data import PromptRecord, load_prompts
from reward_router.errors import DataWarning, InputError

DATA = os.environ.get("REWARD_ROUTER_DATA", "")


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_our_own_names_need_no_mapping(tmp_path: Path) -> None:
    row = {"id": "p1", "prompt": "2+2?", "category": "math", "answer": "4", "source": "s"}
    assert load_prompts(write(tmp_path / "a.jsonl", row)) == [
        PromptRecord("p1", "2+2?", "math", "4")
    ]


def test_mapping_template_and_lists(tmp_path: Path) -> None:
    row = {"q": "Who?", "choices": ["me", "you"], "label": 1, "meta": {"subject": "people"}}
    columns = {"answer": "label", "category": "meta.subject", "prompt": "q"}
    [record] = load_prompts(
        write(tmp_path / "a.jsonl", row),
        columns=columns,
        template="Q: {prompt} {{x}}\n{choices}\nA:",
    )
    assert record.prompt == "Q: Who? {x}\n(A) me\n(B) you\nA:"
    assert (record.category, record.answer) == ("people", "1")
    [same] = load_prompts(write(tmp_path / "a.jsonl", row), template="Q: {q} {{x}}\n{choices}\nA:")
    assert same.prompt == record.prompt  # without {prompt} no prompt column is needed


def test_path_into_a_conversation(tmp_path: Path) -> None:
    row = {
        "conversation": [
            {"role": "user", "content": "hi", "toxic": False},
            {"role": "assistant", "content": "yo"},
        ]
    }
    source = write(tmp_path / "a.jsonl", row)
    assert load_prompts(source, columns={"prompt": "conversation.0.content"})[0].prompt == "hi"
    with pytest.raises(
        InputError,
        match=r"line 1: column 'conversation' has no '7' on the way 'conversation.7.content'",
    ):
        load_prompts(source, columns={"prompt": "conversation.7.content"})
    with pytest.raises(InputError, match="ends with an assistant turn"):
        load_prompts(source, columns={"prompt": "conversation"})


def test_messages(tmp_path: Path) -> None:
    user, system = {"role": "user", "content": "hi"}, {"role": "system", "content": "be kind"}
    source = write(tmp_path / "a.jsonl", {"prompt": [user]}, {"prompt": [system, user]})
    assert [r.prompt for r in load_prompts(source)] == ["hi", [system, user]]
    wrapped = load_prompts(source, template="<{prompt}>")
    assert [r.prompt for r in wrapped] == ["<hi>", [system, {"role": "user", "content": "<hi>"}]]


@pytest.mark.parametrize(
    "prompt", [[], [{"role": "user"}], ["hi"], [{"role": "boss", "content": "x"}], 3, {"x": 1}]
)
def test_what_is_no_prompt(tmp_path: Path, prompt: Any) -> None:
    with pytest.raises(InputError, match="line 1: prompt must be a text or a list of"):
        load_prompts(write(tmp_path / "a.jsonl", {"prompt": prompt}))


def test_unknown_columns_list_what_there_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"question": "x", "answer": None})
    with pytest.raises(
        InputError,
        match=r"column 'prompt' does not exist; columns there are: question, answer; map it",
    ):
        load_prompts(source)
    with pytest.raises(
        InputError, match=r"column 'query' does not exist; columns there are: question, answer$"
    ):
        load_prompts(source, columns={"prompt": "query"})
    with pytest.raises(InputError, match="column 'topic' does not exist"):
        load_prompts(source, columns={"prompt": "question", "category": "topic"})
    with pytest.raises(InputError, match="'promt' is none of our names; did you mean 'prompt'"):
        load_prompts(source, columns={"promt": "question"})
    assert (
        load_prompts(source, columns={"prompt": "question", "answer": "answer"})[0].answer is None
    )


def test_empty_prompts_and_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: the prompt is empty"):
        load_prompts(
            write(tmp_path / "a.jsonl", {"prompt": "x"}, {"prompt": " \n"}, {"prompt": ""})
        )
    with pytest.raises(InputError, match="no rows"):
        load_prompts(write(tmp_path / "b.jsonl"))
    source = write(
        tmp_path / "c.jsonl",
        {"prompt": "x", "category": "math"},
        {"prompt": "y", "category": "code"},
    )
    with pytest.raises(InputError, match="no rows; categories there are: code, math"):
        load_prompts(source, categories=["chat"])
    with pytest.raises(InputError, match="limit=0"):
        load_prompts(source, limit=0)


def test_rows_that_cannot_be_read_are_left_out_named_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i}"} for i in range(5)]
    source = write(
        tmp_path / "a.jsonl",
        *rows[:3],
        {"prompt": ""},
        {"prompt": "x", "images": ["a.png"]},
        *rows[3:],
    )
    with pytest.warns(
        DataWarning,
        match=r"2 of 7 rows cannot be read and are left out, "
        r"first: data .*line 4: the prompt is empty",
    ):
        found = load_prompts(source)
    assert [r.prompt for r in found] == [row["prompt"] for row in rows]


def test_categories_then_limit(tmp_path: Path) -> None:
    rows = [{"id": str(i), "prompt": "x", "category": "ab"[i % 2]} for i in range(6)]
    source = write(tmp_path / "a.jsonl", *rows)
    assert [r.id for r in load_prompts(source, categories=["b"], limit=2)] == ["1", "3"]


def test_ids_are_unique(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: id '7' was given before, at .*line 1"):
        load_prompts(
            write(tmp_path / "a.jsonl", {"id": 7, "prompt": "x"}, {"id": "7", "prompt": "y"})
        )
    same = load_prompts(write(tmp_path / "b.jsonl", *[{"prompt": "x"}] * 3, {"prompt": "y"}))
    assert len({r.id for r in same}) == 4
    assert same[1].id == same[0].id + "-2"
    moved = load_prompts(write(tmp_path / "c.jsonl", {"prompt": "y"}, {"prompt": "x"}))
    assert [r.id for r in moved] == [same[3].id, same[0].id]  # content, not position


def test_answers_become_text(tmp_path: Path) -> None:
    values = [True, 3, 2.5, "x", None, {"kind": "json"}]
    source = write(
        tmp_path / "a.jsonl", *({"prompt": str(i), "answer": v} for i, v in enumerate(values))
    )
    assert [r.answer for r in load_prompts(source)] == [
        "true",
        "3",
        "2.5",
        "x",
        None,
        '{"kind": "json"}',
    ]


@pytest.mark.parametrize(
    "template", ["no field", "{}", "{prompt!r}", "{prompt:>5}", "{open", "close}", ""]
)
def test_templates_that_are_none(tmp_path: Path, template: str) -> None:
    with pytest.raises(InputError, match="data template"):
        load_prompts(write(tmp_path / "a.jsonl", {"prompt": "x"}), template=template)


@given(st.text(), st.text(), st.text())
def test_template_text_is_kept_to_the_letter(before: str, value: str, after: str) -> None:
    escaped = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    filled = fill_template(f"{escaped[0]}{{prompt}}{escaped[1]}", {}, {}, value, "here")
    assert filled == before + value + after


def test_folds_part_the_prompts_and_keep_copies_together(tmp_path: Path) -> None:
    rows = [{"id": str(i), "prompt": f"prompt {i // 2}"} for i in range(2000)]
    source = write(tmp_path / "a.jsonl", *rows)
    folds = [load_prompts(source, split=f"train#{fold}") for fold in ("0:70", "70:80", "80:100")]
    prompts = [{r.prompt for r in fold} for fold in folds]
    assert sum(map(len, folds)) == 2000
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 1000  # no prompt on two sides
    for fold, share in zip(prompts, (0.7, 0.1, 0.2), strict=True):
        assert abs(len(fold) / 1000 - share) < 5 * (share * (1 - share) / 1000) ** 0.5
    assert {r.id for r in load_prompts(source, split="train#0:35")} <= {r.id for r in folds[0]}
    with pytest.raises(InputError, match="0 <= A < B <= 100"):
        load_prompts(source, split="train#70:20")


@pytest.mark.skipif(not DATA, reason="REWARD_ROUTER_DATA is not set: shared prompts are not read")
@pytest.mark.parametrize(
    ("name", "split", "least"),
    [("gsm8k", "train", 5000), ("strategyqa", "dev", 100), ("mmlu", "dev+val", 1000)],
)
def test_shared_prompts(name: str, split: str, least: int) -> None:
    records = load_prompts(str(Path(DATA, "prompts", f"{name}.jsonl.gz")), split=split)
    assert len(records) > least
    assert all(r.answer and r.category for r in records)
