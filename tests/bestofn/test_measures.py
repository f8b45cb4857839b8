"""F1, ROUGE-L and exact match against slow references written from their definitions."""

import re
import string
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.bestofn.measures import exact, f1, measured, references
from reward_router.rewards.text import rouge_l

WORDS = st.lists(
    st.sampled_from(["a", "the", "cat", "Cat,", "sat", "on", "mat.", "an", "it's"]), max_size=8
)
TEXT = WORDS.map(" ".join)


def squad_words(text: str) -> list[str]:
    """The four steps of SQuAD's evaluation, one after the other."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in re.split(r"\s+", text) if word and word not in ("a", "an", "the")]


def slow_f1(response: str, reference: str) -> float:
    mine, right = squad_words(response), squad_words(reference)
    if not mine or not right:
        return float(mine == right)
    left, common = list(right), 0
    for word in mine:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(mine), common / len(right)
    return 2 * precision * recall / (precision + recall)


def slow_rouge_l(response: str, reference: str) -> float:
    mine, right = (
        re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower()) for text in (response, reference)
    )

    @cache
    def common(i: int, j: int) -> int:
        if i == len(mine) or j == len(right):
            return 0
        if mine[i] == right[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    if not mine or not right:
        return 0.0
    precision, recall = common(0, 0) / len(mine), common(0, 0) / len(right)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@given(TEXT, TEXT)
def test_f1_is_squads(response: str, reference: str) -> None:
    assert f1(response, reference) == pytest.approx(slow_f1(response, reference))
    assert f1(response, reference) == pytest.approx(f1(reference, response))


@given(TEXT, TEXT)
def test_rouge_l_is_the_longest_common_subsequence(response: str, reference: str) -> None:
    assert rouge_l(response, reference) == pytest.approx(slow_rouge_l(response, reference))


@given(TEXT, TEXT)
def test_exact_is_f1_at_its_top(response: str, reference: str) -> None:
    assert exact(response, reference) == float(squad_words(response) == squad_words(reference))
    assert exact(response, reference) <= f1(response, reference) <= 1


def test_the_best_reference_counts() -> None:
    assert measured("exact", "Paris", ["Lyon", "paris."]) == 1.0
    assert measured("f1", "Paris France", ["Lyon", "Paris"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Paris", ["Paris"]), (["Paris", 7], ["Paris", "7"]), ('["a b", "c"]', ["a b", "c"]),
        ("[1, 2]", ["[1, 2]"]), (None, []), (42, ["42"]), ("[broken", ["[broken"]), ([], []),
    ],
)  # fmt: skip
def test_answers_are_a_text_or_several(answer: object, right: list[str]) -> None:
    assert references(answer) == right
