"""A text as its steps: one for every line and sentence."""

import re

_BREAK = re.compile(r"\n+|(?<=[.!?])\s+(?=[^a-z\s])")
"""A line's end, or a sentence's: a small letter after the stop means that it goes on (e.g. so)."""
_NUMBERING = re.compile(r"\W{0,2}\w{1,2}[.):]\W{0,2}")
"""What stands before a point of a list: ``1.``, ``a)``, ``**2.**``."""


def steps_of(text: str) -> list[str]:
    """The steps of a text in order; [] for a blank one. O(len(text)).

    Pieces without a letter or digit are no steps, unless there is nothing else. The number of a
    point belongs to the point. ROSCOE splits with NLTK's trained splitter; this rule errs where an
    abbreviation is followed by a capital (Mr. Smith).

    >>> steps_of("1. Add 3.5 and 2.\\n= 5.5, i.e. about 6. So it is 6!")
    ['1. Add 3.5 and 2.', '= 5.5, i.e. about 6.', 'So it is 6!']
    """
    steps: list[str] = []
    before = ""
    for piece in _BREAK.split(text):
        step = f"{before} {piece.strip()}".strip()
        before = ""
        if _NUMBERING.fullmatch(step):
            before = step
        elif any(map(str.isalnum, step)):
            steps.append(step)
    if before:
        steps.append(before)
    blank = not text.strip()
    return steps or ([] if blank else [text.strip()])
