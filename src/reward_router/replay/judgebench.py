"""JudgeBench's judge outputs: one file a judge, one pair a line with the judgments of 1 or 2 games.

The second game has the responses in the other order, so its decision is turned round
(``compute_final_metrics``). Two games that agree, or one against a tie, give the verdict; two that
contradict each other give a tie. A reward model writes its scores.
"""

from collections.abc import Mapping
from typing import Any

from reward_router import labels
from reward_router.column_names import as_text
from reward_router.replay import reading
from reward_router.replay.fields import score_number

Json = dict[str, Any]
_TURNED = {"a": "b", "b": "a", "tie": "tie"}
_POINTS = {"a": 1, "b": -1, "tie": 0}


def join_files(files: Mapping[str, str]) -> tuple[dict[str, Json], list[reading.BadRow], int]:
    """({pair: row as in our own files}, problems, rows read) of ``files``, arm -> path.

    All pairs are held.
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
    """Take one line; what is broken, '' where nothing is."""
    judgments = row.get("judgments")
    name = row.get("pair_id") if row.get("pair_id") is not None else row.get("id")
    if name is None or not isinstance(judgments, list) or not judgments:
        return "no pair_id, or no judgments"
    cell = _cell(judgments)
    if cell is None:
        return "no judgment that can be read"
    key = str(as_text(name))
    item = items.setdefault(key, _item(row, key))
    fields = _item(row, key)
    for field in ("response_a", "response_b", "label"):
        value = fields[field]
        if value is not None and item[field] is not None and value != item[field]:
            return f"pair {key} has another {field} than in the files before"
    if arm in item["scores"] or arm in item["verdicts"]:
        return f"pair {key} stands twice"
    kind = "verdicts" if isinstance(cell, str) else "scores"
    item[kind][arm] = cell
    return ""


def _item(row: Mapping[str, Any], key: str) -> Json:
    first, second = (row.get(name, row.get(name.lower())) for name in ("response_A", "response_B"))
    return {
        "id": key,
        "prompt": row.get("question", row.get("prompt")),
        "response_a": first,
        "response_b": second,
        "label": row.get("label"),
        "category": row.get("source"),
        "scores": {},
        "verdicts": {},
    }


def _cell(judgments: list[Any]) -> list[float] | str | None:
    """[score of a, score of b], or a verdict; None where neither game says anything."""
    first = judgments[0]
    judgment = first.get("judgment", {}) if isinstance(first, Mapping) else {}
    scores = judgment.get("scores") if isinstance(judgment, Mapping) else None
    if isinstance(scores, list) and len(scores) == 2:
        try:
            return [score_number(score) for score in scores]
        except (TypeError, ValueError):
            return None
    decisions = [_decision(game) for game in judgments[:2]]
    if len(decisions) == 2 and decisions[1] is not None:
        decisions[1] = _TURNED[decisions[1]]
    points = [_POINTS[side] for side in decisions if side is not None]
    if not points:
        return None
    total = sum(points)
    return "a" if total > 0 else "b" if total < 0 else "tie"


def _decision(game: Any) -> str | None:
    """The side that one game names; None where it names none."""
    try:
        decision = labels.read_label(game.get("decision")) if isinstance(game, Mapping) else None
    except ValueError:
        return None
    return decision if isinstance(decision, str) else None
