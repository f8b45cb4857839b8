"""How right one response is, in [0, 1], against a reference: token F1, ROUGE-L, exact match.

F1 and exact match read text as SQuAD's evaluation does: lower case, no punctuation, no articles,
words between spaces. With several reference answers the best counts. Left out: stemming, synonyms,
languages written without spaces.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from reward_router.column_names import as_text
from reward_router.rewards.text import rouge_l

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal_words(text: str) -> list[str]:
    """The words SQuAD compares.

    >>> normal_words("The Eiffel Tower, in Paris!")
    ['eiffel', 'tower', 'in', 'paris']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def f1(response: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, repeated ones counted as such (SQuAD).

    Where either side has no words left, 1 if both have none, else 0.

    >>> f1("in Paris", "Paris, France")
    0.5
    """
    response_words = normal_words(response)
    reference_words = normal_words(reference)
    if not response_words or not reference_words:
        return float(response_words == reference_words)

    # Counters keep how often a word stands on both sides.
    common = Counter(response_words) & Counter(reference_words)
    both_lengths = len(response_words) + len(reference_words)
    # 2 p r / (p + r) with p = common / response and r = common / reference.
    return 2 * common.total() / both_lengths


def exact(response: str, reference: str) -> float:
    """1 where both have the same words in the same order (SQuAD), else 0.

    >>> exact("The Eiffel Tower.", "eiffel tower"), exact("Paris, France", "Paris")
    (1.0, 0.0)
    """
    return float(normal_words(response) == normal_words(reference))


MEASURES: dict[str, Callable[[str, str], float]] = {"f1": f1, "rouge_l": rouge_l, "exact": exact}
"""Measures against a reference answer; ``gold`` needs none."""


def measured(measure: str, response: str, references: Sequence[str]) -> float:
    """The best value of a measure over the reference answers."""
    one = MEASURES[measure]
    return max(one(response, reference) for reference in references)


def references(answer: Any) -> list[str]:
    """The reference answers in a data set's cell: a text, or a list of texts, also as JSON text.

    >>> references("Paris"), references('["Paris", "Paris, France"]'), references(None)
    (['Paris'], ['Paris', 'Paris, France'], [])
    """
    if isinstance(answer, str) and answer.lstrip().startswith("["):
        try:
            parsed = json.loads(answer)
        except (ValueError, RecursionError):
            parsed = None
        # A text may begin with a bracket and be no list of answers: then it is the answer itself.
        if isinstance(parsed, list) and parsed and all(isinstance(text, str) for text in parsed):
            return parsed
    if isinstance(answer, list | tuple):
        texts = [as_text(item) for item in answer]
        return [text for text in texts if text is not None]
    text = as_text(answer)
    return [] if text is None else [text]
