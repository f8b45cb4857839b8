"""A reward model that knows nothing: the control every claim of learning is measured against."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.keyed import uniform
from reward_router.types import Float


class Chance:
    """Scores are uniform in [0, 1), keyed by prompt and response: the same text gets the same score.

    >>> float(Chance().score(["a"], [["b"]])[0, 0]) == float(Chance().score(["a"], [["b"]])[0, 0])
    True
    """

    def __init__(self, seed: int = 0) -> None:
        """``seed``: another one gives other scores."""
        self.seed = seed

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N)."""
        rows = [
            [uniform(self.seed, "noise", 0, f"{p}\x1f{r}") for r in group]
            for p, group in zip(prompts, responses, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(prompts), -1)
