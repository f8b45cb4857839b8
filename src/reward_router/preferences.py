"""Rows that hold preferences, in the forms people publish, as pairs of responses with a label.

| form | columns |
|---|---|
| explicit, implicit | (prompt,) chosen, rejected; a list of texts is several responses |
| chosen_response | chosen_response, rejected_response, and others of `_NAMED_PAIRS` |
| ms-swift | messages (the last turn is the chosen one), rejected_response or rejected_messages |
| OpenAI | input.messages, preferred_output, non_preferred_output |
| two responses | response_a and response_b (or answer_0 and answer_1, ...), a label of `_LABELS` |
| lists | responses and scores; answers with a rank each: every better one against every worse one |
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from reward_router import chat, labels
from reward_router.chat import Message, Prompt, Unreadable
from reward_router.column_names import is_missing, required
from reward_router.reading import DataRow

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
    "label",
    "winner",
    "labels",
    "better_response_id",
    "overall_preference",
    "preference_strength",
    "preference",
    "better",
    "preferred",
    "choice",
    "decision",
    "verdict",
    "chosen_index",
    "chosen_idx",
    "preferred_index",
    "winner_index",
    "chosen",
    "best",
    "gold_label",
    "human_preference",
    "safer_response_id",
)
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
    "prompt",
    "question",
    "instruction",
    "query",
    "conversations",
    "conversation",
    "messages",
    "context",
    "history",
    "post",
    "problem",
    "input",
    "user",
)
_SYSTEMS = ("system", "system_prompt")


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt.

    Args:
        prompt: what both answer.
        first: one response.
        second: the other one.
        said: which is better, as a side, or as a number of the column that says it.
        column: that column; '' where the form of the row says it.
        counted_from: what the names of the responses count from, such as 1 in ``response_1``.
    """

    prompt: Prompt
    first: str
    second: str
    said: labels.Side | float = "a"
    column: str = ""
    counted_from: int | None = None


def pairs_of(
    row: DataRow, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Preference]:
    """The pairs of one row; `Unreadable` or InputError says why where none can be read.

    Args:
        row: the row as the file holds it.
        mapping: our names and the data's columns.
        preference: the column that says which is better; None: the form of the row says it.
        place: where the row stands, for messages.
    """
    chat.no_media(row)
    held = {}
    for name in row:
        if isinstance(name, str) and not is_missing(row[name]):
            held[name.casefold()] = name

    # Without our own names a row may have one of several forms; the first that fits counts.
    mapped = "chosen" in mapping or "rejected" in mapping
    has_own_names = "chosen" in row and "rejected" in row
    if not mapped and not has_own_names:
        for form in (_named_pair, _swift, _listed, _two):
            pairs = form(row, held, mapping, preference, place)
            if pairs:
                return pairs

    first = required(row, "chosen", mapping, place)
    second = required(row, "rejected", mapping, place)
    label = _Label()
    if preference is not None:
        value = required(row, "preference", {"preference": preference}, place)
        label = _Label(_said(value, preference), preference)
    return list(_paired(row, held, mapping, place, (first, second), label))


Held = Mapping[str, str]
"""The columns that hold something, by their names in lower case."""


@dataclass(frozen=True, slots=True)
class _Label:
    """Which of two responses is the better one, and where that is said: as in `Preference`."""

    said: labels.Side | float = "a"
    column: str = ""
    counted_from: int | None = None


def _named_pair(
    row: DataRow, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Preference]:
    for better, worse in _NAMED_PAIRS:
        if better not in held or worse not in held:
            continue
        label = _Label()
        if preference is not None:
            said = _said(row.get(preference), preference)
            label = _Label(said, preference)
        responses = (row[held[better]], row[held[worse]])
        return list(_paired(row, held, mapping, place, responses, label))
    return []


