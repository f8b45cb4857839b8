"""Files as they come -> :class:`Records`: our own rows, our ledger, and what RewardBench 1 and 2 write, one file an arm.

RewardBench 1 writes ``<model>_outputs.jsonl`` (see ``rewardbench1``); RewardBench 2 one JSON of columns (id, subset, num_correct,
scores: one list an item, the correct completions first). Several of them given together become one file whose arms are the models.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.replay import reading, rewardbench1, rewardbench2
from reward_router.replay.columns import Columns, collect
from reward_router.replay.ledger_rows import ledger_rows
from reward_router.replay.records import Records

Json = dict[str, Any]


def load(files: Sequence[str], keep_prompts: int | None = None, keep_responses: bool = True) -> Iterator[Records]:
    """Records of each file, the RewardBench ones of a kind merged into one set of records. Lazy: one file at a time is held."""
    kinds = [kind(source) for source in files]
    for source, found in zip(files, kinds, strict=True):
        if found == "rows":
            yield collect(reading.short_name(source), reading.rows(source), keep_prompts, keep_responses)
        elif found == "ledger":
            yield collect(reading.short_name(source), ledger_rows(Path(source)), keep_prompts, keep_responses)
    of = {k: [s for s, found in zip(files, kinds, strict=True) if found == k] for k in ("rewardbench1", "rewardbench2")}
    if of["rewardbench1"]:
        yield _rewardbench1(of["rewardbench1"], keep_prompts, keep_responses)
    if of["rewardbench2"]:
        yield _rewardbench2(of["rewardbench2"])


def kind(source: str) -> str:
    """rows | ledger | rewardbench1 | rewardbench2, from the name and the first row."""
    path = Path(source)
    if path.suffix == ".sqlite":
        return "ledger"
    if source.endswith((".json", ".json.gz")):
        return "rewardbench2"
    if source.endswith((".jsonl", ".jsonl.gz")):
        row = reading.peek(source)
        return "rewardbench1" if isinstance(row, Mapping) and "scores_chosen" in row else "rows"
    return "rows"


def arm_names(files: Sequence[str]) -> dict[str, str]:
    """Arm -> file: ``org/model_outputs.jsonl`` is ``model``, or ``org/model`` where two files would share the name.

    ``InputError`` where they still do: scores of two models must never become one arm.
    """
    short = [reading.short_name(f).removesuffix("_outputs") for f in files]
    arms = [
        a if short.count(a) == 1 else f"{Path(f).resolve().parent.name}/{a}" for a, f in zip(short, files, strict=True)
    ]
    for arm in arms:
        if arms.count(arm) > 1:
            same = ", ".join(f for a, f in zip(arms, files, strict=True) if a == arm)
            raise InputError(f"{same}: two files of one name would be one arm, {arm}; rename one")
    return dict(zip(arms, files, strict=True))


def _rewardbench1(files: Sequence[str], keep_prompts: int | None, keep_responses: bool) -> Records:
    """The better response stands on the side that a coin of the item says."""
    items, problems = rewardbench1.joined(arm_names(files))
    return _finished("rewardbench", items, problems, Columns("rewardbench", keep_prompts, keep_responses), {})


def _rewardbench2(files: Sequence[str]) -> Records:
    """Each item becomes pairs (a correct completion against a wrong one), grouped by item; the official metric rides along."""
    merged: dict[str, Json] = {}
    official: dict[str, dict[str, float]] = {}
    problems: list[tuple[str, str]] = []
    for arm, source in arm_names(files).items():
        items, broken = rewardbench2.items(_table(source), Path(source).name)
        problems += broken
        if items:
            official[arm] = rewardbench2.official(items)
        for item in items:
            for pair, scores in rewardbench2.pairs(item):
                label = rewardbench1.side(pair)
                row = merged.setdefault(
                    pair, {"id": pair, "label": label, "category": f"rb2/{item.subset}", "scores": {}}
                )
                row["scores"][arm] = scores if label == "a" else scores[::-1]
    return _finished("rewardbench2", merged, problems, Columns("rewardbench2", 0, False), official)


def _finished(
    name: str, rows: Mapping[str, Json], problems: Sequence[tuple[str, str]], columns: Columns, official: Json
) -> Records:
    for where, why in problems:
        columns.broken(where, why)
    for where, row in rows.items():
        columns.add(row, where)
    return columns.finish(official, "; give the files of several models together")


def _table(source: str) -> Any:
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source}: no such file, allowed: {reading.FORMATS}")
    try:
        with reading.open_text(path) as file:
            return json.load(file)
    except (ValueError, EOFError, zlib.error, OSError, RecursionError) as error:
        raise InputError(f"{path.name}: not JSON ({error})") from error
