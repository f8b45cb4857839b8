"""RewardBench 1 results of several models joined item by item.

They are lines, or the leaderboard's one JSON of columns. A row holds prompt, scores_chosen,
scores_rejected, text_chosen, text_rejected and the data set's own columns: subset and id in the
core set, chosen and rejected (the bare answers) nearly always. A generative judge has ``results``
(1 right, 0 wrong, 0.5 a tie) in the place of scores; ``rewardbench --save_all`` writes nothing but
the two numbers, as chosen and rejected.

``prompt`` and ``text_*`` went through the model's own chat template, so they differ from model to
model and cannot say which item a row is. An item is the same in two files where id and subset
agree; without an id, where the bare answers agree; without those, where the row's number does, and
then all files must be equally long.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from reward_router.chat import shown
from reward_router.errors import InputError
from reward_router.replay import reading
from reward_router.replay.fields import score_number, side

Json = dict[str, Any]
_NEEDED = {"scores_chosen", "scores_rejected"}
_ABOUT = {"model", "model_type", "chat_template", "ref_model", "tokenizer"}


def is_verdict(row: Mapping[str, Any]) -> bool:
    """Whether a row is a generative judge's.

    It has a result, and the texts or the data set's columns, but no scores.
    """
    has_texts = "text_chosen" in row or ("chosen" in row and "rejected" in row)
    has_scores = "scores" in row or not _NEEDED.isdisjoint(row)
    # A row with num_correct is RewardBench 2's.
    is_second = "num_correct" in row
    return "results" in row and has_texts and not has_scores and not is_second


def is_bare(row: Mapping[str, Any]) -> bool:
    """Whether a row is the pair of numbers that ``--save_all`` writes.

    >>> is_bare({"chosen": 1.5, "rejected": -0.5}), is_bare({"chosen": "yes", "rejected": "no"})
    (True, False)
    """
    named = set(row) == {"chosen", "rejected"}
    return named and all(_number(score) is not None for score in row.values())


def is_summary(row: Mapping[str, Any]) -> bool:
    """Whether a row is the leaderboard's summary of a model: nothing but a number a subset.

    >>> is_summary({"model": "m", "alpacaeval-easy": 0.9, "math-prm": 0.5})
    True
    """
    figures = [value for name, value in row.items() if name not in _ABOUT]
    numbers = len(figures) > 0 and all(isinstance(value, float) for value in figures)
    return "model" in row and numbers


def credit_of(result: Any) -> float | None:
    """What a generative judge's result says: 1 right, 0 wrong, anything between a tie (1/2).

    None where it is no result.
    """
    value = float(result) if isinstance(result, bool) else _number(result)
    if value is None or not 0 <= value <= 1:
        return None
    return value if value in (0.0, 1.0) else 0.5


def join_files(files: Mapping[str, str]) -> tuple[dict[str, Json], list[reading.BadRow], int]:
    """({item: row as in our own files}, problems, rows read) of ``files``, arm -> path. O(rows).

    All rows are held. ``InputError`` where rows can be told apart by nothing but their number and
    the files are of different lengths.
    """
    items: dict[str, Json] = {}
    problems: list[reading.BadRow] = []
    lengths: dict[str, int] = {}
    read = 0
    for arm, source in files.items():
        for key, row, pair in _keyed(source, lengths, problems):
            read += 1
            if key not in items:
                items[key] = _item(row, key)
            items[key]["scores"][arm] = _sided(pair, items[key]["label"])
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {n} lines" for name, n in lengths.items())
        raise InputError(
            f"{counts} without id or chosen and rejected: lines cannot be joined by their number"
        )
    return items, problems, read + len(problems)


def _keyed(
    source: str, lengths: dict[str, int], problems: list[reading.BadRow]
) -> Iterator[tuple[str, Json, tuple[float, float]]]:
    """(item, row, [score of chosen, of rejected]) of one file; what is broken goes to ``problems``.

    The number of rows that are known by their number alone goes to ``lengths``.
    """
    seen: Counter[str] = Counter()
    for count, (where, row) in enumerate(reading.rows(source), 1):
        pair = row if isinstance(row, str) else _pair(row)
        key = None if isinstance(row, str) else _key(row)
        if key is None:
            name = reading.short_name(source)
            lengths[name] = lengths.get(name, 0) + 1
            key = f"line {count}"
        # A broken row counts: the next of its name is the second in every file.
        seen[key] += 1
        if isinstance(pair, str):
            problems.append((where, pair))
            continue
        yield key if seen[key] == 1 else f"{key}#{seen[key]}", row, pair


def _pair(row: Mapping[str, Any]) -> tuple[float, float] | str:
    """Scores of chosen and rejected, a judge's result as 1 and 0; or what is broken."""
    names = ("chosen", "rejected") if is_bare(row) else ("scores_chosen", "scores_rejected")
    if not set(row) >= set(names):
        credit = credit_of(row.get("results"))
        if credit is None:
            return "no scores_chosen and scores_rejected, and no results between 0 and 1"
        return credit, 1 - credit
    scores = [_number(row[name]) for name in names]
    for name, score in zip(names, scores, strict=True):
        if score is None:
            return f"{name} is {shown(row[name])!r}, allowed: a number"
    return scores[0] or 0.0, scores[1] or 0.0


def _key(row: Mapping[str, Any]) -> str | None:
    """What a row is known by in every file; None where only its number says it."""
    if is_bare(row):
        return None
    if row.get("id") is not None:
        return f"{row.get('subset', '')}:{row['id']}"
    if row.get("chosen") is not None and row.get("rejected") is not None:
        bare = json.dumps([row["chosen"], row["rejected"]], sort_keys=True, default=str)
        return hashlib.blake2b(bare.encode(), digest_size=12).hexdigest()
    return None


def _item(row: Mapping[str, Any], key: str) -> Json:
    label = side(key)
    first, second = _sided([_answer(row, "chosen"), _answer(row, "rejected")], label)
    return {
        "id": key,
        "prompt": joined_text(row.get("prompt")),
        "category": row.get("subset"),
        "label": label,
        "response_a": first,
        "response_b": second,
        "scores": {},
    }


def _answer(row: Mapping[str, Any], role: str) -> str | None:
    """The bare answer, or the one that went through a chat template."""
    if row.get(role) is not None and not is_bare(row):
        return joined_text(row[role])
    return joined_text(row.get(f"text_{role}"))


def _sided(pair: Any, label: str) -> list[Any]:
    return list(pair) if label == "a" else list(pair[::-1])


def joined_text(value: Any) -> str | None:
    """A prompt or an answer as text; a list of chat messages is joined.

    >>> joined_text([{"role": "user", "content": "Why?"}])
    'Why?'
    """
    if isinstance(value, list):
        contents = []
        for message in value:
            is_turn = isinstance(message, Mapping)
            contents.append(str(message.get("content", "") if is_turn else message))
        return "\n".join(contents)
    return None if value is None else str(value)


def _number(score: Any) -> float | None:
    """A score, alone or in a list of one (some reward models write it so).

    None where it is no number.
    """
    value = score
    if isinstance(score, list) and len(score) == 1:
        value = score[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = score_number(value)
    return None if math.isnan(number) else number
