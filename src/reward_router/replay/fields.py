"""One recorded row in the form the rest of this package works on, out of the forms people have.

id, prompt, response_a, response_b   texts or None; messages become text, as fit-prior's encoder
                                     reads them
label                                a, b, tie, or a number whose meaning the whole column tells
scores {arm: [of a, of b]}           also {arm: {a, b}}, {arm: {chosen, rejected}}, pairs of
                                     [arm, scores], JSON text, a list of {arm, a, b}, and flat
                                     columns ARM:a and ARM:b
verdicts {arm: label}                also flat columns ARM:verdict; a is the chosen one where the
                                     row has chosen and rejected
cost, category, source               as they are
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from reward_router import chat, labels, preferences
from reward_router.chat import Prompt, Unreadable
from reward_router.column_names import as_text, is_missing
from reward_router.offline.text import prompt_text

Json = dict[str, Any]

# What an infinite score (a log of 0) becomes: margins and means stay finite.
LARGEST = 1e30
_PROMPTS = ("prompt", "question", "instruction", "query", "context", "history", "input")
_IDS = ("id", "pair_id", "question_id", "prompt_id")
_SIDES = (("a", "b"), ("A", "B"), ("response_a", "response_b"), ("first", "second"), ("0", "1"))
_ROLES = ("chosen", "rejected")
_TURNED: dict[labels.Side, labels.Side] = {"a": "b", "b": "a", "tie": "tie"}
_ARM_NAMES = ("arm", "model", "name", "judge", "judge_model", "reward_model")


def recorded(row: Mapping[str, Any]) -> Json:
    """The row in our own form; `Unreadable` says what is broken.

    >>> recorded({"id": 7, "label": "A>B", "scores": {"x": {"a": "1.5", "b": 0}}})["scores"]
    {'x': (1.5, 0.0)}
    """
    names = _names(row)
    prompt = _prompt(row, names)
    first, second, label = _sides(row, names, prompt)
    name = next((as_text(row[names[column]]) for column in _IDS if column in names), None)
    chosen_stands_first = True
    if label is None:
        # Chosen and rejected: the side is a coin, so that no position can be learned.
        label = side(name or f"{prompt}{first}")
        chosen_stands_first = label == "a"
        if not chosen_stands_first:
            first, second = second, first
    scores, verdicts, cost = _cells(row, label, turned=not chosen_stands_first)
    category = row.get("subset") if is_missing(row.get("category")) else row.get("category")
    return {
        "id": name,
        "prompt": None if prompt is None else prompt_text(prompt),
        "response_a": first,
        "response_b": second,
        "label": label,
        "scores": scores,
        "verdicts": verdicts,
        "cost": cost,
        "category": as_text(category),
        "source": as_text(row.get("source")),
    }


def _names(row: Mapping[str, Any]) -> dict[str, str]:
    """The columns that hold something, by their name in small letters."""
    return {
        key.casefold(): key
        for key, value in row.items()
        if isinstance(key, str) and not is_missing(value)
    }


def side(name: str) -> Literal["a", "b"]:
    """Where the better response stands: a fixed coin of the item's name.

    So no position can be learned, and every file that holds the item agrees.
    """
    coin = hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1
    return "b" if coin else "a"


def _prompt(row: Mapping[str, Any], names: Mapping[str, str]) -> Prompt | None:
    column = next((names[name] for name in _PROMPTS if name in names), None)
    if column is None:
        return None
    value = row[column]
    if isinstance(value, bool | int | float):
        return as_text(value)
    return preferences.prompt(value, column)


def _sides(
    row: Mapping[str, Any], names: Mapping[str, str], prompt: Prompt | None
) -> tuple[str | None, str | None, labels.Side | float | None]:
    """(response a, response b, label); the label is None where the first one is the chosen one."""
    chat.no_media(row)
    columns = preferences.two_columns(names)
    responses = (None, None) if columns is None else (row[columns[0]], row[columns[1]])
    label_column = preferences.label_column(row, names, (columns or ())[:2])
    has_roles = "chosen" in names and "rejected" in names
    if label_column is None and "label" not in row and columns is None and has_roles:
        responses = row[names["chosen"]], row[names["rejected"]]
    elif label_column is None:
        if row.get("label") is None:
            raise Unreadable(f"label {row.get('label')!r}, allowed: {labels.ALLOWED}")
        label_column = "label"
    first, second = (
        None if text is None else preferences.response(text, prompt or "", "a response")
        for text in responses
    )
    if label_column is None:
        return first, second, None
    label = (
        preferences.one_hot(row, names)
        if label_column == "winner_model_a"
        else _label(row[label_column], label_column)
    )
    # The columns of Stanford's SHP, where 1 means response a.
    if label_column.casefold() == "labels" and "human_ref_a" in names and isinstance(label, float):
        label = "a" if label == 1 else "b"
    return first, second, label


def _label(value: Any, column: str) -> labels.Side | float:
    if isinstance(value, bool):
        raise Unreadable(f"{column} {value} does not say which response is better; write a or b")
    try:
        return labels.read_label(value)
    except ValueError:
        raise Unreadable(f"{column} {chat.shown(value)!r}, allowed: {labels.ALLOWED}") from None


def _cells(
    row: Mapping[str, Any], label: labels.Side | float, turned: bool
) -> tuple[dict[str, tuple[float, float]], dict[str, labels.Side], Any]:
    """(scores, verdicts, cost) by arm.

    ``turned``: [chosen, rejected] is written the other way round than a and b.
    """
    scores = row.get("scores")
    verdicts = row.get("verdicts")
    cost = row.get("cost")
    # A table has no objects in its cells: there the arms' names are in the columns' names.
    if scores is None and verdicts is None:
        scores, verdicts, cost = _flat(row, cost)

    score_cells = _present(_by_arm(scores, "scores"))
    verdict_cells = _present(_by_arm(verdicts, "verdicts"))
    pairs = {arm: _pair(cell, arm, label) for arm, cell in score_cells.items()}
    sides = {arm: _verdict(cell, arm, label) for arm, cell in verdict_cells.items()}
    if turned:
        pairs = {arm: _swapped(pair, score_cells[arm]) for arm, pair in pairs.items()}
        for arm, side in sides.items():
            # A verdict that names a role is not about places.
            if not _by_role(verdict_cells[arm]):
                sides[arm] = _TURNED[side]
    return pairs, sides, _json(cost)


def _present(cells: Json) -> Json:
    return {arm: cell for arm, cell in cells.items() if cell is not None}


def _by_role(verdict: Any) -> bool:
    """Whether a verdict names the better response by what it is: it is on its side already."""
    return isinstance(verdict, str) and verdict.strip().casefold() in _ROLES


def _swapped(pair: tuple[float, float], cell: Any) -> tuple[float, float]:
    """[chosen, rejected] as (a, b), also where they are called a and b.

    Scores under the names chosen and rejected were put in order already.
    """
    value = _json(cell)
    by_role = isinstance(value, Mapping) and _places(value) is None
    return pair if by_role else pair[::-1]


def _flat(row: Mapping[str, Any], cost: Any) -> tuple[Json, Json, Any]:
    """Columns ``ARM:a`` and ``ARM:b``, ``ARM:verdict``, ``ARM:cost``: what a CSV file can hold."""
    scores: dict[str, list[Any]] = {}
    verdicts: Json = {}
    costs: Json = {}
    for column, cell in row.items():
        arm, colon, kind = column.rpartition(":") if isinstance(column, str) else ("", "", "")
        if not colon or not arm or cell is None or cell == "":
            continue
        if kind in ("a", "b"):
            scores.setdefault(arm, [None, None])[kind == "b"] = cell
        elif kind == "verdict":
            verdicts[arm] = cell
        elif kind == "cost":
            costs[arm] = cell
    return scores, verdicts, costs or cost


def _by_arm(value: Any, what: str) -> Json:
    """Cells by arm.

    They come from an object, from pairs of [arm, cell], from objects that name their arm, or from
    any of these as JSON text.
    """
    cells = _json(value)
    if cells is None:
        return {}
    if isinstance(cells, Mapping):
        if any(not str(arm).strip() for arm in cells):
            raise Unreadable(f"{what} have an arm without a name")
        return {str(arm): cell for arm, cell in cells.items()}

    if isinstance(cells, list | tuple) and cells:
        if all(_is_named_cell(item) for item in cells):
            named = [(item[0], item[1]) for item in cells]
            return _unique(named, what)
        if all(isinstance(item, Mapping) for item in cells):
            named = [_named(item, what) for item in cells]
            return _unique(named, what)

    allowed = "{arm: a, b or tie}"
    if what == "scores":
        allowed = "{arm: [score of a, score of b]}"
    raise Unreadable(f"{what} are {chat.shown(value)!r}, allowed: {allowed}")


def _is_named_cell(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)


def _unique(pairs: Sequence[tuple[str, Any]], what: str) -> Json:
    by_arm = dict(pairs)
    if len(by_arm) != len(pairs):
        raise Unreadable(f"{what} name an arm twice")
    return by_arm


def _named(item: Mapping[str, Any], what: str) -> tuple[str, Any]:
    names = (item[key] for key in _ARM_NAMES if isinstance(item.get(key), str))
    name = next(names, None)
    if name is None:
        raise Unreadable(f"{what} hold {chat.shown(item)!r}, which names no arm")
    cell_names = ("scores", "verdict", "winner", "label")
    cells = (item[key] for key in cell_names if key in item)
    # An object without any of them holds the sides itself: {arm, a, b}.
    cell = next(cells, item)
    return name, cell


def _pair(value: Any, arm: str, label: labels.Side | float) -> tuple[float, float]:
    pair = _json(value)
    if isinstance(pair, Mapping):
        pair = _sided(pair, label)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise Unreadable(
            f"scores of {arm} are {chat.shown(value)!r}, allowed: [score of a, score of b]"
        )
    try:
        first, second = (score_number(score) for score in pair)
    except (TypeError, ValueError):
        raise Unreadable(f"scores of {arm} are not numbers: {chat.shown(value)!r}") from None
    return first, second


def _sided(scores: Mapping[str, Any], label: labels.Side | float) -> list[Any] | None:
    """[of a, of b] out of scores by the names of sides, or by chosen and rejected."""
    places = _places(scores)
    if places is not None:
        return [scores[name] for name in places]
    if "chosen" in scores and "rejected" in scores and label in ("a", "b"):
        pair = [scores["chosen"], scores["rejected"]]
        return pair if label == "a" else pair[::-1]
    return None


def _places(scores: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two names that say where a response stands; None where none do."""
    present = ((first, second) for first, second in _SIDES if first in scores and second in scores)
    return next(present, None)


