"""Replay rows out of our own ledger: the audited responses, which several arms scored, with the gold recorded for each response.

Gold must name a response (the id of its calls, ``unit/row/number``): any two responses of a prompt with different gold make a
row. Labels of whole units are left alone: they tell how right the arm was, not which response is better.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Ledger
from reward_router.ledger.columns import Calls, labels

Scores = dict[str, dict[str, float]]  # response -> arm -> score


def ledger_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every pair of responses that two arms or more scored and gold tells apart. O(calls).

    ``InputError`` where the file is no ledger or holds no gold for a response.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such ledger")
    try:
        with Ledger(path, readonly=True) as ledger:
            table, calls = labels(ledger), ledger.calls()
    except LedgerError as error:
        raise InputError(f"{path.name}: {error}") from error
    responses = set(calls.response)
    gold = {
        unit: v
        for unit, v in zip(table.unit, table.value.tolist(), strict=True)
        if unit in responses
    }
    if not gold:
        raise InputError(
            f"{path.name}: no gold for any scored response; needed: labels named like the responses of its calls"
        )
    for answered in _by_prompt(calls, gold).values():
        for first, second in combinations(answered, 2):
            yield from _row(path.name, first, second, answered, gold[first] - gold[second])


def _by_prompt(calls: Calls, gold: Mapping[str, float]) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for response, arm, score in zip(
        calls.response, calls.arm.tolist(), calls.score.tolist(), strict=True
    ):
        if response in gold and score == score:
            found.setdefault(response.rpartition("/")[0], {}).setdefault(response, {})[
                calls.arms[arm]
            ] = score
    return found


def _row(
    where: str, first: str, second: str, scores: Scores, better: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    both = {
        arm: [scores[first][arm], scores[second][arm]]
        for arm in scores[first]
        if arm in scores[second]
    }
    if better == 0 or len(both) < 2:
        return
    prompt, _, number = first.rpartition("/")
    name = f"{prompt}-{number}x{second.rpartition('/')[2]}"
    yield f"{where} {name}", {"id": name, "label": "a" if better > 0 else "b", "scores": both}
