"""Replay rows out of our own ledger: the audited responses, where several arms scored the same text, with their gold labels.

Gold may name a response (its call's id: any two responses of a prompt with different gold make a row) or a pair unit (value
above 1/2: the first response is better). Units that fewer than two arms scored, or without gold, give no row.
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
    """(where, row) of every audited pair with gold; ``InputError`` where the file is no ledger."""
    if not path.is_file():
        raise InputError(f"{path}: no such ledger")
    try:
        with Ledger(path, readonly=True) as ledger:
            gold_table = labels(ledger)
            gold = {**dict(zip(gold_table.unit, gold_table.value.tolist(), strict=True))}
            decisions = ledger.decisions(contexts=False)
            unit_of = dict(zip(decisions.seq.tolist(), decisions.unit, strict=True))
            for decision, scores in _by_decision(ledger.calls()):
                yield from _rows(path.name, unit_of[decision], scores, gold)
    except LedgerError as error:
        raise InputError(f"{path.name}: {error}") from error


def _by_decision(calls: Calls) -> Iterator[tuple[int, Scores]]:
    found: dict[int, Scores] = {}
    for decision, response, arm, score in zip(
        calls.decision.tolist(), calls.response, calls.arm, calls.score.tolist(), strict=True
    ):
        if decision >= 0 and score == score:
            found.setdefault(decision, {}).setdefault(response, {})[calls.arms[arm]] = score
    yield from found.items()


def _rows(where: str, unit: str, scores: Scores, gold: Mapping[str, float]) -> Iterator[tuple[str, dict[str, Any]]]:
    responses = list(scores)
    if unit in gold and len(responses) == 2:
        yield from _row(where, responses[0], responses[1], scores, gold[unit] - 0.5)
    prompts: dict[str, list[str]] = {}
    for response in responses:
        if response in gold:
            prompts.setdefault(response.rpartition("/")[0], []).append(response)
    for answered in prompts.values():
        for first, second in combinations(answered, 2):
            yield from _row(where, first, second, scores, gold[first] - gold[second])


def _row(where: str, first: str, second: str, scores: Scores, better: float) -> Iterator[tuple[str, dict[str, Any]]]:
    both = {arm: [scores[first][arm], scores[second][arm]] for arm in scores[first] if arm in scores[second]}
    if better == 0 or len(both) < 2:
        return
    name = f"{first.rpartition('/')[0]}-{first.rpartition('/')[2]}x{second.rpartition('/')[2]}"
    yield f"{where} {name}", {"id": name, "label": "a" if better > 0 else "b", "scores": both}
