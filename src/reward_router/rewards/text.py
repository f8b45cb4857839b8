"""Scores that need no model: overlap, length, readability, arithmetic, patterns.

All are pure functions of text. Left out are stemming and synonyms (ROUGE's), languages other than
English (readability), and word problems (arithmetic).
"""

import json
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from reward_router.words import words

_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_QUOTED = re.compile(r'"([^"]{1,60})"|“([^”]{1,60})”')
_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_CHAIN = re.compile(rf"(?<![\w.]){_NUMBER}(?:(?:\s*[+*×÷]\s*|\s+[-/x]\s+){_NUMBER})+(?!\w)")
_INFIX = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
_PHRASES = (
    (re.compile(rf"\bsum of ({_NUMBER}) and ({_NUMBER})", re.I), "{0} + {1}"),
    (re.compile(rf"\badd ({_NUMBER}) (?:and|to) ({_NUMBER})", re.I), "{0} + {1}"),
    (re.compile(rf"\bsubtract ({_NUMBER}) from ({_NUMBER})", re.I), "{1} - {0}"),
    (re.compile(rf"\bproduct of ({_NUMBER}) and ({_NUMBER})", re.I), "{0} * {1}"),
    (re.compile(rf"\bmultiply ({_NUMBER}) by ({_NUMBER})", re.I), "{0} * {1}"),
    (re.compile(rf"\bdivide ({_NUMBER}) by ({_NUMBER})", re.I), "{0} / {1}"),
)


def lcs_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest common subsequence; bit-parallel (Hyyrö 2004), O(len(a) len(b) / 64).

    >>> lcs_length("banana", "bandana")
    6
    """
    places: dict[Any, int] = {}
    for i, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for item in b:
        match = row & places.get(item, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()


def rouge_l(candidate: str, reference: str, part: str = "f1") -> float:
    """ROUGE-L on lower-case words, in [0, 1]; 0 where either text has no words.

    ``precision`` = LCS / candidate, ``recall`` = LCS / reference, ``f1`` their harmonic mean. Lin
    (2004), beta = 1, one sentence a text.

    >>> rouge_l("the cat sat", "the cat on the mat sat", part="recall")
    0.5
    """
    a, b = words(candidate.lower()), words(reference.lower())
    if not a or not b:
        return 0.0
    common = lcs_length(a, b)
    return {
        "precision": common / len(a),
        "recall": common / len(b),
        "f1": 2 * common / (len(a) + len(b)),
    }[part]


def syllables(word: str) -> int:
    """Syllables of an English word by vowel groups, a silent final e left out; at least 1.

    >>> [syllables(w) for w in ("cat", "banana", "time", "table", "the")]
    [1, 3, 1, 2, 1]
    """
    plain = word.lower()
    count = len(re.findall(r"[aeiouy]+", plain))
    if plain.endswith("e") and not plain.endswith(("le", "ee")) and count > 1:
        count -= 1
    return max(count, 1)


def flesch(text: str) -> float:
    """Flesch reading ease: 206.835 - 1.015 words/sentences - 84.6 syllables/words.

    Higher is easier; NaN without words.
    """
    tokens = words(text)
    if not tokens:
        return math.nan
    sentences = max(len(_SENTENCE_END.findall(text)), 1)
    return (
        206.835 - 1.015 * len(tokens) / sentences - 84.6 * sum(map(syllables, tokens)) / len(tokens)
    )


def expression(prompt: str) -> str | None:
    """The one arithmetic expression that a prompt asks for.

    None where there is none or more than one.

    >>> [expression(p) for p in ("What is 23 + 54?", "Add 3 and 4.")]
    ['23 + 54', '3 + 4']
    >>> [expression(p) for p in ("Write 2-3 sentences.", "Who was born in 1990?")]
    [None, None]
    """
    for word, sign in _INFIX.items():
        prompt = re.sub(rf"(?<=\d)\s+{word}\s+(?=-?\d)", f" {sign} ", prompt, flags=re.I)
    found = [match.group() for match in _CHAIN.finditer(prompt)]
    for pattern, form in _PHRASES:
        found += [form.format(*match.groups()) for match in pattern.finditer(prompt)]
    return found[0] if len(found) == 1 else None


def evaluate(text: str) -> Fraction | None:
    """The value of a chain such as ``2 + 3 * 4``, products first; None on a division by zero."""
    tokens = re.findall(rf"(?:(?<=[-+*×÷/x]\s)|(?<=[+*×÷])|^){_NUMBER}|[-+*×÷/x]", text.strip())
    terms = [_fraction(tokens[0])]
    for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
        value = _fraction(number)
        if sign in "+-":
            terms.append(value if sign == "+" else -value)
        elif sign in "*×x":
            terms[-1] *= value
        elif value == 0:
            return None
        else:
            terms[-1] /= value
    return sum(terms, Fraction(0))


def _fraction(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def arithmetic(prompt: str, response: str) -> float:
    """1 where the last number of the response is the value of the prompt's expression, else 0.

    NaN where the prompt asks for no value.

    >>> prompt = "What is 23 + 54?"
    >>> arithmetic(prompt, "23 + 54 is 77."), arithmetic(prompt, "It is 76.")
    (1.0, 0.0)
    """
    asked = expression(prompt)
    value = evaluate(asked) if asked else None
    if value is None:
        return math.nan
    given = re.findall(_NUMBER, response)
    return float(bool(given) and _fraction(given[-1]) == value)


def keywords(prompt: str, response: str) -> float:
    """The share of the prompt's quoted words that stand in the response.

    NaN where the prompt quotes nothing. The score is right where a prompt asks for words, and wrong
    where it forbids them.

    >>> keywords('Use the words "sun" and "sea".', "The sun is out.")
    0.5
    """
    asked = [one or two for one, two in _QUOTED.findall(prompt)]
    if not asked:
        return math.nan
    found = [
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", response, re.IGNORECASE) is not None
        for word in asked
    ]
    return sum(found) / len(asked)


def json_keys(response: str, keys: Sequence[str] = ()) -> float:
    """0 where the response is no JSON object, else the share of ``keys`` that it has.

    1 where no keys are named.

    >>> json_keys('{"a": 1}', keys=("a", "b")), json_keys("a: 1")
    (0.5, 0.0)
    """
    try:
        value = json.loads(response)
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(value, dict):
        return 0.0
    return sum(key in value for key in keys) / len(keys) if keys else 1.0
