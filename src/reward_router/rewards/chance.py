"""A reward model that knows nothing: the control every claim of learning is measured against."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.keyed import uniform
from reward_router.types import Float


class Chance:
    """Scores are uniform in [0, 1), keyed by prompt and response: equal texts get equal scores.

    >>> float(Chance().score(["a"], [["b"]])[0, 0]) == float(Chance().score(["a"], [["b"]])[0, 0])
    True
    """

    def __init__(self, seed: int = 0) -> None:
        """``seed``: another one gives other scores."""
        self.seed = seed

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N)."""
        scores: list[list[float]] = []
        for prompt, row in zip(prompts, responses, strict=True):
            row_scores = []
            for text in row:
                unit = f"{prompt}\x1f{text}"
                row_scores.append(uniform(self.seed, "noise", 0, unit))
            scores.append(row_scores)
        return np.array(scores, dtype=np.float64).reshape(len(prompts), -1)