def _swift(
    row: DataRow, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Preference]:
    """ms-swift: the conversation with the chosen response, and the rejected one beside it."""
    worse = held.get("rejected_response") or held.get("rejected_messages")
    if "messages" not in held or worse is None:
        return []
    turns = chat.messages(row[held["messages"]], "messages")
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise Unreadable("messages must end with the assistant's turn, the chosen response")
    start = _simple(turns[:-1])
    rejected = row[worse] if _several(row[worse]) else [row[worse]]
    chosen = _reply(turns[-1])
    return [
        Preference(start, chosen, response(other, start, "rejected_response")) for other in rejected
    ]


def _two(
    row: DataRow, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Preference]:
    """Two responses by place, and a label."""
    columns = two_columns(held)
    if columns is None:
        return []
    first, second, counted_from = columns
    column = preference or label_column(row, held, (first, second))
    if column is None:
        raise Unreadable(
            f"columns {first} and {second} are there, and none that says which is better; "
            "give preference"
        )
    said: labels.Side | float
    if column == "winner_model_a" and "winner_model_a" in held and "winner_model_b" in held:
        said = one_hot(row, held)
    else:
        said = _said(required(row, column, {}, place), column)
    # SHP: its column `labels` is 1 where the first response is preferred.
    if "human_ref_a" in held and column == "labels" and isinstance(said, float):
        said = "a" if said == 1 else "b" if said == 0 else said
    label = _Label(said, column, counted_from)
    return list(_paired(row, held, mapping, place, (row[first], row[second]), label))


def two_columns(held: Held) -> tuple[str, str, int | None] | None:
    """The two columns that hold responses by their place, and what their names count from.

    None where there are no such columns.

    >>> two_columns({"response_a": "response_A", "response_b": "response_B"})
    ('response_A', 'response_B', None)
    """
    for first, second, counted_from in _ENDS:
        for stem in _STEMS:
            first_name = stem + first
            second_name = stem + second
            if first_name in held and second_name in held:
                return held[first_name], held[second_name], counted_from
    return None


def label_column(row: DataRow, held: Held, not_these: Sequence[str] = ()) -> str | None:
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


def one_hot(row: DataRow, held: Held) -> labels.Side:
    """What the columns winner_model_a, winner_model_b and winner_tie say."""
    ones = ("1", "1.0", "True", "true")
    # Read as text: CSV has no numbers, and Parquet has them of every type.
    first_wins = str(row[held["winner_model_a"]]) in ones
    second_wins = str(row[held["winner_model_b"]]) in ones
    if first_wins and second_wins:
        raise Unreadable("winner_model_a and winner_model_b are both 1")
    if first_wins:
        return "a"
    return "b" if second_wins else "tie"


def _listed(
    row: DataRow, held: Held, mapping: Mapping[str, str], preference: str | None, place: str
) -> list[Preference]:
    """Several responses with a score or a rank each."""
    lists = (
        held[name] for name in _LISTS if name in held and isinstance(row[held[name]], Sequence)
    )
    column = next(lists, None)
    # A text is a sequence of letters, and no list of responses.
    if column is None or isinstance(row[column], str):
        return []
    items = list(row[column])
    numbers = _numbers(row, held, items)
    if numbers is None:
        return []
    if len(numbers) != len(items):
        raise Unreadable(f"{column} has {len(items)} responses and {len(numbers)} scores")

    texts = [_item_text(item) for item in items]
    pairs: list[Preference] = []
    for i, j in combinations(range(len(items)), 2):
        # Compared and not subtracted: two infinite scores are a tie and have no difference.
        better, worse = (i, j) if numbers[i] > numbers[j] else (j, i)
        label = _Label("tie" if numbers[i] == numbers[j] else "a")
        responses = (texts[better], texts[worse])
        pairs += _paired(row, held, mapping, place, responses, label)
    return pairs


