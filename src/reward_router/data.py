"""Prompts and preferences as records, from files or the Hub, with column mapping and a prompt template.

A prompt is text or a list of messages; a single user message becomes its text. TRL's column names are accepted as they are
(``prompt``, ``chosen``, ``rejected``, implicit prompts too); any other column is reached by mapping. Left out: images, tools.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from reward_router import keyed
from reward_router.columns import check_mapping, fill, optional, required, template_fields
from reward_router.errors import InputError
from reward_router.rows import Row, read_rows

Prompt = str | list[dict[str, str]]

_ROLES = ("system", "user", "assistant", "tool")
_FOLD = re.compile(r"(?P<split>.+)#(?P<low>\d+(?:\.\d+)?):(?P<high>\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt: ``answer`` is what gold is computed from, None where there is none; ``category`` may be empty."""

    id: str
    prompt: Prompt
    category: str = ""
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class PreferenceRecord:
    """One preference: ``chosen`` is better than ``rejected`` as a response to ``prompt``."""

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    source: str = ""
    category: str = ""


Record = TypeVar("Record", PromptRecord, PreferenceRecord)


def load_prompts(
    path_or_name: str,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    template: str | None = None,
    limit: int | None = None,
    config_name: str | None = None,
    categories: Sequence[str] | None = None,
) -> list[PromptRecord]:
    """Prompts of a JSONL(.gz) or Parquet file or a Hub data set, in order.

    ``columns`` maps our names (id, prompt, category, answer) to the data's; a path such as ``conversation.0.content`` reaches
    into lists and objects. ``template`` is a text with ``{column}`` fields (ours or the data's; ``{{`` is a brace); a list
    fills in as lettered choices, one a line. Of a multi-turn prompt it wraps the last user turn. ``split`` as in `read_rows`,
    and ``NAME#A:B`` keeps the rows whose prompt hashes into percent A to B: a stable random split, a prompt never on both
    sides. ``categories`` keeps these only; ``limit`` then keeps the first so many. Ids not given are hashes of the prompt.
    Raises InputError naming file, line and the columns there are; also for an empty result or an id given twice. O(rows).
    """
    mapping = check_mapping(columns, ("id", "prompt", "category", "answer"))
    fields = template_fields(template)

    def make(place: str, row: Row) -> list[PromptRecord]:
        prompt: Prompt = ""
        if template is None or "prompt" in fields:
            prompt = _prompt(required(row, "prompt", mapping, place), place)
        if template is not None:
            prompt = _wrapped(prompt, lambda text: fill(template, row, mapping, text, place), place)
        name, category, answer = (optional(row, what, mapping, place) for what in ("id", "category", "answer"))
        return [PromptRecord(name or "", _checked(prompt, place), category or "", answer)]

    return _load(path_or_name, split, config_name, make, categories, limit)


def load_preferences(
    path_or_name: str,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    config_name: str | None = None,
    categories: Sequence[str] | None = None,
    preference: str | None = None,
) -> list[PreferenceRecord]:
    """Preference pairs {prompt, chosen, rejected, source?, category?, id?}, from the same places as `load_prompts`.

    ``chosen`` and ``rejected`` are texts or message lists that end in one assistant turn. Without a prompt column the prompt is
    what both have in common at their start (TRL's implicit prompt). A list of texts is several responses: every chosen is paired
    with every rejected. ``preference`` names a column of signed numbers: below 0 ``chosen`` is the better one, above 0 ``rejected``,
    0 is a tie and left out. Options and errors as in `load_prompts`. O(rows).
    """
    mapping = check_mapping(columns, ("id", "prompt", "chosen", "rejected", "source", "category"))
    if preference is not None:
        mapping["preference"] = preference

    def make(place: str, row: Row) -> list[PreferenceRecord]:
        chosen, rejected = (required(row, what, mapping, place) for what in ("chosen", "rejected"))
        if preference is not None:
            sign = _number(required(row, "preference", mapping, place), preference, place)
            if sign == 0:
                return []
            chosen, rejected = (rejected, chosen) if sign > 0 else (chosen, rejected)
        if _several(chosen) or _several(rejected):
            return [
                r
                for better, worse in product(*map(_listed, (chosen, rejected)))
                for r in pair(place, row, better, worse)
            ]
        return pair(place, row, chosen, rejected)

    def pair(place: str, row: Row, chosen: Any, rejected: Any) -> list[PreferenceRecord]:
        if "prompt" in mapping or "prompt" in row:
            start = required(row, "prompt", mapping, place)
        else:
            start = _common_start(chosen, rejected)
            chosen, rejected = chosen[len(start) :], rejected[len(start) :]
        better, worse = _response(chosen, start, "chosen", place), _response(rejected, start, "rejected", place)
        name, source, category = (optional(row, what, mapping, place) or "" for what in ("id", "source", "category"))
        return [PreferenceRecord(name, _checked(_prompt(start, place), place), better, worse, source, category)]

    return _load(path_or_name, split, config_name, make, categories, limit)


