"""Rules that decide from the text alone whether a response does what its task asks.

A check is JSON-serialisable data, `{"kind": name, **arguments}`, so it can lie beside its prompt in
a data file and be verified later, anywhere. `{"kind": "all", "checks": [...]}` is the conjunction.
Every rule is pure, has no dependencies and costs O(len(response)).

A response cut off by the token limit passes only what no continuation could undo: words it
contains, a digit, a minimum length. Rules see text only, so what a continuation could undo is
checked with `complete` (the text ends like a finished sentence), a closing mark, or a word limit
that a cut response exceeds; `last_number` takes the text as it stands. What this leaves out:
whether prose is good, true or grammatical; a check is the stated property and nothing else.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_router.errors import InputError
from reward_router.words import words

Check = Mapping[str, Any]

_NUMBER = re.compile(r"-?\d+(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)*]*(?=\s|$)")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|e\.g|i\.e|etc|vs|[A-Z])\.(?=\s)")
_TITLE_SMALL = frozenset(
    (
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "by",
        "for",
        "with",
        "from",
        "as",
        "into",
    )
)
_CLOSERS = "\"'”’)*_ \n\t"


def sentence_count(text: str) -> int:
    """Sentence endings in a text, an unfinished last sentence included.

    >>> sentence_count("Dr. Gray came. Why? Nobody kn")
    3
    """
    # The full stop of an abbreviation ends no sentence.
    plain = _ABBREVIATION.sub("", text).strip()
    if not plain:
        return 0
    last_end = 0
    count = 0
    for mark in _SENTENCE_END.finditer(plain):
        last_end = mark.end()
        count += 1
    is_unfinished = last_end < len(plain)
    return count + 1 if is_unfinished else count


def _has_phrase(text: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


def _contains(text: str, words: Sequence[str]) -> bool:
    return all(_has_phrase(text, word) for word in words)


def _excludes(text: str, words: Sequence[str]) -> bool:
    """None of the words, nor their plain plurals, and some text at all."""
    if not text.strip():
        return False
    plurals = [word + "s" for word in words]
    return not _any_of(text, [*words, *plurals])


def _any_of(text: str, phrases: Sequence[str]) -> bool:
    return any(_has_phrase(text, phrase) for phrase in phrases)


def _last_number(text: str, value: float) -> bool:
    numbers = _NUMBER.findall(text)
    if not numbers:
        return False
    last = numbers[-1].replace(",", "")
    return float(last) == value


def _word_count(text: str, low: int = 1, high: int | None = None) -> bool:
    count = len(words(text))
    return count >= low and (high is None or count <= high)


def _sentences(text: str, low: int, high: int) -> bool:
    return low <= sentence_count(text) <= high


def _ends_with(text: str, marks: str) -> bool:
    tail = text.rstrip(_CLOSERS)
    return bool(tail) and tail[-1] in marks


def _complete(text: str) -> bool:
    return _ends_with(text, ".!?")


def _has_digit(text: str) -> bool:
    return any(mark in "0123456789" for mark in text)


def _title_case(text: str) -> bool:
    """Every word starts with a capital letter or a digit.

    After the first word, articles and short prepositions need not.
    """
    title = words(text)
    if not title:
        return False

    def is_capital(word: str) -> bool:
        return word[0].isupper() or word[0].isdigit()

    first, *rest = title
    return is_capital(first) and all(is_capital(word) or word in _TITLE_SMALL for word in rest)


def _one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1


def _all(text: str, checks: Sequence[Check]) -> bool:
    return all(verify_check(check, text) for check in checks)


RULES: dict[str, Callable[..., bool]] = {
    "all": _all,
    "any_of": _any_of,
    "complete": _complete,
    "contains": _contains,
    "ends_with": _ends_with,
    "excludes": _excludes,
    "has_digit": _has_digit,
    "last_number": _last_number,
    "one_line": _one_line,
    "sentences": _sentences,
    "title_case": _title_case,
    "word_count": _word_count,
}


def verify_check(check: Check, response: str) -> bool:
    """Whether a response passes a check given as data.

    An empty response passes nothing. Raises `InputError` for an unknown kind or wrong arguments,
    naming what is allowed. O(len(response)) for each rule in the check.

    >>> verify_check({"kind": "last_number", "value": 59}, "34 + 25 = 59.")
    True
    """
    rule = RULES.get(check.get("kind", ""))
    if rule is None:
        allowed_kinds = ", ".join(sorted(RULES))
        raise InputError(f"unknown check kind {check.get('kind')!r}; allowed: {allowed_kinds}")

    # The rule's own signature says which arguments it takes, behind the response.
    arguments = {name: value for name, value in check.items() if name != "kind"}
    code = rule.__code__
    allowed = code.co_varnames[1 : code.co_argcount]
    n_needed = len(allowed) - len(rule.__defaults__ or ())
    needed = allowed[:n_needed]
    if not set(needed) <= set(arguments) <= set(allowed):
        raise InputError(
            f"check {check['kind']!r} has arguments {sorted(arguments)}; it takes {list(allowed)}"
        )
    return bool(response.strip()) and rule(response, **arguments)