def _numbers(row: DataRow, held: Held, items: Sequence[Any]) -> list[float] | None:
    """A number for each item, higher is better; None where there is none."""
    names: Sequence[str]
    # A list beside the items: scores, or ranks, of which 1 is the best.
    for names, turn in ((_SCORES, 1.0), (_RANKS, -1.0)):
        for name in names:
            if name not in held:
                continue
            column = held[name]
            values = row[column]
            if isinstance(values, list | tuple):
                return [turn * _number(value, column) for value in values]

    # Or a number inside of every item.
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
        return labels.read_label(value)
    except ValueError:
        raise Unreadable(
            f"column {column!r} must be a number (below 0: the first is better) "
            f"or a label ({labels.ALLOWED}), found {chat.shown(value)!r}"
        ) from None


def _paired(
    row: DataRow,
    held: Held,
    mapping: Mapping[str, str],
    place: str,
    responses: tuple[Any, Any],
    label: _Label,
) -> Iterator[Preference]:
    """Every first against every second response, with the prompt they share."""
    first, second = responses
    combined: Iterable[tuple[Any, Any]] = [responses]
    if _several(first) or _several(second):
        combined = product(_list(first), _list(second))

    row_prompt = _given_prompt(row, held, mapping, place, first)
    for one, other in combined:
        # Conversations may begin alike: what they share belongs to the prompt.
        start, left, right = _started(row_prompt, one, other)
        yield Preference(
            start,
            response(left, start, "chosen"),
            response(right, start, "rejected"),
            label.said,
            label.column,
            label.counted_from,
        )


_NONE = object()


def _given_prompt(
    row: DataRow, held: Held, mapping: Mapping[str, str], place: str, first: Any
) -> Any:
    """What the row says the prompt is, `_NONE` where it stands before both responses."""
    if "prompt" in mapping or "prompt" in row:
        return prompt(required(row, "prompt", mapping, place), "prompt")
    input_value = row[held["input"]] if "input" in held else None
    if isinstance(input_value, Mapping) and "messages" in input_value:
        return prompt(input_value["messages"], "input.messages")
    # A conversation brings its prompt along.
    if _is_conversation(first):
        return _NONE

    others = (held[name] for name in _PROMPTS if name in held and name != "prompt")
    column = next(others, None)
    if column is None or row[column] == "":
        return _NONE
    value = row[column]
    if isinstance(value, Mapping) and isinstance(value.get("full_text"), str):
        value = value["full_text"]  # WebGPT's question

    # Alpaca's form: `input` is what the instruction is about.
    is_instruction = column.casefold() == "instruction"
    has_input = isinstance(input_value, str) and bool(input_value.strip())
    if is_instruction and has_input and isinstance(value, str):
        value = f"{value}\n{input_value}"
    return _with_system(prompt(value, column), row, held)


def _with_system(plain: Prompt, row: DataRow, held: Held) -> Prompt:
    """The prompt with the system turn that the row holds in a column of its own."""
    system = next((row[held[name]] for name in _SYSTEMS if name in held), None)
    if not isinstance(system, str) or not system.strip():
        return plain
    turns = _turns(plain)
    if turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": system}, *turns]


def _is_conversation(value: Any) -> bool:
    """Whether a response is a whole conversation, its prompt before it."""
    turns = chat.parsed(value)
    return isinstance(turns, list | tuple) and len(turns) > 1 and chat.is_messages(turns)


def _started(row_prompt: Any, first: Any, second: Any) -> tuple[Prompt, Any, Any]:
    """(prompt, what follows it on both sides)."""
    both_conversations = chat.is_messages(first) and chat.is_messages(second)
    if both_conversations:
        left = chat.messages(first, "chosen")
        right = chat.messages(second, "rejected")
        if row_prompt is _NONE:
            # TRL's implicit prompt: what both conversations begin with.
            same = _common(left, right)
            return _simple(left[:same]), left[same:], right[same:]

        start = _turns(row_prompt)
        # Whole conversations may repeat the prompt in words of their own, such as a system turn.
        both_whole = _is_whole(left, start) and _is_whole(right, start)
        if both_whole and left[:-1] == right[:-1]:
            return _simple(left[:-1]), left[-1:], right[-1:]
        return row_prompt, _after(left, start), _after(right, start)

    if row_prompt is not _NONE:
        return row_prompt, first, second
    # Two texts without a prompt: it is what they begin with, in whole words.
    if isinstance(first, str) and isinstance(second, str):
        same = _common_words(first, second)
        return first[:same], first[same:], second[same:]
    raise Unreadable("there is no prompt column, and chosen and rejected do not begin alike")