def _load(
    source: str,
    split: str,
    config_name: str | None,
    make: Callable[[str, Row], list[Record]],
    categories: Sequence[str] | None,
    limit: int | None,
) -> list[Record]:
    if limit is not None and limit < 1:
        raise InputError(f"data limit={limit}: at least 1, or none for all")
    name, low, high = _fold(split)
    records: list[Record] = []
    first_at: dict[str, str] = {}
    seen: set[str] = set()
    for place, row in read_rows(source, name, config_name):
        for record in _numbered(make(place, row)):
            seen.add(record.category)
            wanted = categories is None or record.category in categories
            if wanted and low <= 100 * keyed.uniform(0, "data", 0, _digest(record.prompt)) < high:
                records.append(_named(record, first_at, place))
        if limit is not None and len(records) >= limit:
            del records[limit:]
            break
    if not records:
        why = f"; categories there are: {', '.join(sorted(seen))}" if categories and seen else ""
        raise InputError(f"data {source}, split {split!r}: no rows{why}")
    return records


def _numbered(records: list[Record]) -> list[Record]:
    """Several pairs of one row share its id, each with its number behind it."""
    if len(records) < 2:
        return records
    return [replace(r, id=f"{r.id}-{i}") if r.id else r for i, r in enumerate(records, start=1)]


def _several(value: Any) -> bool:
    """A list of texts: several responses, not messages."""
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, str) for v in value)


def _listed(value: Any) -> Sequence[Any]:
    return value if _several(value) else [value]


def _number(value: Any, column: str, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"data {place}: column {column!r} must be a number (below 0: chosen is better), found {value!r}"
        ) from None


def _named(record: Record, first_at: dict[str, str], place: str) -> Record:
    """The record with a unique id: its own, else its content's hash, numbered from the second time on."""
    if record.id in first_at:
        raise InputError(f"data {place}: id {record.id!r} was given before, at {first_at[record.id]}; ids are unique")
    if not record.id:
        digest = name = _digest(record)
        count = 1
        while name in first_at:
            count += 1
            name = f"{digest}-{count}"
        record = replace(record, id=name)
    first_at[record.id] = place
    return record


def _digest(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()


def _fold(split: str) -> tuple[str, float, float]:
    found = _FOLD.fullmatch(split)
    if found is None:
        return split, 0.0, 100.0
    low, high = float(found["low"]), float(found["high"])
    if not low < high <= 100:
        raise InputError(f"data split {split!r}: write NAME#A:B with 0 <= A < B <= 100 percent")
    return found["split"], low, high


def _prompt(value: Any, place: str) -> Prompt:
    if isinstance(value, str):
        return value
    turns = _messages(value, "prompt", place)
    return turns[0]["content"] if len(turns) == 1 and turns[0]["role"] == "user" else turns


def _checked(prompt: Prompt, place: str) -> Prompt:
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise InputError(
            f"data {place}: the prompt ends with an assistant turn; it must end with the user's or a tool's"
        )
    if not (prompt if isinstance(prompt, str) else prompt[-1]["content"]).strip():
        raise InputError(f"data {place}: the prompt is empty")
    return prompt


def _wrapped(prompt: Prompt, wrap: Callable[[str], str], place: str) -> Prompt:
    """The prompt with its text, or its last user turn, passed through ``wrap``."""
    if isinstance(prompt, str):
        return wrap(prompt)
    last = max((i for i, turn in enumerate(prompt) if turn["role"] == "user"), default=None)
    if last is None:
        raise InputError(f"data {place}: the template wraps the last user turn, and the prompt has none")
    return [turn | {"content": wrap(turn["content"])} if i == last else turn for i, turn in enumerate(prompt)]


def _messages(value: Any, what: str, place: str) -> list[dict[str, str]]:
    shape = f"a text or a list of {{role: {'|'.join(_ROLES)}, content: text}}"
    if not isinstance(value, Sequence) or not value:
        raise InputError(f"data {place}: {what} must be {shape}, found {str(value)[:60]!r}")
    turns = []
    for turn in value:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        if role not in _ROLES or not isinstance(content, str):
            raise InputError(f"data {place}: {what} must be {shape}, found the turn {str(turn)[:60]!r}")
        turns.append({"role": str(role), "content": content})
    return turns


def _response(value: Any, start: Any, what: str, place: str) -> str:
    if isinstance(value, str | bool | int | float):
        return str(value)  # "True" and "42" are answers that some writers of JSON turn into values
    turns = _messages(value, what, place)
    if not isinstance(start, str) and turns[: len(start)] == _messages(start, "prompt", place):
        turns = turns[len(start) :]  # the whole conversation was given
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise InputError(f"data {place}: {what} must be one assistant turn after the prompt, found {len(turns)} turns")
    return turns[0]["content"]


def _common_start(chosen: Any, rejected: Any) -> Any:
    """What both start with: whole turns of messages, whole words of texts."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    if isinstance(chosen, str):
        space = re.search(r"\s\S*$", chosen[:same])
        same = space.start() if space else 0
    return chosen[:same]
