"""RM-Bench results: one file a model, an array of items.

An item has three chosen and three rejected responses and a score for each. The three are one answer
in three styles (concise, detailed, detailed with markdown). Every chosen is compared with every
rejected one, nine rows an item, grouped by item; the category is the domain.
"""

from collections.abc import Mapping
from typing import Any

from reward_router.column_names import as_text
from reward_router.replay import reading
from reward_router.replay.fields import score_number, side

Json = dict[str, Any]


def join_files(files: Mapping[str, str]) -> tuple[dict[str, Json], list[reading.BadRow], int]:
    """({pair: row as in our own files}, problems, rows read) of ``files``, arm -> path.

    All items are held.
    """
    items: dict[str, Json] = {}
    problems: list[reading.BadRow] = []
    read = 0
    for arm, source in files.items():
        for where, row in reading.rows(source):
            read += 1
            why = str(row) if isinstance(row, str) else _add(row, arm, items)
            if why:
                problems.append((where, why))
    return items, problems, read


def _add(row: Mapping[str, Any], arm: str, items: dict[str, Json]) -> str:
    """Take one item; what is broken, '' where nothing is."""
    try:
        chosen = [score_number(score) for score in row["score_chosen"]]
        rejected = [score_number(score) for score in row["score_rejected"]]
    except (KeyError, TypeError, ValueError):
        return "score_chosen and score_rejected must be lists of numbers"
    if row.get("id") is None or not chosen or not rejected:
        return "no id, or no scores"
    if _other_number(row.get("chosen"), chosen) or _other_number(row.get("rejected"), rejected):
        return "as many scores as responses are needed"
    name = str(as_text(row["id"]))
    domain = as_text(row.get("domain")) or name.partition("/")[0]
    # Ids alone may come again in other domains.
    item_name = name if name.startswith(f"{domain}/") else f"{domain}/{name}"
    for i, better in enumerate(chosen):
        for j, worse in enumerate(rejected):
            key = f"{item_name}-{i}x{j}"
            label = side(key)
            texts = (_nth(row.get("chosen"), i), _nth(row.get("rejected"), j))
            item = items.setdefault(key, _item(row, key, domain, label, texts))
            if arm in item["scores"]:
                return f"id {name!r} stands twice"
            item["scores"][arm] = [better, worse] if label == "a" else [worse, better]
    return ""


def _other_number(texts: Any, scores: list[float]) -> bool:
    """Whether there are texts, but not one for each score."""
    return isinstance(texts, list) and len(texts) != len(scores)


def _nth(texts: Any, place: int) -> Any:
    return texts[place] if isinstance(texts, list) else None


def _item(
    row: Mapping[str, Any], key: str, domain: str, label: str, texts: tuple[Any, Any]
) -> Json:
    first, second = texts if label == "a" else texts[::-1]
    return {
        "id": key,
        "prompt": row.get("prompt"),
        "category": domain,
        "label": label,
        "response_a": first,
        "response_b": second,
        "scores": {},
    }
