"""Answers read from responses as people write them.

They are graded against gold as data sets write it.
"""

import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.data import load_prompts
from reward_router.errors import InputError
from reward_router.grading import AnswerKind, extract_answer, grade

DATA = os.environ.get("REWARD_ROUTER_DATA", "")
KINDS = get_args(AnswerKind)


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("number", "Final answer: 18 dollars per day for 2 weeks", "18"),
        ("number", "Final answer: 3 * 6 = 18", "18"),
        ("number", "**Final answer:** $1,250.50", "2501/2"),
        ("number", "Final answer:... 42", "42"),
        ("number", "Final answer:\n\n\\boxed{42}", "42"),
        ("number", "Final answer: .5", "1/2"),
        ("number", "Final answer: 6. I hope this is clear, 100%.", "6"),
        ("number", "The answer is 5? No. Final answer: 6", "6"),
        ("number", "so 5-3=2", "2"),
        ("number", "it fell to −3", "-3"),
        ("number", "9 of 1/0 or v1.2", "9"),
        ("number", "none at all", None),
        ("number", "9" * 5000, None),
        ("yes_no", "**Final answer: No**, though some say yes", "no"),
        ("yes_no", "Yes... but then, no.", "no"),
        ("yes_no", "Nobody knows", None),
        ("yes_no", "True", "yes"),
        ("letter", "A dog barks at B. Final answer: C", "C"),
        ("letter", "Final answer: (D) True, False", "D"),
        ("letter", "I think the correct answer is **B**", "B"),
        ("letter", "I like A dogs", None),
        ("letter", "it must be (C), since I'm sure", "C"),
        ("letter", "B", "B"),
        ("math", r"thus \boxed{1} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("math", r"cut off \boxed{1", r"cut off \boxed{1"),
        ("math", "Final answer: $p - q$.", "p - q"),
        ("exact", 'Final answer: "New  York".', "new york"),
        ("exact", " ", None),
    ],
)
def test_reading(kind: str, text: str, answer: str | None) -> None:
    assert extract_answer(kind, text) == answer


@pytest.mark.parametrize(
    ("kind", "response", "gold", "right"),
    [
        ("number", "Final answer: 72", "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72", True),
        ("number", "Final answer: 72.0 clips", "72", True),
        ("number", "Final answer: 24", "... #### 72", False),
        ("number", "I do not know", "72", False),
        ("number", "2/6", "1/3", True),
        ("yes_no", "Final answer: yes", "true", True),
        ("yes_no", "Final answer: yes", "no", False),
        ("letter", "Final answer: C", "2", True),
        ("letter", "Final answer: (C)", "C", True),
        ("letter", "Final answer: A", "2", False),
        ("exact", "Final answer: PARIS", "Paris.", True),
    ],
)
def test_grading(kind: str, response: str, gold: str, right: bool) -> None:
    assert grade(kind, response, gold) is right


def test_mathematics_is_compared_by_value() -> None:
    pytest.importorskip("math_verify")
    assert grade("math", r"\boxed{0.5}", r"\frac{1}{2}")
    assert grade("math", r"Final answer: $\left( 3, \frac{\pi}{2} \right)$", r"(3, \pi/2)")
    assert not grade("math", "Final answer: 7", "8")


def test_mathematics_in_another_thread() -> None:
    pytest.importorskip("math_verify")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(grade, "math", r"\boxed{\frac{3}{6}}", r"\frac12").result()


@given(st.fractions(), st.text(alphabet="abc .,\n", max_size=30))
def test_a_number_survives_its_marker(value: object, before: str) -> None:
    assert grade("number", f"{before}7 {before}Final answer: {value}", str(value))


@given(st.sampled_from(KINDS), st.text())
def test_any_text_is_read_without_error(kind: str, text: str) -> None:
    found = extract_answer(kind, text)
    assert found is None or (kind == "math" or extract_answer(kind, found) == found)


def test_bad_gold_and_bad_kind_are_input_errors() -> None:
    with pytest.raises(InputError, match="holds no number"):
        grade("number", "Final answer: 1", "n/a")
    with pytest.raises(InputError, match="allowed: number, yes_no, letter, math, exact"):
        extract_answer("integer", "1")


@pytest.mark.skipif(not DATA, reason="REWARD_ROUTER_DATA is not set: shared answers are not graded")
@pytest.mark.parametrize(
    ("name", "split", "kind"),
    [
        ("gsm8k", "train", "number"),
        ("strategyqa", "train", "yes_no"),
        ("mmlu", "val", "letter"),
        ("math500", "train", "math"),
    ],
)
def test_shared_gold_grades_itself(name: str, split: str, kind: str) -> None:
    records = load_prompts(str(Path(DATA, "prompts", f"{name}.jsonl.gz")), split=split, limit=400)
    assert all(
        grade(kind, f"Some reasoning.\nFinal answer: {r.answer}", str(r.answer)) for r in records
    )
