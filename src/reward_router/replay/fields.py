"""One recorded row in the form the rest of this package works on, out of the forms people have.

id, prompt, response_a, response_b   texts or None; messages become text, as fit-prior's encoder reads them
label                                a, b, tie, or a number whose meaning the whole column tells
scores {arm: [of a, of b]}           also {arm: {a, b}}, {arm: {chosen, rejected}}, pairs of [arm, scores], JSON text,
                                     a list of {arm, a, b}, and flat columns ARM:a and ARM:b
verdicts {arm: label}                also flat columns ARM:verdict; a is the chosen one where the row has chosen and rejected
cost, category, source               as they are
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from reward_router import chat, labels, preferences
from reward_router.chat import Unreadable
from reward_router.column_names import as_text, is_missing
from reward_router.offline.text import prompt_text

Json = dict[str, Any]

LARGEST = 1e30  # what an infinite score (a log of 0) becomes: margins and means stay finite
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
    held = {
        key.casefold(): key
        for key, value in row.items()
        if isinstance(key, str) and not is_missing(value)
    }
    prompt = _prompt(row, held)
    first, second, label = _sides(row, held, prompt)
    name = next((as_text(row[held[column]]) for column in _IDS if column in held), None)
    if label is None:  # chosen and rejected: the side is a coin, so that no position can be learned
        label = side(name or f"{prompt}{first}")
        chosen_first = label == "a"
        first, second = (first, second) if chosen_first else (second, first)
        scores, verdicts, cost = _cells(
            row, held, "a" if chosen_first else "b", turned=not chosen_first
        )
    else:
        scores, verdicts, cost = _cells(row, held, label, turned=False)
    category = row.get("subset") if is_missing(row.get("category")) else row.get("category")
    return {
        "id": name, "prompt": None if prompt is None else prompt_text(prompt), "response_a": first, "response_b": second,
        "label": label, "scores": scores, "verdicts": verdicts, "cost": cost, "category": as_text(category),
        "source": as_text(row.get("source")),
    }  # fmt: skip


def side(name: str) -> Literal["a", "b"]:
    """Where the better response stands: a fixed coin of the item's name, so that no position can be learned."""
    coin = hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1
    return "b" if coin else "a"


def _prompt(row: Mapping[str, Any], held: Mapping[str, str]) -> preferences.Prompt | None:
    column = next((held[name] for name in _PROMPTS if name in held), None)
    if column is None:
        return None
    value = row[column]
    if isinstance(value, bool | int | float):
        return as_text(value)
    return preferences.prompt(value, column)


def _sides(
    row: Mapping[str, Any], held: Mapping[str, str], prompt: preferences.Prompt | None
) -> tuple[str | None, str | None, labels.Side | float | None]:
    """(response a, response b, label); the label is None where the first one is the chosen one."""
    chat.no_media(row)
    columns = preferences.two_columns(held)
    responses = (None, None) if columns is None else (row[columns[0]], row[columns[1]])
    label_of = preferences.label_column(row, held, (columns or ())[:2])
    if (
        label_of is None
        and "label" not in row
        and columns is None
        and "chosen" in held
        and "rejected" in held
    ):
        responses = row[held["chosen"]], row[held["rejected"]]
    elif label_of is None:
        if isinstance(row.get("label"), bool) or row.get("label") is None:
            raise Unreadable(f"label {row.get('label')!r}, allowed: {labels.ALLOWED}")
        label_of = "label"
    first, second = (
        None if text is None else preferences.response(text, prompt or "", "a response")
        for text in responses
    )
    if label_of is None:
        return first, second, None
    label = (
        preferences.one_hot(row, held)
        if label_of == "winner_model_a"
        else _label(row[label_of], label_of)
    )
    if label_of.casefold() == "labels" and "human_ref_a" in held and isinstance(label, float):
        label = "a" if label == 1 else "b"
    return first, second, label


def _label(value: Any, column: str) -> labels.Side | float:
    try:
        return labels.read(value)
    except ValueError:
        raise Unreadable(f"{column} {chat.shown(value)!r}, allowed: {labels.ALLOWED}") from None


