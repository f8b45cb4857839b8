"""Rows into columns, one at a time: what is broken is named and counted, text is let go where nobody needs it."""

import hashlib
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import chat
from reward_router.chat import Unreadable
from reward_router.column_names import as_text
from reward_router.errors import InputError
from reward_router.labels import Numbers
from reward_router.replay.fields import recorded
from reward_router.replay.records import NO_VALUE, Records
from reward_router.types import Float

_SIDES = {"a": 1, "b": -1}
_CODES = {
    -1.0: 9,
    0.0: 10,
    1.0: 11,
    2.0: 12,
}  # labels that are numbers wait here until the whole column is known
_VERDICTS = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}
_NAMED_PROBLEMS = 20


class Columns:
    """Collects rows one by one into columns; ``finish`` gives the :class:`Records`. Memory: 8 bytes a number, no row is kept."""

    def __init__(
        self, name: str, keep_prompts: int | None, keep_responses: bool, tags: Sequence[str] = ()
    ) -> None:
        """``keep_prompts``: keep prompt texts up to so many prompts (None: all, 0: none); beyond it they are let go.

        ``tags``: further columns of the rows to keep, as text.
        """
        self._name, self._limit, self._keep_responses = name, keep_prompts, keep_responses
        self._first: dict[str, array[float]] = {}
        self._second: dict[str, array[float]] = {}
        self._cost: dict[str, array[float]] = {}
        self._labels: array[int] = array("b")
        self._groups: array[int] = array("q")
        self._categories: array[int] = array("q")
        self._group_of: dict[str, int] = {}
        self._category_of: dict[str, int] = {}
        self._prompts: list[str] | None = []
        self._responses: list[tuple[str, str]] | None = [] if keep_responses else None
        self._problems: list[str] = []
        self._broken = self._identical = self._ties = 0
        self._numbers = Numbers("label")
        self._sources: array[int] = array("q")
        self._source_of: dict[str, int] = {}
        self._lengths: tuple[array[float], array[float]] = (array("d"), array("d"))
        self._tags: dict[str, array[int]] = {column: array("q") for column in tags}
        self._tag_of: dict[str, dict[str, int]] = {column: {} for column in tags}

    def broken(self, where: str, why: str) -> None:
        """Count a row that cannot be used; the first 20 are named."""
        self._broken += 1
        if len(self._problems) < _NAMED_PROBLEMS:
            self._problems.append(f"{where}: {why}")

    def add(self, row: Mapping[str, Any], where: str) -> None:
        """Take one row {id, prompt, label, scores, verdicts, ...} in any form of `fields`; a broken one is counted.

        A pair of identical responses is counted apart and left out, as is a tie: no label can be right about it.
        """
        try:
            known = recorded(row)
        except (Unreadable, RecursionError) as error:
            return self.broken(
                where, "nested too deeply" if isinstance(error, RecursionError) else str(error)
            )
        first, second, label = known["response_a"], known["response_b"], known["label"]
        if first is not None and first == second:
            self._identical += 1
            return None
        if label in ("tie", 0.5, 1.5):
            self._ties += 1
            return None
        if isinstance(label, float) and label not in _CODES:
            return self.broken(where, f"label {row.get('label')!r}, allowed: a, b")
        cells = _cells(known)
        if not cells:
            return self.broken(where, "neither scores nor verdicts")
        prices = _prices(known["cost"], cells)
        if isinstance(prices, str):
            return self.broken(where, prices)
        n = len(self._labels)
        for arm, (one, other) in cells.items():
            _put(self._first, arm, n, one, math.nan)
            _put(self._second, arm, n, other, math.nan)
        for arm, price in prices.items():
            _put(self._cost, arm, n, price, 1.0)
        if isinstance(label, float):
            self._numbers.seen.add(label)
        self._labels.append(_CODES[label] if isinstance(label, float) else _SIDES[label])
        self._note_texts(known, where)
        self._categories.append(_number(self._category_of, known["category"] or "all"))
        self._sources.append(_number(self._source_of, known["source"] or self._name))
        for column, codes in self._tags.items():
            codes.append(_number(self._tag_of[column], as_text(row.get(column)) or NO_VALUE))

    def _note_texts(self, row: Mapping[str, Any], where: str) -> None:
        prompt = row.get("prompt")
        known = len(self._group_of)
        group = _number(self._group_of, group_key(prompt, row.get("id"), where))
        self._groups.append(group)
        if self._prompts is not None and group == known:
            self._prompts.append(prompt or "")
            if not prompt or (self._limit is not None and known >= self._limit):
                self._prompts = None  # without every prompt there is no prompt feature, and a long file is not held
        first, second = row.get("response_a"), row.get("response_b")
        for lengths, text in zip(self._lengths, (first, second), strict=True):
            lengths.append(math.nan if text is None else len(text))
        if first is None or second is None:
            self._responses = None
        elif self._responses is not None:
            self._responses.append((first, second))

    def finish(
        self, official: Mapping[str, Any] | None = None, hint: str = "", lines: int = 0
    ) -> Records:
        """The columns as arrays; ``lines``: how many rows were read where several made one.

        ``InputError`` where no row is usable, more than half were lost, the labels are open to two readings, or fewer than two arms
        were seen (``hint``: what to do then).
        """
        n = len(self._labels)
        left_out = self._identical + self._ties
        if n == 0:
            why = f"; first: {self._problems[0]}" if self._problems else ""
            why += f"; {left_out} identical or tied pairs were left out" if left_out else ""
            raise InputError(
                f"{self._name}: no usable row (label a|b and scores or verdicts are needed){why}"
            )
        read = max(n + self._broken + left_out, lines)
        if 2 * self._broken > read:
            raise InputError(
                f"{self._name}: {self._broken} of {read} rows cannot be read, more than half; first: {self._problems[0]}"
            )
        if len(self._first) < 2:
            lost = (
                f"; {self._broken} rows cannot be read, first: {self._problems[0]}"
                if self._problems
                else ""
            )
            raise InputError(
                f"{self._name}: only one arm ({', '.join(self._first)}); routing needs at least 2{hint}{lost}"
            )
        arms = tuple(self._first)
        return Records(
            name=self._name,
            arms=arms,
            first_PK=_matrix(self._first, arms, n, math.nan),
            second_PK=_matrix(self._second, arms, n, math.nan),
            label_P=self._sides(),
            group_P=np.frombuffer(self._groups, np.int64).copy(),
            category_P=np.frombuffer(self._categories, np.int64).copy(),
            categories=tuple(self._category_of),
            cost_PK=_matrix(self._cost, arms, n, 1.0) if self._cost else None,
            prompts=tuple(self._prompts or ()),
            responses=tuple(self._responses or ()),
            problems=tuple(self._problems),
            n_broken=self._broken,
            n_identical=self._identical,
            n_ties=self._ties,
            official=official or {},
            source_P=np.frombuffer(self._sources, np.int64).copy(),
            sources=tuple(self._source_of),
            key_G=self._keys(),
            length_P2=np.column_stack([np.frombuffer(side, np.float64) for side in self._lengths]),
            tags={
                column: (np.frombuffer(codes, np.int64).copy(), tuple(self._tag_of[column]))
                for column, codes in self._tags.items()
            },
        )

    def _keys(self) -> NDArray[np.uint64]:
        """A number a prompt: equal for one text in two files; ids say nothing beyond their own file."""
        named = (key if key.startswith("p") else f"{key}\x1f{self._name}" for key in self._group_of)
        digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in named]
        return np.frombuffer(b"".join(digests), np.uint64).copy()

    def _sides(self) -> NDArray[np.int8]:
        """+1 where a is right, -1 where b is; numbers read as the whole column says."""
        label_P = np.frombuffer(self._labels, np.int8).copy()
        if not self._numbers.seen:
            return label_P
        if min(self._numbers.seen) < 0:
            raise InputError(
                f"{self._name}: labels are numbers below 0: which side they mean is open; write a and b"
            )
        try:
            self._numbers.settle()
        except InputError:
            shown = ", ".join(f"{n:g}" for n in sorted(self._numbers.seen))
            raise InputError(
                f"{self._name}: labels are {shown}: which side they mean is open; write a, b and tie"
            ) from None
        for number in self._numbers.seen:
            label_P[label_P == _CODES[number]] = _SIDES[self._numbers.side(number)]
        return label_P


