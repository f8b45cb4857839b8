"""Rows into columns, one at a time.

What is broken is named and counted, and text is let go where nobody needs it.
"""

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
# Labels that are numbers wait under these codes until the whole column is known.
_CODES = {-1.0: 9, 0.0: 10, 1.0: 11, 2.0: 12}
_VERDICTS = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}
_NAMED_PROBLEMS = 20


class Columns:
    """Collects rows one by one into columns; ``finish`` gives the :class:`Records`.

    Memory: 8 bytes a number; no row is kept.
    """

    def __init__(
        self, name: str, keep_prompts: int | None, keep_responses: bool, tags: Sequence[str] = ()
    ) -> None:
        """An empty set of columns.

        Args:
            name: of the file, for messages and tables.
            keep_prompts: keep prompt texts up to so many prompts (None: all, 0: none); beyond that
                number all are let go.
            keep_responses: whether the responses' texts are kept.
            tags: further columns of the rows to keep, as text.
        """
        self._name = name
        self._limit = keep_prompts
        self._keep_responses = keep_responses
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
        self._broken = 0
        self._identical = 0
        self._ties = 0
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
        """Take one row {id, prompt, label, scores, verdicts, ...} in any form of `fields`.

        A broken row is counted. So is a pair of identical responses or a tie, and left out: no
        label can be right about it.
        """
        try:
            fields = recorded(row)
        except RecursionError:
            return self.broken(where, "nested too deeply")
        except Unreadable as error:
            return self.broken(where, str(error))
        label = fields["label"]
        if fields["response_a"] is not None and fields["response_a"] == fields["response_b"]:
            self._identical += 1
            return None
        if label in ("tie", 0.5, 1.5):
            self._ties += 1
            return None
        if isinstance(label, float) and label not in _CODES:
            return self.broken(where, f"label {row.get('label')!r}, allowed: a, b")
        cells = _cells(fields)
        if not cells:
            return self.broken(where, f"neither scores nor verdicts{_near_names(row)}")
        prices = _prices(fields["cost"], cells)
        if isinstance(prices, str):
            return self.broken(where, prices)
        self._note_numbers(label, cells, prices)
        self._note_texts(fields, where)
        self._categories.append(_number(self._category_of, fields["category"] or "all"))
        self._sources.append(_number(self._source_of, fields["source"] or self._name))
        for column, codes in self._tags.items():
            codes.append(_number(self._tag_of[column], as_text(row.get(column)) or NO_VALUE))

    def _note_numbers(
        self, label: Any, cells: Mapping[str, tuple[float, float]], prices: Mapping[str, float]
    ) -> None:
        row = len(self._labels)
        for arm, (first, second) in cells.items():
            _put(self._first, arm, row, first, math.nan)
            _put(self._second, arm, row, second, math.nan)
        # A call that names no price costs one.
        for arm, price in prices.items():
            _put(self._cost, arm, row, price, 1.0)

        # A number is kept as it is: what it means is decided when all of them were seen.
        if isinstance(label, float):
            self._numbers.seen.add(label)
            self._labels.append(_CODES[label])
        else:
            self._labels.append(_SIDES[label])

    def _note_texts(self, row: Mapping[str, Any], where: str) -> None:
        prompt = row.get("prompt")
        n_groups = len(self._group_of)
        key = group_key(prompt, row.get("id"), where)
        group = _number(self._group_of, key)
        self._groups.append(group)

        is_new = group == n_groups
        if self._prompts is not None and is_new:
            self._prompts.append(prompt or "")
            too_many = self._limit is not None and n_groups >= self._limit
            # Without every prompt there is no prompt feature, and a long file is not held.
            if not prompt or too_many:
                self._prompts = None

        first = row.get("response_a")
        second = row.get("response_b")
        for lengths, text in zip(self._lengths, (first, second), strict=True):
            lengths.append(math.nan if text is None else len(text))
        if first is None or second is None:
            self._responses = None
        elif self._responses is not None:
            self._responses.append((first, second))

    def finish(
        self, official: Mapping[str, Any] | None = None, hint: str = "", lines: int = 0
    ) -> Records:
        """The columns as arrays.

        ``InputError`` where no row is usable, more than half were lost, the labels are open to two
        readings, or fewer than two arms were seen.

        Args:
            official: the benchmark's own metric by arm.
            hint: what to do where only one arm was seen.
            lines: how many rows were read, where several made one.
        """
        n = len(self._labels)
        self._check(hint, lines)
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

    def _check(self, hint: str, lines: int) -> None:
        """``InputError`` where what was collected cannot be replayed."""
        n = len(self._labels)
        left_out = self._identical + self._ties
        first = f"first: {self._problems[0]}" if self._problems else ""
        if n == 0:
            why = f"; {first}" if first else ""
            if left_out:
                why += f"; {left_out} identical or tied pairs were left out"
            raise InputError(
                f"{self._name}: no usable row. A row needs which response is better (label, or "
                "chosen and rejected) and what each arm said (scores or verdicts; in a CSV the "
                f"columns ARM:a and ARM:b, or ARM:verdict){why}"
            )
        read = max(n + self._broken + left_out, lines)
        if 2 * self._broken > read:
            raise InputError(
                f"{self._name}: {self._broken} of {read} rows cannot be read, "
                f"more than half; {first}"
            )
        if len(self._first) < 2:
            lost = f"; {self._broken} rows cannot be read, {first}" if first else ""
            raise InputError(
                f"{self._name}: only one arm ({', '.join(self._first)}); "
                f"routing needs at least 2{hint}{lost}"
            )

    def _keys(self) -> NDArray[np.uint64]:
        """A number for each prompt, equal for one text in two files.

        Ids say nothing beyond their own file, so the file's name is part of their key.
        """
        digests = []
        for key in self._group_of:
            # Keys that begin with p are of a prompt's text; all others are an id.
            of_text = key.startswith("p")
            named = key if of_text else f"{key}\x1f{self._name}"
            digest = hashlib.blake2b(named.encode(), digest_size=8)
            digests.append(digest.digest())
        numbers = b"".join(digests)
        return np.frombuffer(numbers, np.uint64).copy()

    def _sides(self) -> NDArray[np.int8]:
        """+1 where a is right, -1 where b is; numbers read as the whole column says."""
        label_P = np.frombuffer(self._labels, np.int8).copy()
        if not self._numbers.seen:
            return label_P
        if min(self._numbers.seen) < 0:
            raise InputError(
                f"{self._name}: labels are numbers below 0: which side they mean is open; "
                "write a and b"
            )
        try:
            self._numbers.settle()
        except InputError:
            shown = ", ".join(f"{n:g}" for n in sorted(self._numbers.seen))
            raise InputError(
                f"{self._name}: labels are {shown}: which side they mean is open; "
                "write a, b and tie"
            ) from None
        for number in self._numbers.seen:
            label_P[label_P == _CODES[number]] = _SIDES[self._numbers.side(number)]
        return label_P


