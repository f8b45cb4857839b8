"""Gold before and after on held-out prompts, judged by their rules, with a paired interval: greedy, and as the policy is used.

Under sampling (k responses a prompt at the training temperature) gold is what training optimises, and less noisy than one greedy
response a prompt. Before and after are drawn from the same uniforms. Intervals are over prompts: the k of a prompt are averaged first.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reward_router.distributed import Ranks
from reward_router.examples import Example
from reward_router.keyed import rng
from reward_router.policy import Policy
from reward_router.responses import Response, finished
from reward_router.types import Float

DRAWS = 2000


@dataclass(frozen=True)
class Gold:
    """Per prompt the share of its responses that was right, and that ended by itself; of one greedy response 1 or 0."""

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
    samples: int = 0,
    seen: Callable[[Example, Sequence[Response]], None] = lambda example, responses: None,
) -> Gold:
    """Gold on ``examples`` under the policy's present weights, shared out over the processes.

    ``samples``: responses a prompt at the policy's temperature (`Policy.trial`); 0: one greedy response. ``batch``: responses at
    a time. ``tick(done, total)``: prompts of this process; ``seen`` is given each of them with its responses.
    """
    mine = ranks.shard(list(examples))
    mine.sort(key=lambda e: len(str(e.prompt)))
    rows: list[tuple[str, str, float, float]] = []
    limit = max_new_tokens or policy.config.max_new_tokens
    together = max(1, batch // max(samples, 1))
    for start in range(0, len(mine), together):
        part = mine[start : start + together]
        prompts = [e.prompt for e in part]
        if samples:
            groups = policy.trial(prompts, [e.id for e in part], samples, limit)
        else:
            groups = [[response] for response in policy.answer(prompts, limit)]
        for example, group in zip(part, groups, strict=True):
            gold, ended = float(example.gold(group).mean()), float(finished(group).mean())
            rows.append((example.id, example.category, gold, ended))
            seen(example, group)
        tick(min(start + together, len(mine)), len(mine))
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
    groups = [
        ("all", np.ones(len(first), bool)),
        *((c, category == c) for c in sorted(set(before.categories)) if c),
    ]
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
