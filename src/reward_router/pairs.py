"""Preference pairs from one prompt's scored responses: strict, distinct, seeded, never across prompts (LASER, step 3)."""

from collections.abc import Sequence

import numpy as np

from reward_router.types import Float


def form_pairs(
    scores_N: Float,
    responses: Sequence[str],
    per_prompt: int,
    rng: np.random.Generator,
    margin: float = 0.0,
) -> list[tuple[int, int]]:
    """Up to ``per_prompt`` (winner, loser) index pairs with a score gap above ``margin``, drawn without replacement.

    NaN scores (the arm abstained) and pairs of identical texts are left out; the same two texts are paired once, whichever wins.
    An empty list means that all responses tie: the prompt teaches nothing and the router is not updated. O(N^2).

    >>> form_pairs(np.array([1.0, 2.0]), ["a", "b"], 10, np.random.default_rng(0))
    [(1, 0)]
    """
    seen: set[frozenset[str]] = set()
    candidates: list[tuple[int, int]] = []
    for w in range(len(responses)):
        for loser in range(len(responses)):
            texts = frozenset((str(responses[w]), str(responses[loser])))
            if scores_N[w] - scores_N[loser] > margin and len(texts) == 2 and texts not in seen:
                seen.add(texts)
                candidates.append((w, loser))
    if len(candidates) <= per_prompt:
        return candidates
    kept = rng.choice(len(candidates), size=per_prompt, replace=False)
    return [candidates[i] for i in sorted(kept)]
