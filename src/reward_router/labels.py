"""Which of two responses is the better one: the labels of data sets, read as a, b or tie.

A text says it by itself (``A>B``, ``model_a``, ``[[A]]``, ``tie``). A number does not: 1 is the
second response where numbers count from 0, the first where they count from 1, and a preference for
the second where its sign is meant. `Numbers` looks at all numbers of a column before it says which;
what stays open is refused.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

from reward_router.errors import InputError

Side = Literal["a", "b", "tie"]
ALLOWED = "a, b, tie, A>B, model_a, 0 or 1"
CONVENTIONS = ("index0", "index1", "first", "signed")
"""What the numbers of a label column may mean.

- index0: 0 is the first response, 1 the second.
- index1: 1 is the first response, 2 the second.
- first: 1 (or true) says that the first is better, 0 the second.
- signed: below 0 the first is better, above 0 the second, and 0 is a tie.
"""

_INDEX = re.compile(r"(_id|index|idx)$")
_MARKS = re.compile(r"[\s\[\](){}_.:\"'*\\-]+")
_WORDS = re.compile(
    r"(?:boxed)?"
    r"(?:model|response|assistant|answer|output|option|candidate|completion|summary|choice)?"
)
_FIRST = ("a", "a>b", "a>>b", "b<a", "b<<a", "first", "left")
_SECOND = ("b", "b>a", "b>>a", "a<b", "a<<b", "second", "right")
_TIE = (
    "tie",
    "tied",
    "c",
    "a=b",
    "b=a",
    "a==b",
    "tiebothbad",
    "bothbad",
    "equal",
    "same",
    "draw",
    "neither",
    "both",
)
_BY_NAME = {
    "better_response_id": "index0",
    "safer_response_id": "index0",
    "overall_preference": "signed",
    "preference_strength": "signed",
}


class Truth(float):
    """A truth value in a label column: 1.0 or 0.0, and which response it means is open."""


def read_label(label: Any) -> Side | float:
    """A label as a side, or as the number it is; ValueError where it is neither.

    >>> [read_label(x) for x in ("A>B", "model_b", "[[C]]", " b ", "1", 0)]
    ['a', 'b', 'tie', 'b', 1.0, 0.0]
    """
    if isinstance(label, str):
        side = _text(label)
        if side is not None:
            return side
        bare = label.strip()
        bare = bare if re.fullmatch(r"[-+]?\d{1,9}(\.\d{1,9})?", bare) else _digit(label)
        return float(bare)
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise ValueError("no label")
    try:
        number = float(label)
    except OverflowError:
        raise ValueError("no label") from None
    if not math.isfinite(number):
        raise ValueError("no label")
    return number


def _text(label: str) -> Side | None:
    if len(label) > 40:
        return None
    bare = _MARKS.sub("", label.casefold())
    bare = bare[_end(bare) :] or bare
    if bare in _FIRST:
        return "a"
    if bare in _SECOND:
        return "b"
    return "tie" if bare in _TIE else None


def _end(bare: str) -> int:
    """Where the word for a response ends, as in ``model_a``; 0 without one."""
    word = _WORDS.match(bare)
    return word.end() if word else 0


def _digit(label: str) -> str:
    """``response_1`` as ``1``; ValueError elsewhere."""
    bare = _MARKS.sub("", label.casefold())
    rest = bare[_end(bare) :]
    if not re.fullmatch(r"[012]", rest):
        raise ValueError("no label")
    return rest


class Numbers:
    """The numbers of one label column, and what they mean once all are seen."""

    def __init__(
        self, column: str, convention: str | None = None, counted_from: int | None = None
    ) -> None:
        """Starts without numbers.

        Args:
            column: the column's name, which may say what its numbers mean.
            convention: one of `CONVENTIONS`; None: `settle` finds it out.
            counted_from: 1 where the responses are called 1 and 2.
        """
        self.column = column
        self.convention = convention or _BY_NAME.get(column.rpartition(".")[2].casefold())
        self.counted_from = counted_from
        self.seen: set[float] = set()
        self.truths = False

    def note(self, number: float) -> None:
        """One more number of the column."""
        self.truths |= isinstance(number, Truth)
        self.seen.add(float(number))

    def settle(self, named_index: bool = True) -> None:
        """Find the convention; InputError where the numbers leave it open.

        ``named_index``: whether the column's name makes 0 alone an index and no tie.
        """
        if self.convention is not None or not self.seen:
            return
        self.convention = self._convention_of_numbers(named_index)

    def _convention_of_numbers(self, named_index: bool) -> str:
        # A half between two indices is a tie under either of them.
        whole = {number for number in self.seen if number not in (0.5, 1.5)}
        # All 1 is the second of 0 and 1, the first of 1 and 2, or says that the first is better.
        only_ones = whole == {1.0} and self.counted_from is None and not self._is_index()
        if self.truths or only_ones:
            raise self._open()
        if min(self.seen) < 0 and self.seen != {-1.0, 0.0}:
            return "signed"
        if self.counted_from == 1 and whole <= {1.0, 2.0}:
            return "index1"
        if whole <= {0.0, 1.0} and (named_index or whole == {0.0, 1.0}):
            return "index0"
        if whole == {1.0, 2.0} and named_index:
            return "index1"
        raise self._open()

    def _is_index(self) -> bool:
        return _INDEX.search(self.column.casefold()) is not None

    def _open(self) -> InputError:
        shown = ", ".join(f"{number:g}" for number in sorted(self.seen)[:6])
        if self.truths:
            shown = "true and false"
        return InputError(
            f"column {self.column!r} holds {shown}: what they say is open; "
            f"write preference: {self.column}:CONVENTION with "
            "index0 (0 the first response, 1 the second), index1 (1 and 2), "
            "first (1 or true: the first is better) or signed "
            "(below 0 the first, above 0 the second)"
        )

    def side(self, number: float) -> Side:
        """What a number says under the convention; ValueError where it says nothing."""
        match self.convention:
            case "signed":
                return "tie" if number == 0 else "a" if number < 0 else "b"
            case "first":
                first = 1.0
                second = 0.0
            case "index1":
                first = 1.0
                second = 2.0
            case _:
                first = 0.0
                second = 1.0
        if number == (first + second) / 2:
            return "tie"
        if not min(first, second) <= number <= max(first, second):
            raise ValueError("no label")
        # Between the two a number is a share of the votes, and says the side that it is nearer to.
        return "a" if abs(number - first) < abs(number - second) else "b"


def named(column: str, there: Iterable[str]) -> tuple[str, str | None]:
    """(column, convention) of ``COLUMN:CONVENTION``, or of a column alone.

    >>> named("better:signed", ["better"]), named("better", ["better"])
    (('better', 'signed'), ('better', None))
    """
    name, colon, convention = column.rpartition(":")
    if not colon or column in set(there):
        return column, None
    if convention not in CONVENTIONS:
        raise InputError(
            f"preference {column!r}: {convention!r} is no convention; "
            f"allowed: {', '.join(CONVENTIONS)}"
        )
    return name, convention
