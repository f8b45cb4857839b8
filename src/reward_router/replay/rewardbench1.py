"""RewardBench 1 outputs of several models (``<model>_outputs.jsonl``, one JSON object a line) joined item by item.

A line holds prompt, scores_chosen, scores_rejected, text_chosen, text_rejected and the data set's own columns: subset and id in the
core set, chosen and rejected (the bare answers) nearly always. ``prompt`` and ``text_*`` went through the model's own chat template,
so they differ from model to model and cannot say which item a line is. An item is the same in two files where id and subset agree;
without an id, where the bare answers agree; without those, where the line number does, and then all files must be equally long.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from reward_router.errors import InputError
from reward_router.replay import reading

Json = dict[str, Any]
Problem = tuple[str, str]
_NEEDED = {"scores_chosen", "scores_rejected"}


def joined(files: Mapping[str, str]) -> tuple[dict[str, Json], list[Problem]]:
    """({item: row as in our own files}, [(where, what is broken)]) of ``files``, arm -> path. O(lines), all items are held.

    ``InputError`` where lines can be told apart by nothing but their number and the files are of different lengths.
    """
    items: dict[str, Json] = {}
    problems: list[Problem] = []
    lengths: dict[str, int] = {}
    for arm, source in files.items():
        for key, row in _keyed(source, lengths, problems):
            pair = [_number(row["scores_chosen"]), _number(row["scores_rejected"])]
            if key not in items:
                items[key] = _item(row, key)
            items[key]["scores"][arm] = _sided(pair, items[key]["label"])
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {n} lines" for name, n in lengths.items())
        raise InputError(f"{counts} without id or chosen and rejected: lines cannot be joined by their number")
    return items, problems


def _keyed(source: str, lengths: dict[str, int], problems: list[Problem]) -> Iterator[tuple[str, Json]]:
    """(item, line) of one file; what is broken goes to ``problems``, the number of lines known by their number alone to ``lengths``."""
    seen: dict[str, int] = {}
    for number, (where, row) in enumerate(reading.rows(source), 1):
        why = _broken(row)
        key = None if isinstance(row, str) else _key(row)
        if key is None:
            name = reading.short_name(source)
            lengths[name] = lengths.get(name, 0) + 1
        if why is not None:
            problems.append((where, why))
            continue
        key = key or f"line {number}"
        seen[key] = seen.get(key, 0) + 1
        yield key if seen[key] == 1 else f"{key}#{seen[key]}", row


def _broken(row: Any) -> str | None:
    if isinstance(row, str):
        return row
    if not isinstance(row, Mapping) or not set(row) >= _NEEDED:
        return "no scores_chosen and scores_rejected"
    for name in sorted(_NEEDED):
        if _number(row[name]) is None:
            return f"{name} is {row[name]!r}, allowed: a number"
    return None


def _key(row: Any) -> str | None:
    if not isinstance(row, Mapping):
        return None
    if row.get("id") is not None:
        return f"{row.get('subset', '')}:{row['id']}"
    if row.get("chosen") is not None and row.get("rejected") is not None:
        bare = json.dumps([row["chosen"], row["rejected"]], sort_keys=True)
        return hashlib.blake2b(bare.encode(), digest_size=12).hexdigest()
    return None


def _item(row: Mapping[str, Any], key: str) -> Json:
    label = side(key)
    texts = [
        text(row[bare] if row.get(bare) is not None else row.get(f"text_{bare}")) for bare in ("chosen", "rejected")
    ]
    first, second = _sided(texts, label)
    about = {"id": key, "prompt": text(row.get("prompt")), "category": row.get("subset")}
    return {**about, "label": label, "response_a": first, "response_b": second, "scores": {}}


def side(name: str) -> str:
    """Where the better response stands: a fixed coin of the item's name, so that no position can be learned."""
    return "ab"[hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1]


def _sided(pair: list[Any], label: str) -> list[Any]:
    return pair if label == "a" else pair[::-1]


def text(value: Any) -> str | None:
    """A prompt or an answer as text; a list of chat messages is joined.

    >>> text([{"role": "user", "content": "Why?"}])
    'Why?'
    """
    if isinstance(value, list):
        return "\n".join(str(m.get("content", "")) if isinstance(m, Mapping) else str(m) for m in value)
    return value if value is None else str(value)


def _number(score: Any) -> float | None:
    """A score, alone or in a list of one (some reward models write it so); None where it is no number."""
    value = score[0] if isinstance(score, list) and len(score) == 1 else score
    return float(value) if isinstance(value, int | float) and value == value else None
