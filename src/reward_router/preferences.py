"""Rows that hold preferences, in the forms people publish, as pairs of responses and what is said of them.

| form | columns |
|---|---|
| explicit, implicit | (prompt,) chosen, rejected; a list of texts is several responses |
| chosen_response | chosen_response, rejected_response, and others of `_NAMED_PAIRS` |
| ms-swift | messages (the last turn is the chosen one), rejected_response or rejected_messages |
| OpenAI | input.messages, preferred_output, non_preferred_output |
| two responses | response_a and response_b (answer_0 and answer_1, human_ref_A and human_ref_B, ...), and a label of `_LABELS` |
| lists | responses and scores; answers with a rank each: every better one against every worse one |
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from reward_router import chat, labels
from reward_router.chat import Message, Unreadable
from reward_router.column_names import is_missing, required
from reward_router.reading import Row

Prompt = str | list[Message]

_NAMED_PAIRS = (
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_text", "rejected_text"),
    ("text_chosen", "text_rejected"),
    ("chosen_output", "rejected_output"),
    ("chosen_answer", "rejected_answer"),
    ("preferred_output", "non_preferred_output"),
    ("preferred_response", "non_preferred_response"),
    ("preferred_response", "dispreferred_response"),
    ("preferred", "dispreferred"),
    ("response_j", "response_k"),
    ("win", "lose"),
    ("good", "bad"),
    ("pos", "neg"),
)
_STEMS = (
    "response",
    "answer",
    "output",
    "completion",
    "conversation",
    "generation",
    "summary",
    "text",
    "candidate",
    "human_ref",
)
_ENDS = (
    ("_a", "_b", None),
    ("_0", "_1", 0),
    ("_1", "_2", 1),
    ("1", "2", 1),
    ("0", "1", 0),
    ("a", "b", None),
)
_LABELS = (
    "label", "winner", "labels", "better_response_id", "overall_preference", "preference_strength", "preference", "better",
    "preferred", "choice", "decision", "verdict", "chosen_index", "chosen_idx", "preferred_index", "winner_index", "chosen",
    "best", "gold_label", "human_preference", "safer_response_id",
)  # fmt: skip
_LISTS = ("responses", "completions", "answers", "generations", "outputs", "candidates")
_SCORES = ("scores", "ratings", "rewards", "rating", "score", "overall_scores")
_RANKS = ("ranks", "rank", "ranking")
_ITEM_TEXTS = (
    "response",
    "answer",
    "text",
    "completion",
    "output",
    "content",
    "generation",
    "message",
)
_ITEM_SCORES = ("overall_score", "score", "rating", "reward", "fine-grained_score")
_PROMPTS = (
    "prompt", "question", "instruction", "query", "conversations", "conversation", "messages", "context", "history", "post",
    "problem", "input", "user",
)  # fmt: skip
_SYSTEMS = ("system", "system_prompt")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt; ``said`` is which is better, as a side or as a number of the column ``column``."""

    prompt: Prompt
    first: str
    second: str
    said: labels.Side | float = "a"
    column: str = ""
    counted_from: int | None = None


def pairs_of(
    row: Row, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Pair]:
    """The pairs of one row. `Unreadable` or InputError where it holds none that can be read, saying why.

    ``mapping``: our name -> the data's column. ``preference``: a column that says which is better.
    """
    chat.no_media(row)
    held = {
        name.casefold(): name for name in row if isinstance(name, str) and not is_missing(row[name])
    }
    mapped = "chosen" in mapping or "rejected" in mapping
    if not mapped and not ("chosen" in row and "rejected" in row):
        for form in (_named_pair, _swift, _listed, _two):
            found = form(row, held, mapping, preference, place)
            if found:
                return found
    first, second = (required(row, name, mapping, place) for name in ("chosen", "rejected"))
    said = (
        "a"
        if preference is None
        else _said(required(row, "preference", {"preference": preference}, place), preference)
    )
    return list(_paired(row, held, mapping, place, first, second, said, preference or ""))


Held = Mapping[str, str]


