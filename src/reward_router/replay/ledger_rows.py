"""Replay rows out of our own ledger.

They are the audited responses, which several arms scored, with the gold recorded for each response.
Gold must name a response (the id of its calls, ``unit/row/number``): any two responses of a prompt
with different gold make a row. Labels of whole units are left alone: they tell how right the arm
was, not which response is better.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Ledger
from reward_router.ledger.columns import Calls, labels

ScoresByUnit = dict[str, dict[str, float]]  # response -> arm -> score


def ledger_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every pair of responses that two arms scored and gold tells apart. O(calls).

    ``InputError`` where the file is no ledger or holds no gold for a response.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such ledger")
    try:
        with Ledger(path, readonly=True) as ledger:
            gold_table = labels(ledger)
            calls = ledger.calls()
    except LedgerError as error:
        raise InputError(f"{path.name}: {error}") from error
    responses = set(calls.response)
    gold = {
        response: value
        for response, value in zip(gold_table.unit, gold_table.value.tolist(), strict=True)
        if response in responses
    }
    if not gold:
        raise InputError(
            f"{path.name}: no gold for any scored response; "
            "needed: labels named like the responses of its calls"
        )
    for scores in _by_prompt(calls, gold).values():
        for first, second in combinations(scores, 2):
            yield from _row(path.name, first, second, scores, gold[first] - gold[second])


def _by_prompt(calls: Calls, gold: Mapping[str, float]) -> dict[str, ScoresByUnit]:
    """Scores of the responses with gold, by prompt; calls without a score are left out."""
    by_prompt: dict[str, ScoresByUnit] = {}
    columns = zip(calls.response, calls.arm.tolist(), calls.score.tolist(), strict=True)
    for response, arm, score in columns:
        if response not in gold or math.isnan(score):
            continue
        # A response's id is its prompt's with a number behind the last slash.
        prompt, _, _ = response.rpartition("/")
        scores_of_prompt = by_prompt.setdefault(prompt, {})
        scores = scores_of_prompt.setdefault(response, {})
        scores[calls.arms[arm]] = score
    return by_prompt


def _row(
    where: str, first: str, second: str, scores: ScoresByUnit, better: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The row of two responses; nothing where gold is even or fewer than two arms scored both."""
    both = {
        arm: [score, scores[second][arm]]
        for arm, score in scores[first].items()
        if arm in scores[second]
    }
    if better == 0 or len(both) < 2:
        return
    prompt, _, number = first.rpartition("/")
    name = f"{prompt}-{number}x{second.rpartition('/')[2]}"
    yield f"{where} {name}", {"id": name, "label": "a" if better > 0 else "b", "scores": both}