def _turns(text_or_turns: Prompt) -> list[Message]:
    if isinstance(text_or_turns, str):
        return [{"role": "user", "content": text_or_turns}]
    return [dict(turn) for turn in text_or_turns]


def _is_whole(turns: Sequence[Message], start: Sequence[Message]) -> bool:
    """Whether these turns are the prompt and one turn more."""
    return len(turns) > 1 and _ends_like(turns[:-1], start)


def _ends_like(turns: Sequence[Message], start: Sequence[Message]) -> bool:
    """Whether these turns are the prompt, perhaps behind a system turn that the prompt left out."""
    one_more = len(turns) == len(start) + 1
    has_system = one_more and turns[0]["role"] == "system"
    rest = turns[1:] if has_system else turns
    if len(rest) != len(start):
        return False
    return all(map(_same_turn, rest, start))


def _same_turn(one: Message, other: Message) -> bool:
    same_role = bool(one["role"] == other["role"])
    return same_role and bool(one["content"].strip() == other["content"].strip())


def _after(turns: list[Message], start: Sequence[Message]) -> list[Message]:
    """The turns behind the prompt; all of them where they do not begin with it."""
    if len(turns) > len(start) and _ends_like(turns[: len(start)], start):
        return turns[len(start) :]
    return turns


def _common(left: Sequence[Message], right: Sequence[Message]) -> int:
    """How many turns both begin with.

    At least one turn is left on both sides, so that equal conversations are still a pair.
    """
    # The last turn of the shorter one is its response, whatever the other says there.
    most = min(len(left), len(right)) - 1
    return next((i for i in range(most) if left[i] != right[i]), most)


def _common_words(first: str, second: str) -> int:
    """How many characters both begin with, whole words."""
    shorter = min(len(first), len(second))
    differing = (i for i in range(shorter) if first[i] != second[i])
    same = next(differing, shorter)

    # Back to the last space, because the two may differ in the middle of a word.
    backwards = range(same - 1, -1, -1)
    spaces = (i for i in backwards if first[i].isspace())
    return next(spaces, 0)


def prompt(value: Any, what: str) -> Prompt:
    """A prompt as text, or as messages where it is more than one user's turn.

    `Unreadable` where it is neither.
    """
    text_or_turns = chat.parsed(value)
    if isinstance(text_or_turns, str):
        return text_or_turns
    return _simple(chat.messages(text_or_turns, what))


def _simple(turns: list[Message]) -> Prompt:
    plain = len(turns) == 1 and turns[0]["role"] == "user" and set(turns[0]) == {"role", "content"}
    return str(turns[0]["content"]) if plain else turns


def response(value: Any, start: Prompt, what: str) -> str:
    """A response as text, a `chat.Reply` where it holds tool calls.

    `Unreadable` where it is not one turn of the assistant.
    """
    found = chat.parsed(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise Unreadable(f"{what} is {found}, which is no text")
    if isinstance(found, str | bool | int | float):
        return (
            str(found) if not isinstance(found, str) else found
        )  # "True" and "42" are answers that JSON makes values
    if _is_parts(found):
        return chat.content_text(found, what)
    # A response may be a whole conversation: what the prompt says already is taken off.
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


def ground_truth(row: DataRow) -> Any:
    """verl's answer: ``reward_model.ground_truth``; None where there is none."""
    holder = row.get("reward_model")
    if isinstance(holder, str):
        try:
            holder = json.loads(holder)
        except (ValueError, RecursionError):
            return None
    return holder.get("ground_truth") if isinstance(holder, Mapping) else None