def _named_pair(
    row: Row, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Pair]:
    for better, worse in _NAMED_PAIRS:
        if better in held and worse in held:
            said = "a" if preference is None else _said(row.get(preference), preference)
            pair = row[held[better]], row[held[worse]]
            return list(_paired(row, held, mapping, place, *pair, said, preference or ""))
    return []


def _swift(
    row: Row, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Pair]:
    """ms-swift: the conversation with the chosen response, and the rejected one beside it."""
    worse = held.get("rejected_response") or held.get("rejected_messages")
    if "messages" not in held or worse is None:
        return []
    turns = chat.messages(row[held["messages"]], "messages")
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise Unreadable("messages must end with the assistant's turn, the chosen response")
    start = _simple(turns[:-1])
    rejected = row[worse]
    several = rejected if _several(rejected) else [rejected]
    return [
        Pair(start, _reply(turns[-1]), response(r, start, "rejected_response")) for r in several
    ]


def _two(
    row: Row, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Pair]:
    """Two responses by place, and a label."""
    found = two_columns(held)
    if found is None:
        return []
    first, second, counted_from = found
    column = preference or label_column(row, held, (first, second))
    if column is None:
        raise Unreadable(
            f"columns {first} and {second} are there, and none that says which is better; give preference"
        )
    said: labels.Side | float
    hot = column == "winner_model_a" and "winner_model_a" in held and "winner_model_b" in held
    said = one_hot(row, held) if hot else _said(required(row, column, {}, place), column)
    if "human_ref_a" in held and column == "labels" and isinstance(said, float):
        said = "a" if said == 1 else "b" if said == 0 else said
    return list(
        _paired(row, held, mapping, place, row[first], row[second], said, column, counted_from)
    )


def two_columns(held: Held) -> tuple[str, str, int | None] | None:
    """The two columns that hold responses by their place, and what their numbers count from; None where there are none.

    >>> two_columns({"response_a": "response_A", "response_b": "response_B"})
    ('response_A', 'response_B', None)
    """
    for first, second, counted_from in _ENDS:
        for stem in _STEMS:
            if stem + first in held and stem + second in held:
                return held[stem + first], held[stem + second], counted_from
    return None


def label_column(row: Row, held: Held, not_these: Sequence[str] = ()) -> str | None:
    """The column that says which of two responses is better; None where none is known.

    >>> label_column({"Winner": "model_a"}, {"winner": "Winner"})
    'Winner'
    """
    for name in _LABELS:
        column = held.get(name)
        beside = name == "chosen" and "rejected" in held  # then it is a response, not a label
        if column is not None and column not in not_these and not beside:
            return column
    return "winner_model_a" if "winner_model_a" in held and "winner_model_b" in held else None


def one_hot(row: Row, held: Held) -> labels.Side:
    """What the columns winner_model_a, winner_model_b and winner_tie say."""
    a, b = (
        str(row[held[name]]) in ("1", "1.0", "True", "true")
        for name in ("winner_model_a", "winner_model_b")
    )
    if a and b:
        raise Unreadable("winner_model_a and winner_model_b are both 1")
    return "a" if a else "b" if b else "tie"


def _listed(
    row: Row, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Pair]:
    """Several responses with a score or a rank each."""
    column = next(
        (held[name] for name in _LISTS if name in held and isinstance(row[held[name]], Sequence)),
        None,
    )
    if column is None or isinstance(row[column], str):
        return []
    items = list(row[column])
    numbers = _numbers(row, held, items)
    if numbers is None:
        return []
    if len(numbers) != len(items):
        raise Unreadable(f"{column} has {len(items)} responses and {len(numbers)} scores")
    texts = [_item_text(item) for item in items]
    found: list[Pair] = []
    for i, j in combinations(range(len(items)), 2):
        # compared, not subtracted: two infinite scores are a tie and have no difference
        better, worse = (i, j) if numbers[i] > numbers[j] else (j, i)
        said: labels.Side = "tie" if numbers[i] == numbers[j] else "a"
        found += _paired(row, held, mapping, place, texts[better], texts[worse], said, "")
    return found


