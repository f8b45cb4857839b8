"""Preference pairs from one prompt's scored responses: strict, distinct, seeded, never across prompts (LASER, step 3).

Also when two scores are too close to call: a threshold in each arm's own units, because 0.1 of one arm's raw score is
decisive and of another's nothing (the authors of BayesianRouter use 0.1 for all).
"""

from bisect import insort
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from reward_router.types import Float


def form_pairs(
    scores_N: Float,
    responses: Sequence[str],
    per_prompt: int,
    rng: np.random.Generator,
    margin: float = 0.0,
    allowed_NN: NDArray[np.bool_] | None = None,
) -> list[tuple[int, int]]:
    """Up to ``per_prompt`` (winner, loser) index pairs with a score gap above ``margin``, drawn without replacement.

    NaN scores (the arm abstained) and pairs of identical texts are left out; the same two texts are paired once, whichever wins.
    ``allowed_NN`` (winner, loser) leaves out what somebody does not trust. An empty list means that all responses tie: the prompt teaches nothing and the router is not updated. O(N^2).

    >>> form_pairs(np.array([1.0, 2.0]), ["a", "b"], 10, np.random.default_rng(0))
    [(1, 0)]
    """
    seen: set[frozenset[str]] = set()
    candidates: list[tuple[int, int]] = []
    for w in range(len(responses)):
        for loser in range(len(responses)):
            texts = frozenset((str(responses[w]), str(responses[loser])))
            if allowed_NN is not None and not allowed_NN[w, loser]:
                continue
            if scores_N[w] - scores_N[loser] > margin and len(texts) == 2 and texts not in seen:
                seen.add(texts)
                candidates.append((w, loser))
    if len(candidates) <= per_prompt:
        return candidates
    kept = rng.choice(len(candidates), size=per_prompt, replace=False)
    return [candidates[i] for i in sorted(kept)]


class GapScale:
    """Per arm the running median of |score gap| over the pairs it did not tie exactly: the unit of its tie threshold.

    The median moves little with one wild score, and leaving exact ties out keeps it above 0 for arms that tie often. It holds
    no state of its own making: the same gaps in any order give the same scale, so it is rebuilt from recorded calls.

    >>> scale = GapScale(warmup=3)
    >>> scale.learn([("a", 4.0), ("a", 0.0), ("a", 1.0)]), scale.threshold("a", 0.1)
    (None, 0.0)
    >>> scale.learn([("a", 2.0)]), scale.threshold("a", 0.1)
    (None, 0.2)
    """

    def __init__(self, warmup: int = 5) -> None:
        """``warmup``: gaps of an arm before it has a threshold; until then only equal scores tie."""
        self.warmup = warmup
        self._sorted: dict[str, list[float]] = {}

    def learn(self, gaps: Iterable[tuple[str, float]]) -> None:
        """Take in (arm, score gap of either sign); NaN and 0 are left out. O(log n) and a memory move each."""
        for arm, gap in gaps:
            if abs(gap) > 0:
                insort(self._sorted.setdefault(arm, []), abs(gap))

    def threshold(self, arm: str, share: float) -> float:
        """``share`` times the arm's median gap; 0 while it has fewer than ``warmup``. O(1)."""
        known = self._sorted.get(arm, [])
        if len(known) < self.warmup:
            return 0.0
        middle = len(known) // 2
        median = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
        return share * median


def gaps(calls: Iterable[tuple[object, str, str, float]]) -> list[tuple[str, float]]:
    """(arm, score gap) of every pair in calls of the form (decision, arm, status, score); audits are seen by nobody.

    >>> gaps([(1, "a", "ok", 2.0), (1, "a", "shared", 5.0), (2, "a", "ok", 1.0), (2, "b", "audit", 1.0)])
    [('a', 3.0)]
    """
    scored: dict[tuple[object, str], list[float]] = {}
    for decision, arm, status, score in calls:
        if status != "audit":
            scored.setdefault((decision, arm), []).append(score)
    return [(arm, pair[1] - pair[0]) for (_, arm), pair in scored.items() if len(pair) == 2]