def score_number(value: Any) -> float:
    """A score as a finite number, alone or in a list of one; NaN for none.

    TypeError or ValueError where it is no number.

    >>> score_number("0.5"), score_number([2]), score_number(10**400), score_number(None)
    (0.5, 2.0, 1e+30, nan)
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if value is None:
        return math.nan
    if isinstance(value, str) and not value.strip():
        return math.nan
    if not isinstance(value, int | float | str) and not hasattr(value, "__float__"):
        raise TypeError("no number")
    try:
        score = float(value)
    except OverflowError:
        score = math.inf if value > 0 else -math.inf  # an integer beyond every float
    return min(max(score, -LARGEST), LARGEST)


def _verdict(value: Any, arm: str, label: labels.Side | float) -> labels.Side:
    """The side that a verdict names.

    ``chosen`` and ``rejected`` are allowed where the label says which side they stand on.
    """
    if _by_role(value) and label in ("a", "b"):
        chosen: labels.Side = "a" if label == "a" else "b"
        return chosen if value.strip().casefold() == "chosen" else _TURNED[chosen]
    try:
        verdict = labels.read_label(value)
    except ValueError:
        verdict = math.nan
    # A number is no verdict: nothing here says which side it means.
    if isinstance(verdict, float):
        raise Unreadable(
            f"verdict {chat.shown(value)!r} of {arm}, allowed: a, b, tie, A>B, model_a, chosen"
        )
    return verdict


def _json(value: Any) -> Any:
    """JSON text of an object or a list as what it says; everything else as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