def _numbers(row: Row, held: Held, items: Sequence[Any]) -> list[float] | None:
    """A number for each item, higher is better; None where there is none."""
    names: Sequence[str]
    for names, turn in ((_SCORES, 1.0), (_RANKS, -1.0)):
        for name in names:
            if name in held and isinstance(row[held[name]], list | tuple):
                return [turn * _number(value, held[name]) for value in row[held[name]]]
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    for names, turn in ((_ITEM_SCORES, 1.0), (_RANKS, -1.0)):
        for name in names:
            if all(item.get(name) is not None for item in items):
                return [turn * _number(item[name], name) for item in items]
    return None


def _item_text(item: Any) -> Any:
    if isinstance(item, Mapping) and not chat.is_messages(item):
        return next((item[name] for name in _ITEM_TEXTS if item.get(name) is not None), None)
    return item


def _number(value: Any, column: str) -> float:
    try:
        found = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if found != found:
        raise Unreadable(f"{column} must be numbers, found {chat.shown(value)!r}")
    return found


def _said(value: Any, column: str) -> labels.Side | float:
    try:
        if isinstance(value, bool):
            return labels.Truth(value)  # what true says is open, and asked of the column as a whole
        return labels.read(value)
    except ValueError:
        raise Unreadable(
            f"column {column!r} must be a number (below 0: the first is better) or a label ({labels.ALLOWED}), "
            f"found {chat.shown(value)!r}"
        ) from None


def _paired(
    row: Row, held: Held, mapping: Mapping[str, str], place: str, first: Any, second: Any,
    said: labels.Side | float, column: str, counted_from: int | None = None,
) -> Iterator[Pair]:  # fmt: skip
    """Every first against every second response, with the prompt they share."""
    several = _several(first) or _several(second)
    firsts, seconds = _list(first), _list(second)
    given = _given_prompt(row, held, mapping, place, first)
    for one, other in product(firsts, seconds) if several else [(first, second)]:
        start, left, right = _started(given, one, other)
        better, worse = response(left, start, "chosen"), response(right, start, "rejected")
        yield Pair(start, better, worse, said, column, counted_from)


_NONE = object()


def _given_prompt(row: Row, held: Held, mapping: Mapping[str, str], place: str, first: Any) -> Any:
    """What the row says the prompt is, `_NONE` where it stands before both responses."""
    if "prompt" in mapping or "prompt" in row:
        return prompt(required(row, "prompt", mapping, place), "prompt")
    if (
        "input" in held
        and isinstance(row[held["input"]], Mapping)
        and "messages" in row[held["input"]]
    ):
        return prompt(row[held["input"]]["messages"], "input.messages")
    if _is_conversation(first):
        return _NONE
    column = next(
        (held[name] for name in _PROMPTS if name in held and name not in ("prompt",)), None
    )
    if column is None or row[column] == "":
        return _NONE
    value = row[column]
    if isinstance(value, Mapping) and isinstance(value.get("full_text"), str):
        value = value["full_text"]  # WebGPT's question
    extra = row[held["input"]] if column.casefold() == "instruction" and "input" in held else None
    if isinstance(value, str) and isinstance(extra, str) and extra.strip():
        value = f"{value}\n{extra}"
    return _with_system(prompt(value, column), row, held)


def _with_system(found: Prompt, row: Row, held: Held) -> Prompt:
    system = next((row[held[name]] for name in _SYSTEMS if name in held), None)
    if not isinstance(system, str) or not system.strip():
        return found
    turns = [{"role": "user", "content": found}] if isinstance(found, str) else found
    return (
        turns if turns[0]["role"] == "system" else [{"role": "system", "content": system}, *turns]
    )


def _is_conversation(value: Any) -> bool:
    """Whether a response is a whole conversation, its prompt before it."""
    found = chat.parsed(value)
    return isinstance(found, list | tuple) and len(found) > 1 and chat.is_messages(found)


def _started(given: Any, first: Any, second: Any) -> tuple[Prompt, Any, Any]:
    """(prompt, what follows it on both sides)."""
    if chat.is_messages(first) and chat.is_messages(second):
        left, right = chat.messages(first, "chosen"), chat.messages(second, "rejected")
        if given is _NONE:
            same = _common(left, right)
            return _simple(left[:same]), left[same:], right[same:]
        start = _turns(given)
        whole = [t for t in (left, right) if len(t) > 1 and _ends_like(t[:-1], start)]
        if len(whole) == 2 and left[:-1] == right[:-1]:
            return _simple(left[:-1]), left[-1:], right[-1:]
        return given, _after(left, start), _after(right, start)
    if given is not _NONE:
        return given, first, second
    if isinstance(first, str) and isinstance(second, str):
        same = _common_words(first, second)
        return first[:same], first[same:], second[same:]
    raise Unreadable("there is no prompt column, and chosen and rejected do not begin alike")