def group_key(prompt: str | None, row_id: str | None, where: str) -> str:
    """What may never be split between training and test.

    It is the prompt, or without one the id less its last ``-part``.
    """
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


def _near_names(row: Mapping[str, Any]) -> str:
    """What to call columns whose names are nearly those of scores; '' where there are none."""
    for name in row:
        arm = str(name).removesuffix("_chosen")
        if arm != str(name) and f"{arm}_rejected" in row:
            return f" (call {arm}_chosen and {arm}_rejected {arm}:a and {arm}:b)"
    return ""


def _cells(row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Scores of a and b by arm; an arm that abstained is left out."""
    verdicts = {arm: _VERDICTS[verdict] for arm, verdict in row["verdicts"].items()}
    scores = {}
    for arm, pair in row["scores"].items():
        # A score on one side alone orders nothing.
        abstained = math.isnan(pair[0]) or math.isnan(pair[1])
        if not abstained:
            scores[arm] = pair
    return verdicts | scores


def _prices(cost: Any, cells: Mapping[str, Any]) -> dict[str, float] | str:
    """Price of one call by arm, of one number for all or of an object; or what is wrong with it."""
    if cost is None:
        return {}
    by_arm = cost if isinstance(cost, Mapping) else dict.fromkeys(cells, cost)
    prices = {}
    try:
        for arm, price in by_arm.items():
            # An arm that gave no score was not paid.
            if arm in cells and price is not None:
                prices[arm] = float(price)
    except (TypeError, ValueError, OverflowError):
        return f"cost {chat.shown(cost)!r} is no number"

    allowed = all(0 <= price < math.inf for price in prices.values())
    return prices if allowed else f"cost {chat.shown(cost)!r}, allowed: 0 or more"


def _put(columns: dict[str, "array[float]"], arm: str, row: int, value: float, fill: float) -> None:
    """Set an arm's value on a row; the rows since its last value get ``fill``."""
    column = columns.setdefault(arm, array("d"))
    # An arm that was not on the rows in between has no value there.
    missing = row - len(column)
    if missing > 0:
        column.extend([fill] * missing)
    column.append(value)


def _number(numbers: dict[str, int], key: str) -> int:
    """The number of a key: its own, or the next one."""
    return numbers.setdefault(key, len(numbers))


def _matrix(
    columns: Mapping[str, "array[float]"], arms: tuple[str, ...], n: int, fill: float
) -> Float:
    out_PK = np.full((n, len(arms)), fill)
    for k, arm in enumerate(arms):
        column = columns.get(arm)
        if column:
            out_PK[: len(column), k] = np.frombuffer(column, np.float64)
    return out_PK
