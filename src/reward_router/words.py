"""What a word is: the gold rules and the arms that judge length count alike.

A word is a run of letters and digits of any script, with the marks that belong to its letters (an
accent written as a character of its own, a vowel sign), hyphens and apostrophes kept inside. Left
out: scripts written without spaces, where a run is a phrase.
"""

import re
import unicodedata

_ASCII = re.compile(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*")
_LETTER = r"(?:[^\W_])"
_MARK = "\ufdd0"  # a code point that no text may hold stands for a mark while words are looked for
_RUN = rf"{_LETTER}(?:{_LETTER}|{_MARK})*"
_ANY = re.compile(rf"{_RUN}(?:['’-]{_RUN})*")
# Soft hyphen, zero-width non-joiner and joiner: inside a word they do not end it.
_JOINERS = "\u00ad\u200c\u200d"


def words(text: str) -> list[str]:
    """The words of a text, in order, as they stand in it. O(len(text)).

    >>> words("It's a well-known naïve idea -- no?")
    ["It's", 'a', 'well-known', 'naïve', 'idea', 'no']
    """
    if text.isascii():
        return _ASCII.findall(text)
    shadow = "".join(_MARK if _joins(character) else character for character in text)
    return [text[found.start() : found.end()] for found in _ANY.finditer(shadow)]


def _joins(character: str) -> bool:
    """Whether a character belongs to the letter before it."""
    return character > "\x7f" and (
        character in _JOINERS or unicodedata.category(character).startswith("M")
    )