def _cells(
    row: Mapping[str, Any], held: Mapping[str, str], label: labels.Side | float, turned: bool
) -> tuple[dict[str, tuple[float, float]], dict[str, labels.Side], Any]:
    """(scores, verdicts, cost) by arm; ``turned``: [chosen, rejected] is written the other way round than a and b."""
    scores, verdicts, cost = row.get("scores"), row.get("verdicts"), row.get("cost")
    if scores is None and verdicts is None:
        scores, verdicts, cost = _flat(row, cost)
    pairs = {
        arm: _pair(value, arm, label)
        for arm, value in _by_arm(scores, "scores").items()
        if value is not None
    }
    given = {
        arm: value for arm, value in _by_arm(verdicts, "verdicts").items() if value is not None
    }
    said = {arm: _verdict(value, arm, label) for arm, value in given.items()}
    if turned:
        pairs = {arm: _swapped(pair, _by_arm(scores, "scores")[arm]) for arm, pair in pairs.items()}
        said = {arm: side if _by_role(given[arm]) else _TURNED[side] for arm, side in said.items()}
    return pairs, said, _json(cost)


def _by_role(verdict: Any) -> bool:
    """Whether a verdict names the better response by what it is, so that it was put on its side already."""
    return isinstance(verdict, str) and verdict.strip().casefold() in _ROLES


def _swapped(pair: tuple[float, float], given: Any) -> tuple[float, float]:
    """[chosen, rejected] as (a, b), also where they are called a and b; by their own names they were put in order already."""
    found = _json(given)
    by_role = isinstance(found, Mapping) and _places(found) is None
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
    """Cells by arm, from an object, pairs of [arm, cell], objects that name their arm, or any of these as JSON text."""
    found = _json(value)
    if found is None:
        return {}
    if isinstance(found, Mapping):
        return {str(arm): cell for arm, cell in found.items()}
    if isinstance(found, list | tuple) and found:
        if all(
            isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)
            for item in found
        ):
            return _unique([(item[0], item[1]) for item in found], what)
        if all(isinstance(item, Mapping) for item in found):
            return _unique([_named(item, what) for item in found], what)
    allowed = "{arm: [score of a, score of b]}" if what == "scores" else "{arm: a, b or tie}"
    raise Unreadable(f"{what} are {chat.shown(value)!r}, allowed: {allowed}")


def _unique(pairs: Sequence[tuple[str, Any]], what: str) -> Json:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unreadable(f"{what} name an arm twice")
    return made


def _named(item: Mapping[str, Any], what: str) -> tuple[str, Any]:
    name = next((item[key] for key in _ARM_NAMES if isinstance(item.get(key), str)), None)
    if name is None:
        raise Unreadable(f"{what} hold {chat.shown(item)!r}, which names no arm")
    cell = next(
        (item[key] for key in ("scores", "verdict", "winner", "label") if key in item), item
    )
    return name, cell


def _pair(value: Any, arm: str, label: labels.Side | float) -> tuple[float, float]:
    found = _json(value)
    if isinstance(found, Mapping):
        found = _sided(found, label)
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise Unreadable(
            f"scores of {arm} are {chat.shown(value)!r}, allowed: [score of a, score of b]"
        )
    try:
        first, second = (number(one) for one in found)
    except (TypeError, ValueError):
        raise Unreadable(f"scores of {arm} are not numbers: {chat.shown(value)!r}") from None
    return first, second


def _sided(found: Mapping[str, Any], label: labels.Side | float) -> list[Any] | None:
    places = _places(found)
    if places is not None:
        return [found[name] for name in places]
    if "chosen" in found and "rejected" in found and label in ("a", "b"):
        pair = [found["chosen"], found["rejected"]]
        return pair if label == "a" else pair[::-1]
    return None


def _places(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two names that say where a response stands; None where none do."""
    return next(
        ((first, second) for first, second in _SIDES if first in found and second in found), None
    )


def number(value: Any) -> float:
    """A score as a finite number, alone or in a list of one; NaN for none. TypeError or ValueError where it is no number.

    >>> number("0.5"), number([2]), number(10**400), number(None)
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
        found = float(value)
    except OverflowError:
        found = math.inf if value > 0 else -math.inf  # an integer beyond every float
    return min(max(found, -LARGEST), LARGEST)


def _verdict(value: Any, arm: str, label: labels.Side | float) -> labels.Side:
    """The side that a verdict names; ``chosen`` and ``rejected`` where the label says which side they stand on."""
    if _by_role(value) and label in ("a", "b"):
        chosen: labels.Side = "a" if label == "a" else "b"
        return chosen if value.strip().casefold() == "chosen" else _TURNED[chosen]
    try:
        said = labels.read(value)
    except ValueError:
        said = math.nan
    if isinstance(said, float):
        raise Unreadable(
            f"verdict {chat.shown(value)!r} of {arm}, allowed: a, b, tie, A>B, model_a, chosen"
        )
    return said


def _json(value: Any) -> Any:
    """JSON text of an object or a list as what it says; everything else as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
