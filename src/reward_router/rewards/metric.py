"""Metrics as reward models: a table of named text functions, each with its options.

``Metric("length", direction="short")`` is an arm like any other. Options are checked when the arm
is built; a package that a metric needs is imported then, and its absence is an InputError that
names it.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from reward_router.errors import InputError
from reward_router.math_equal import check_package, equal
from reward_router.rewards import text
from reward_router.rewards.names import check_options, nearest
from reward_router.rewards.regex import TooSlow, search
from reward_router.rewards.template import Prompt, user_text
from reward_router.types import Float
from reward_router.words import words

TextScore = Callable[[str, str], float]
"""(prompt, response) -> score, NaN = abstained."""
LONGEST = 2000  # characters of a response that are read as mathematics, from its end


def _rouge_l(part: Literal["f1", "precision", "recall"] = "f1") -> TextScore:
    """Overlap of the response with the prompt."""
    _one_of("part", part, ("f1", "precision", "recall"))
    return lambda prompt, response: text.rouge_l(response, prompt, part)


def _length(
    direction: Literal["short", "long", "target"] = "short", target: int | None = None
) -> TextScore:
    """Words: fewer, more, or nearer to ``target`` is better."""
    _one_of("direction", direction, ("short", "long", "target"))
    if (direction == "target") != (target is not None):
        raise InputError(
            "metric length: target (a number of words) belongs to direction: target, "
            "and direction: target needs it"
        )
    if target is not None:
        return lambda _, response: -abs(len(words(response)) - float(target))
    sign = -1.0 if direction == "short" else 1.0
    return lambda _, response: sign * len(words(response))


def _readability() -> TextScore:
    """Flesch reading ease of the response."""
    return lambda _, response: text.flesch(response)


def _regex(pattern: str, expect: bool = True) -> TextScore:
    """1 where the pattern is found in the response (or, with ``expect: false``, is not), else 0.

    A response on which the search takes too long is that row's failure.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError, TypeError) as error:
        raise InputError(
            f"metric regex: pattern {pattern!r} is no regular expression: {error}"
        ) from error
    slow: set[str] = (
        set()
    )  # texts that were too much once are not tried again when a request is split

    def score(_: str, response: str) -> float:
        if response in slow:
            raise TooSlow(f"pattern {pattern!r} took too long on this response before")
        try:
            return float(search(pattern, response) == expect)
        except TooSlow:
            slow.add(response)
            raise

    return score


def _json(keys: Sequence[str] = ()) -> TextScore:
    """1 for a JSON object; with ``keys`` the share of them it has."""
    if isinstance(keys, str):
        raise InputError(f"metric json: keys is the text {keys!r}; a list of keys is expected")
    return lambda _, response: text.json_keys(response, tuple(keys))


def _arithmetic() -> TextScore:
    """Right or wrong on the expression in the prompt; abstains where there is none."""
    return text.arithmetic


def _keywords() -> TextScore:
    """Share of the prompt's quoted words in the response."""
    return text.keywords


def _math_verify() -> TextScore:
    """As ``arithmetic``, read and compared by the package math-verify.

    It reads LaTeX, fractions and boxed answers.
    """
    check_package("metric math_verify")
    return _math_score


def _quire() -> TextScore:
    """Learned grammar model: mean log-probability, over words, that a word needs no edit."""
    from reward_router.rewards.grammar import Quire

    return Quire()


def _harper() -> TextScore:
    """Spelling and style: minus lints a word."""
    from reward_router.rewards.grammar import Harper

    return Harper()


METRICS: dict[str, Callable[..., TextScore]] = {
    "arithmetic": _arithmetic,
    "harper": _harper,
    "json": _json,
    "keywords": _keywords,
    "length": _length,
    "math_verify": _math_verify,
    "quire": _quire,
    "readability": _readability,
    "regex": _regex,
    "rouge_l": _rouge_l,
}


class Metric:
    """A named metric as reward model.

    It scores each response from its text and the prompt's last user message.

    >>> Metric("length", direction="short").score(["Say hi."], [["hi", "hello there"]]).tolist()
    [[-1.0, -2.0]]
    """

    def __init__(self, metric: str, **options: Any) -> None:
        """InputError for an unknown metric or option, with the nearest that exists."""
        if metric not in METRICS:
            raise InputError(f"metric {metric!r} is unknown{nearest(metric, METRICS)}")
        check_options(f"metric {metric}", METRICS[metric], options)
        self.name = metric
        self._one = METRICS[metric](**options)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN where the metric abstains or a row is shorter than the longest."""
        scores_BN = np.full((len(prompts), max((len(r) for r in responses), default=0)), np.nan)
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            asked = user_text(prompt)
            scores_BN[b, : len(row)] = [self._one(asked, response) for response in row]
        return scores_BN


def _math_score(prompt: str, response: str) -> float:
    """Whether the response's end holds what the prompt asks for; NaN where that is no number."""
    latex = re.findall(r"\$([^$]+)\$", prompt)
    asked = text.expression(prompt) or (latex[0] if len(latex) == 1 else None)
    return equal(f"${asked}$", response[-LONGEST:], number=True) if asked else math.nan


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