def _turns(found: Prompt) -> list[Message]:
    return [{"role": "user", "content": found}] if isinstance(found, str) else found


def _ends_like(turns: Sequence[Message], start: Sequence[Message]) -> bool:
    """Whether a conversation's beginning is the prompt, perhaps with a system turn before it that the prompt left out."""
    rest = turns[1:] if len(turns) == len(start) + 1 and turns[0]["role"] == "system" else turns
    return len(rest) == len(start) and all(
        a["role"] == b["role"] and a["content"].strip() == b["content"].strip()
        for a, b in zip(rest, start, strict=True)
    )


def _after(turns: list[Message], start: Sequence[Message]) -> list[Message]:
    return (
        turns[len(start) :]
        if len(turns) > len(start) and _ends_like(turns[: len(start)], start)
        else turns
    )


def _common(left: Sequence[Message], right: Sequence[Message]) -> int:
    """How many turns both begin with; at least one turn is left on both sides, so that equal ones are still a pair."""
    most = min(len(left), len(right)) - 1
    return next((i for i in range(most) if left[i] != right[i]), most)


def _common_words(first: str, second: str) -> int:
    """How many characters both begin with, whole words."""
    signs = enumerate(zip(first, second, strict=False))
    same = next((i for i, (a, b) in signs if a != b), min(len(first), len(second)))
    return next((i for i in range(same - 1, -1, -1) if first[i].isspace()), 0)


def prompt(value: Any, what: str) -> Prompt:
    """A prompt as text, or as messages where it is more than one user's turn; `Unreadable` where it is neither."""
    found = chat.parsed(value)
    if isinstance(found, str):
        return found
    return _simple(chat.messages(found, what))


def _simple(turns: list[Message]) -> Prompt:
    plain = len(turns) == 1 and turns[0]["role"] == "user" and set(turns[0]) == {"role", "content"}
    return str(turns[0]["content"]) if plain else turns


def response(value: Any, start: Prompt, what: str) -> str:
    """A response as text, a `chat.Reply` where it holds tool calls; `Unreadable` where it is not one assistant's turn."""
    found = chat.parsed(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise Unreadable(f"{what} is {found}, which is no text")
    if isinstance(found, str | bool | int | float):
        return (
            str(found) if not isinstance(found, str) else found
        )  # "True" and "42" are answers that JSON makes values
    if _is_parts(found):
        return chat.content_text(found, what)
    turns = _after(chat.messages(found, what), _turns(start))
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise Unreadable(
            f"{what} must be one assistant turn after the prompt, found {len(turns)} turns"
        )
    return _reply(turns[0])


def _is_parts(value: Any) -> bool:
    """Content parts, or one object with a text, in the place of a message."""
    parts = value if isinstance(value, list | tuple) else [value]
    return bool(parts) and all(
        isinstance(part, Mapping)
        and "role" not in part
        and "from" not in part
        and ("type" in part or "text" in part)
        for part in parts
    )


def _reply(turn: Message) -> str:
    return chat.Reply(turn) if turn.get("tool_calls") else str(turn["content"])


def _several(value: Any) -> bool:
    """A list of texts or of conversations: several responses, not messages."""
    return isinstance(value, list | tuple) and any(
        isinstance(item, str | list | tuple) for item in value
    )


def _list(value: Any) -> Sequence[Any]:
    return value if _several(value) else [value]


def ground_truth(row: Row) -> Any:
    """verl's answer: ``reward_model.ground_truth``; None where there is none."""
    holder = row.get("reward_model")
    if isinstance(holder, str):
        try:
            holder = json.loads(holder)
        except (ValueError, RecursionError):
            return None
    return holder.get("ground_truth") if isinstance(holder, Mapping) else None
