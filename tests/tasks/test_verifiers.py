"""Laws of the rules: what passes, and what fails.

Also: what a cut response can do, and how bad checks are refused.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.tasks import verify_check
from reward_router.tasks.verifiers import RULES, sentence_count, words

CASES = [
    (
        {"kind": "contains", "words": ["Cup", "kitchen"]},
        "A CUP in my kitchen.",
        "Cups in my kitchen.",
    ),
    ({"kind": "excludes", "words": ["dog"]}, "A dogged walk.", "Two dogs bark."),
    ({"kind": "excludes", "words": ["go"]}, "Forgo it.", "We go."),
    (
        {"kind": "any_of", "phrases": ["carbon dioxide", "CO2"]},
        "It is Carbon Dioxide.",
        "It is carbon.",
    ),
    ({"kind": "any_of", "phrases": ["O"]}, "Its symbol is O.", "Oxygen."),
    ({"kind": "last_number", "value": 59}, "34 + 25 = 59.", "59 is what 34 + 25 give, or 60"),
    ({"kind": "last_number", "value": 1200}, "That is 1,200!", "That is 1200.5"),
    ({"kind": "last_number", "value": 7}, "It is 7.0", "no number"),
    ({"kind": "word_count", "high": 3}, "one two-three four's", "one two three four"),
    ({"kind": "word_count", "low": 3}, "one two three", "one two"),
    ({"kind": "sentences", "low": 2, "high": 2}, "One. Two!", "One. Two! Thr"),
    ({"kind": "sentences", "low": 1, "high": 1}, "Mr. Gray paid 3.50 here.", "He came. She went."),
    ({"kind": "ends_with", "marks": "?"}, '"Why?"', "Why? Because."),
    ({"kind": "complete"}, "It ends (here.)", "It ends in the mid"),
    ({"kind": "has_digit"}, "Room 7", "Room seven"),
    ({"kind": "title_case"}, "The Art of Baking: A Guide", "The art of baking"),
    ({"kind": "title_case"}, "7 Days in Rome", "of Mice and Men"),
    ({"kind": "one_line"}, "A Title\n", "A Title\nand more"),
    (
        {"kind": "all", "checks": [{"kind": "complete"}, {"kind": "has_digit"}]},
        "I have 2.",
        "I have 2",
    ),
]


@pytest.mark.parametrize(("check", "good", "bad"), CASES)
def test_rule(check, good, bad):
    assert verify_check(check, good)
    assert not verify_check(check, bad)


def test_every_rule_has_a_case():
    assert {check["kind"] for check, _, _ in CASES} == set(RULES)


@given(st.text(max_size=300), st.sampled_from([check for check, _, _ in CASES]))
def test_any_text_gets_a_verdict_that_outer_white_space_does_not_change(text, check):
    verdict = verify_check(check, text)
    assert isinstance(verdict, bool)
    assert verify_check(check, f" {text.strip()}  ") == verify_check(check, text.strip())


@given(st.lists(st.sampled_from(["One.", "Two!", "Why?", "A well-known song plays."]), max_size=6))
def test_sentences_and_words_add_up(parts):
    assert sentence_count(" ".join(parts)) == len(parts)
    assert len(words(" ".join(parts))) == sum(len(words(part)) for part in parts)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_only_the_value_itself_passes_a_number(value, given_value):
    assert verify_check({"kind": "last_number", "value": value}, f"It is {given_value:,}.") == (
        value == given_value
    )


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "contain", "words": ["a"]},
        {},
        {"kind": "contains"},
        {"kind": "contains", "words": ["a"], "word": 1},
        {"kind": "all", "checks": [{"kind": "nothing"}]},
    ],
)
def test_bad_checks_are_refused(check):
    with pytest.raises(InputError):
        verify_check(check, "any text")