def group_key(prompt: str | None, row_id: str | None, where: str) -> str:
    """What may never be split between training and test: the prompt, or the id without its last ``-part``."""
    if prompt:
        return "p" + prompt
    return "i" + row_id.rsplit("-", 1)[0] if row_id else "w" + where


def collect(
    name: str,
    rows: Iterable[tuple[str, Any]],
    keep_prompts: int | None = None,
    keep_responses: bool = True,
    tags: Sequence[str] = (),
) -> Records:
    """Records from (where, row) pairs; a row that is no mapping is counted as broken. O(rows)."""
    columns = Columns(name, keep_prompts, keep_responses, tags)
    for where, row in rows:
        if isinstance(row, Mapping):
            columns.add(row, where)
        else:
            columns.broken(where, row if isinstance(row, str) else "not an object")
    return columns.finish()


def _cells(row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Scores of a and b by arm; an arm that abstained is left out."""
    verdicts = {arm: _VERDICTS[verdict] for arm, verdict in row["verdicts"].items()}
    scores = {arm: pair for arm, pair in row["scores"].items() if not any(map(math.isnan, pair))}
    return verdicts | scores


def _prices(cost: Any, cells: Mapping[str, Any]) -> dict[str, float] | str:
    named = (
        cost if isinstance(cost, Mapping) else {} if cost is None else dict.fromkeys(cells, cost)
    )
    try:
        prices = {
            arm: float(price) for arm, price in named.items() if arm in cells and price is not None
        }
    except (TypeError, ValueError, OverflowError):
        return f"cost {chat.shown(cost)!r} is no number"
    right = all(0 <= p < math.inf for p in prices.values())
    return prices if right else f"cost {chat.shown(cost)!r}, allowed: 0 or more"


def _put(columns: dict[str, "array[float]"], arm: str, row: int, value: float, fill: float) -> None:
    column = columns.setdefault(arm, array("d"))
    if len(column) < row:
        column.extend([fill] * (row - len(column)))
    column.append(value)


def _number(known: dict[str, int], key: str) -> int:
    return known.setdefault(key, len(known))


def _matrix(
    columns: Mapping[str, "array[float]"], arms: tuple[str, ...], n: int, fill: float
) -> Float:
    out_PK = np.full((n, len(arms)), fill)
    for k, arm in enumerate(arms):
        column = columns.get(arm)
        if column:
            out_PK[: len(column), k] = np.frombuffer(column, np.float64)
    return out_PK
