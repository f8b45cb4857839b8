"""Files as they come -> :class:`Records`: our own rows, our ledger, and what RewardBench 1 and 2 write, one file an arm.

RewardBench 1 writes ``<model>_outputs.jsonl`` (prompt, scores_chosen, scores_rejected, text_chosen, text_rejected, and the
data set's own columns such as subset and id); RewardBench 2 one JSON of columns (id, subset, num_correct, scores: one list an
item, the correct completions first). Several of them given together become one file whose arms are the models.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.replay import reading, rewardbench2
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


def arm_name(source: str) -> str:
    """The model's name from the file's: ``results/org/model_outputs.jsonl`` -> ``model``."""
    return reading.short_name(source).removesuffix("_outputs").removesuffix("_all")


def _rewardbench1(files: Sequence[str], keep_prompts: int | None, keep_responses: bool) -> Records:
    """Chosen is response a; an item is the same in two files where id (and subset) agree, else prompt and its count so far."""
    merged: dict[str, Json] = {}
    bad: list[tuple[str, str]] = []
    for source in files:
        seen: dict[str, int] = {}
        for where, row in reading.rows(source):
            if not isinstance(row, Mapping) or not {"scores_chosen", "scores_rejected"} <= set(row):
                bad.append((where, row if isinstance(row, str) else "no scores_chosen and scores_rejected"))
                continue
            name = _item_name(row, seen)
            item = merged.setdefault(name, _item(row, name))
            pair = [_scalar(row["scores_chosen"]), _scalar(row["scores_rejected"])]
            item["scores"][arm_name(source)] = _sided(pair, item["label"])
    columns = Columns("rewardbench", keep_prompts, keep_responses)
    for where, why in bad:
        columns.broken(where, why)
    for name, item in merged.items():
        columns.add(item, name)
    return columns.finish()


def _item_name(row: Mapping[str, Any], seen: dict[str, int]) -> str:
    if row.get("id") is not None:
        return f"{row.get('subset', '')}:{row['id']}"
    prompt = _text(row.get("prompt")) or ""
    seen[prompt] = seen.get(prompt, 0) + 1
    return f"{prompt}#{seen[prompt]}"


def _item(row: Mapping[str, Any], name: str) -> Json:
    label = side(name)
    first, second = _sided([_text(row.get("text_chosen")), _text(row.get("text_rejected"))], label)
    about = {"id": name, "prompt": _text(row.get("prompt")), "category": row.get("subset")}
    return {**about, "label": label, "response_a": first, "response_b": second, "scores": {}}


def side(name: str) -> str:
    """Where the better response stands: a fixed coin of the item's name, so that no position can be learned."""
    return "ab"[hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1]


def _sided(pair: list[Any], label: str) -> list[Any]:
    return pair if label == "a" else pair[::-1]


def _text(value: Any) -> str | None:
    """A prompt may be a text or a list of chat messages."""
    if isinstance(value, list):
        return "\n".join(str(m.get("content", "")) if isinstance(m, Mapping) else str(m) for m in value)
    return value if value is None else str(value)


def _scalar(score: Any) -> Any:
    return score[0] if isinstance(score, list) and len(score) == 1 else score


def _rewardbench2(files: Sequence[str]) -> Records:
    """Each item becomes pairs (a correct completion against a wrong one), grouped by item; the official metric rides along."""
    merged: dict[str, Json] = {}
    official: dict[str, dict[str, float]] = {}
    columns = Columns("rewardbench2", 0, False)
    for source in files:
        items = _score_items(source)
        official[arm_name(source)] = rewardbench2.official(items)
        for item in items:
            for pair, scores in rewardbench2.pairs(item):
                row = merged.setdefault(
                    pair, {"id": pair, "label": "a", "category": f"rb2/{item.subset}", "scores": {}}
                )
                row["scores"][arm_name(source)] = scores
    for name, row in merged.items():
        columns.add(row, name)
    return columns.finish(official)


def _score_items(source: str) -> list[rewardbench2.Item]:
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source}: no such file, allowed: {reading.FORMATS}")
    try:
        with reading.open_text(path) as file:
            table = json.load(file)
    except (ValueError, EOFError, zlib.error, OSError, RecursionError) as error:
        raise InputError(f"{path.name}: not JSON ({error})") from error
    return rewardbench2.items(table, path.name)
