"""One way to count words: what a gold rule counts, an arm that judges length counts."""

import re
import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.rewards.metric import Metric
from reward_router.tasks import verify_check
from reward_router.words import words

COUNTED = [
    ("naïve", 1), (unicodedata.normalize("NFD", "naïve"), 1), ("Ça va très bien", 4), ("Größe", 1),
    ("привет, мир!", 2), ("नमस्ते दुनिया", 2), ("می‌خواهم بروم", 2), ("it’s well-known", 2),
    ("l'été", 1), ("👩‍💻 codes", 1), ("", 0), ("--- ... ___", 0), ("ﬁne words", 2),
    ("co\u00adop works", 2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "count"), COUNTED)
def test_words_of_any_script(text: str, count: int) -> None:
    assert len(words(text)) == count
    assert Metric("length", direction="long").score(["x"], [[text]])[0, 0] == count
    if count:
        assert verify_check({"kind": "word_count", "low": count, "high": count}, text)
        assert not verify_check({"kind": "word_count", "low": count + 1}, text)


@settings(deadline=None)
@given(st.text(string.printable, max_size=80))
def test_ascii_text_is_counted_as_ever(text: str) -> None:
    """Gold of ASCII responses did not change: the rule that counted them before, written out."""
    assert words(text) == re.findall(r"[A-Za-z0-9]+(?:['’\-][A-Za-z0-9]+)*", text)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_words_are_pieces_of_the_text_in_order(text: str) -> None:
    at = 0
    for word in words(text):
        at = text.index(word, at) + len(word)
