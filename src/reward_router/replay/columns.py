"""Rows into columns, one at a time: what is broken is named and counted, text is let go where nobody needs it."""

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.replay.records import Records
from reward_router.types import Float

_SIDES = {"a": 1, "b": -1}
_VERDICTS = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}
_NAMED_PROBLEMS = 20
_LARGEST = 1e30  # what an infinite score (a log of 0) becomes: margins and means stay finite


class Columns:
    """Collects rows one by one into columns; ``finish`` gives the :class:`Records`. Memory: 8 bytes a number, no row is kept."""

    def __init__(self, name: str, keep_prompts: int | None, keep_responses: bool) -> None:
        """``keep_prompts``: keep prompt texts up to so many prompts (None: all, 0: none); beyond it they are let go."""
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
        self._broken = self._identical = 0

    def broken(self, where: str, why: str) -> None:
        """Count a row that cannot be used; the first 20 are named."""
        self._broken += 1
        if len(self._problems) < _NAMED_PROBLEMS:
            self._problems.append(f"{where}: {why}")

    def add(self, row: Mapping[str, Any], where: str) -> None:
        """Take one row {id, prompt, label, scores, verdicts, ...}; a broken one is counted, a wrong length raises ``InputError``.

        A pair of identical responses is counted apart and left out: no label can be right about it.
        """
        first, second = row.get("response_a"), row.get("response_b")
        if first is not None and first == second:
            self._identical += 1
            return None
        if row.get("label") not in _SIDES:
            return self.broken(where, f"label {row.get('label')!r}, allowed: a, b")
        cells = _cells(row, where)
        if isinstance(cells, str):
            return self.broken(where, cells)
        prices = _prices(row.get("cost"), cells)
        if isinstance(prices, str):
            return self.broken(where, prices)
        n = len(self._labels)
        for arm, (first, second) in cells.items():
            _put(self._first, arm, n, first, math.nan)
            _put(self._second, arm, n, second, math.nan)
        for arm, price in prices.items():
            _put(self._cost, arm, n, price, 1.0)
        self._labels.append(_SIDES[row["label"]])
        self._note_texts(row, where)
        self._categories.append(_number(self._category_of, str(row.get("category") or "all")))

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
        if first is None or second is None:
            self._responses = None
        elif self._responses is not None:
            self._responses.append((first, second))

    def finish(self, official: Mapping[str, Any] | None = None, hint: str = "") -> Records:
        """The columns as arrays; ``InputError`` where no row is usable or fewer than two arms were seen (``hint``: what to do then)."""
        n = len(self._labels)
        if n == 0:
            why = f"; first: {self._problems[0]}" if self._problems else ""
            raise InputError(f"{self._name}: no usable row (label a|b and scores or verdicts are needed){why}")
        if len(self._first) < 2:
            raise InputError(f"{self._name}: only one arm ({', '.join(self._first)}); routing needs at least 2{hint}")
        arms = tuple(self._first)
        return Records(
            name=self._name,
            arms=arms,
            first_PK=_matrix(self._first, arms, n, math.nan),
            second_PK=_matrix(self._second, arms, n, math.nan),
            label_P=np.frombuffer(self._labels, np.int8).copy(),
            group_P=np.frombuffer(self._groups, np.int64).copy(),
            category_P=np.frombuffer(self._categories, np.int64).copy(),
            categories=tuple(self._category_of),
            cost_PK=_matrix(self._cost, arms, n, 1.0) if self._cost else None,
            prompts=tuple(self._prompts or ()),
            responses=tuple(self._responses or ()),
            problems=tuple(self._problems),
            n_broken=self._broken,
            n_identical=self._identical,
            official=official or {},
        )


def group_key(prompt: str | None, row_id: str | None, where: str) -> str:
    """What may never be split between training and test: the prompt, or the id without its last ``-part``."""
    if prompt:
        return "p" + prompt
    return "i" + row_id.rsplit("-", 1)[0] if row_id else "w" + where


def collect(
    name: str, rows: Iterable[tuple[str, Any]], keep_prompts: int | None = None, keep_responses: bool = True
) -> Records:
    """Records from (where, row) pairs; a row that is no mapping is counted as broken. O(rows)."""
    columns = Columns(name, keep_prompts, keep_responses)
    for where, row in rows:
        if isinstance(row, Mapping):
            columns.add(row, where)
        else:
            columns.broken(where, row if isinstance(row, str) else "not an object")
    return columns.finish()


def _cells(row: Mapping[str, Any], where: str) -> dict[str, tuple[float, float]] | str:
    cells: dict[str, tuple[float, float]] = {}
    for arm, verdict in (row.get("verdicts") or {}).items():
        if verdict not in _VERDICTS:
            return f"verdict {verdict!r} of {arm}, allowed: a, b, tie"
        cells[arm] = _VERDICTS[verdict]
    for arm, pair in (row.get("scores") or {}).items():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"{where}: scores of {arm} are {pair!r}, allowed: [score of a, score of b]")
        try:
            first, second = (math.nan if x is None else min(max(float(x), -_LARGEST), _LARGEST) for x in pair)
        except (TypeError, ValueError):
            return f"scores of {arm} are not numbers: {pair!r}"
        if not (math.isnan(first) or math.isnan(second)):
            cells[arm] = (first, second)
    return cells or "neither scores nor verdicts"


def _prices(cost: Any, cells: Mapping[str, Any]) -> dict[str, float] | str:
    named = cost if isinstance(cost, Mapping) else {} if cost is None else dict.fromkeys(cells, cost)
    try:
        prices = {arm: float(price) for arm, price in named.items() if arm in cells}
    except (TypeError, ValueError):
        return f"cost {cost!r} is no number"
    return prices if all(0 <= p < math.inf for p in prices.values()) else f"cost {cost!r}, allowed: 0 or more"


def _put(columns: dict[str, "array[float]"], arm: str, row: int, value: float, fill: float) -> None:
    column = columns.setdefault(arm, array("d"))
    if len(column) < row:
        column.extend([fill] * (row - len(column)))
    column.append(value)


def _number(known: dict[str, int], key: str) -> int:
    return known.setdefault(key, len(known))


def _matrix(columns: Mapping[str, "array[float]"], arms: tuple[str, ...], n: int, fill: float) -> Float:
    out_PK = np.full((n, len(arms)), fill)
    for k, arm in enumerate(arms):
        column = columns.get(arm)
        if column:
            out_PK[: len(column), k] = np.frombuffer(column, np.float64)
    return out_PK
