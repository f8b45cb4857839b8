"""Reading the final answer out of a response and grading it.

Answers are numbers, yes or no, choice letters, mathematics, or exact text.

The paper's prompt asks for "Final answer:..."; where a response has that marker only what follows
its last occurrence counts, elsewhere the rule of the kind reads the whole text. An unreadable
answer is None and wrong, never an error. Left out: units.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, get_args

from reward_router.errors import InputError
from reward_router.math_equal import equal

AnswerKind = Literal["number", "yes_no", "letter", "math", "exact"]

_MARKERS = (
    re.compile(r"(?:final answer|####)\s*(?:is)?[\s*_]*[:=]?[\s*_]*(?:\.{2,}|…)?", re.IGNORECASE),
    re.compile(r"the (?:correct )?answer is[\s*_]*:?", re.IGNORECASE),
)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:\s*/\s*\d+)?")
_YES_NO = re.compile(r"(?<!\w)(yes|no|true|false)(?!\w)", re.IGNORECASE)
_LETTER = re.compile(r"\(([A-J])\)|(?<![\w'’])([A-J])(?![\w'’])")
_CHOICE = re.compile(r"\(([A-J])\)|(?<![\w'’])([A-J])(?=[).:*]|\s*$)")
_LEFT = " \t\r\n*_`\"'$:"
_RIGHT = " \t\r\n*_`\"'$."


def extract_answer(kind: str, text: str) -> str | None:
    """The answer of ``kind`` in ``text``, in the one spelling in which answers are compared.

    None where the text holds no such answer.

    ``number``: the first number after the marker (after the last ``=`` of its line), else the last
    of the text, as a reduced fraction; ``1,250.0``, ``$5`` and ``1/2`` are read. ``yes_no``: yes or
    no (true and false count). ``letter``: A to J, without a marker only as ``(B)``, ``B.`` or at
    the end. ``math``: what the last ``\\boxed`` holds, else the text after the marker.
    ``exact``: that text, case and outer marks folded. InputError for another kind. O(len(text)).

    >>> extract_answer("number", "12 eggs at $3 make 36. Final answer: $36.00")
    '36'
    >>> extract_answer("letter", "So it is (C).")
    'C'
    """
    return _reader(kind)(text)


def grade(kind: str, response: str, answer: str) -> bool:
    """Whether the response's answer equals ``answer``, both read by `extract_answer`.

    Where a ``letter`` is expected, ``answer`` may also be the index of the choice.

    Numbers compare exactly. ``math`` also accepts what math-verify proves equal, and needs that
    package. InputError where ``answer`` itself holds no answer of the kind: the data is wrong, not
    the response. O(len(response)).

    >>> grade("number", "Final answer: 1,200", "#### 1200")
    True
    >>> grade("yes_no", "Final answer: No.", "true")
    False
    """
    gold = _letter_of_index(answer) if kind == "letter" else None
    gold = gold or extract_answer(kind, answer)
    if gold is None:
        raise InputError(f"answer {answer[:60]!r} of the data holds no {kind}")
    given = extract_answer(kind, response)
    if given is None:
        return False
    return given == gold or (kind == "math" and _math_equal(given, gold))


def _reader(kind: str) -> Callable[[str], str | None]:
    if kind not in _READERS:
        raise InputError(
            f"answer kind {kind!r} does not exist; allowed: {', '.join(get_args(AnswerKind))}"
        )
    return _READERS[kind]


def _after_marker(text: str) -> str | None:
    """What follows the last marker that something follows, up to the end of its paragraph."""
    for marker in _MARKERS:
        for found in reversed(list(marker.finditer(text))):
            tail = text[found.end() :].lstrip(_LEFT).rstrip(_RIGHT)
            if tail:
                return tail.split("\n\n")[0]
    return None


def _number(text: str) -> str | None:
    # First what follows a marker such as "answer:", and there what follows the last "=".
    line = (_after_marker(text) or "").split("\n")[0]
    result = line.rpartition("=")[2]
    marked = _numbers(result) or _numbers(line)
    if marked:
        return marked[0]

    # Without a marker the last number counts: people work towards their answer.
    every = _numbers(text)
    return every[-1] if every else None


def _numbers(text: str) -> list[str]:
    spelled = (_canonical(found.group()) for found in _NUMBER.finditer(text))
    return [number for number in spelled if number is not None]


def _canonical(written: str) -> str | None:
    try:
        return str(Fraction(re.sub(r"[,$\s]", "", written).replace("−", "-")))
    except (
        ValueError,
        ZeroDivisionError,
    ):  # no digits, more than Python converts, a denominator of 0
        return None


def _yes_no(text: str) -> str | None:
    found = _YES_NO.search(_after_marker(text) or "") or _last(_YES_NO, text)
    return None if found is None else "yes" if found.group(1).lower() in ("yes", "true") else "no"


def _letter(text: str) -> str | None:
    found = _LETTER.search(_after_marker(text) or "") or _last(_CHOICE, text)
    return None if found is None else found.group(1) or found.group(2)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(reversed(list(pattern.finditer(text)))), None)


def _letter_of_index(answer: str) -> str | None:
    plain = answer.strip()
    return chr(ord("A") + int(plain)) if plain.isdigit() and int(plain) < 26 else None


def _math(text: str) -> str | None:
    boxed = _last_boxed(text)
    plain = (
        (boxed if boxed is not None else _after_marker(text) or text).lstrip(_LEFT).rstrip(_RIGHT)
    )
    return re.sub(r"\s+", " ", plain) or None


def _last_boxed(text: str) -> str | None:
    r"""What the last complete ``\boxed{...}`` holds, braces balanced."""
    # From the last one backwards: an earlier one may be a step on the way.
    start = len(text)
    while (start := text.rfind("\\boxed{", 0, start)) >= 0:
        depth = 0
        for end in range(start + 6, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                return text[start + 7 : end]
    return None


def _math_equal(given: str, gold: str) -> bool:
    return equal(f"${gold}$", f"${given}$") == 1.0


def _exact(text: str) -> str | None:
    tail = _after_marker(text)
    return " ".join((tail or text).lstrip(_LEFT).rstrip(_RIGHT).casefold().split()) or None


_READERS: dict[str, Callable[[str], str | None]] = {
    "number": _number,
    "yes_no": _yes_no,
    "letter": _letter,
    "math": _math,
    "exact": _exact,
}
