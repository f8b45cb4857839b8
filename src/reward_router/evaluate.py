"""Gold before and after: greedy responses to held-out prompts, judged by their rules, with a paired interval."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reward_router.examples import Example
from reward_router.keyed import rng
from reward_router.policy import Policy
from reward_router.ranks import Ranks
from reward_router.types import Float

DRAWS = 2000


@dataclass(frozen=True)
class Gold:
    """Right (1) or wrong (0) per prompt, and whether the response ended by itself."""

    ids: list[str]
    categories: list[str]
    right: list[float]
    finished: list[float]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def measure(
    policy: Policy,
    examples: Sequence[Example],
    ranks: Ranks,
    max_new_tokens: int | None,
    batch: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Gold:
    """Greedy gold on ``examples`` under the policy's present weights, shared out over the processes."""
    mine = ranks.shard(list(examples))
    mine.sort(key=lambda e: len(str(e.prompt)))
    rows: list[tuple[str, str, float, float]] = []
    limit = max_new_tokens or policy.config.max_new_tokens
    for start in range(0, len(mine), batch):
        part = mine[start : start + batch]
        for example, response in zip(part, policy.answer([e.prompt for e in part], limit), strict=True):
            gold = float(example.gold([response])[0])
            rows.append((example.id, example.category, gold, float(response.finished)))
        tick(min(start + batch, len(mine)), len(mine))
    rows = sorted(ranks.gather(rows))
    ids, categories, right, finished_B = (list(c) for c in zip(*rows, strict=True))
    return Gold(ids, categories, right, finished_B)


def interval(values: Float, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over prompts (percentile, 2,000 draws); what it says of training seeds: nothing."""
    if len(values) < 2:
        return float("nan"), float("nan")
    draws = rng(seed, "bootstrap", 0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare(before: Gold, after: Gold) -> dict[str, Any]:
    """Per category and overall: n, gold before and after, their difference with a paired 95 % interval over prompts."""
    if before.ids != after.ids:
        raise ValueError("before and after were measured on different prompts")
    first, second = np.array(before.right), np.array(after.right)
    category = np.array(before.categories)
    groups = [("all", np.ones(len(first), bool)), *((c, category == c) for c in sorted(set(before.categories)) if c)]
    table = {name: _row(first[at], second[at]) for name, at in groups}
    table["all"]["finished_before"] = float(np.mean(before.finished))
    table["all"]["finished_after"] = float(np.mean(after.finished))
    return table


def _row(first: Float, second: Float) -> dict[str, Any]:
    low, high = interval(second - first)
    return {
        "n": len(first),
        "before": float(first.mean()),
        "after": float(second.mean()),
        "diff": float((second - first).mean()),
        "ci95": [low, high],
    }
