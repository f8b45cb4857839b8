"""RM-Bench results: one file a model, an array of items with three chosen and three rejected responses and a score for each.

The three are one answer in three styles (concise, detailed, detailed with markdown). Every chosen is compared with every rejected
one, nine rows an item, grouped by item; the category is the domain.
"""

from collections.abc import Mapping
from typing import Any

from reward_router.column_names import as_text
from reward_router.replay import reading
from reward_router.replay.fields import number, side

Json = dict[str, Any]
Problem = tuple[str, str]


def joined(files: Mapping[str, str]) -> tuple[dict[str, Json], list[Problem], int]:
    """({pair: row as in our own files}, [(where, what is broken)], rows read) of ``files``, arm -> path. All items are held."""
    items: dict[str, Json] = {}
    problems: list[Problem] = []
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
        chosen = [number(score) for score in row["score_chosen"]]
        rejected = [number(score) for score in row["score_rejected"]]
    except (KeyError, TypeError, ValueError):
        return "score_chosen and score_rejected must be lists of numbers"
    if row.get("id") is None or not chosen or not rejected:
        return "no id, or no scores"
    texts = [row.get("chosen"), row.get("rejected")]
    if any(
        isinstance(text, list) and len(text) != len(n)
        for text, n in zip(texts, (chosen, rejected), strict=True)
    ):
        return "as many scores as responses are needed"
    name = str(as_text(row["id"]))
    domain = as_text(row.get("domain")) or name.partition("/")[0]
    item_name = (
        name if name.startswith(f"{domain}/") else f"{domain}/{name}"
    )  # ids alone may come again in other domains
    for i, better in enumerate(chosen):
        for j, worse in enumerate(rejected):
            key = f"{item_name}-{i}x{j}"
            label = side(key)
            item = items.setdefault(
                key, _item(row, key, domain, label, (_at(texts[0], i), _at(texts[1], j)))
            )
            if arm in item["scores"]:
                return f"id {name!r} stands twice"
            item["scores"][arm] = [better, worse] if label == "a" else [worse, better]
    return ""


def _at(texts: Any, place: int) -> Any:
    return texts[place] if isinstance(texts, list) else None


def _item(
    row: Mapping[str, Any], key: str, domain: str, label: str, texts: tuple[Any, Any]
) -> Json:
    first, second = texts if label == "a" else texts[::-1]
    about = {"id": key, "prompt": row.get("prompt"), "category": domain, "label": label}
    return {**about, "response_a": first, "response_b": second, "scores": {}}
