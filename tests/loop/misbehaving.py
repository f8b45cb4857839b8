"""Arms that misbehave, for the tests: built by import path like a user's own."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.types import Float


class Arm:
    """Scores by length, or does what ``how`` says."""

    def __init__(self, how: str = "length", every: int = 1) -> None:
        self.how, self.every, self.asked = how, every, 0

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        self.asked += 1
        lengths = np.array([[float(len(r)) for r in group] for group in responses])
        if self.asked % self.every:
            return lengths
        if self.how == "raise":
            raise RuntimeError("the model server\nis away")
        if self.how == "sleep":
            time.sleep(60.0)
        wrong = {
            "nan": np.full_like(lengths, np.nan),
            "inf": np.full_like(lengths, np.inf),
            "short": lengths[:, :-1],
            "tie": np.zeros_like(lengths),
        }
        return wrong.get(self.how, lengths)


class Served:
    """Scores by length while its server is up."""

    up = True

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        if not self.up:
            raise ConnectionError("503 Service Unavailable")
        return np.array([[float(len(r)) for r in group] for group in responses])


def payoff_two(outcome: Any) -> float:
    return 2.0


def payoff_nan(outcome: Any) -> float:
    return float("nan")


def payoff_text(outcome: Any) -> Any:
    return "high"


def payoff_raises(outcome: Any) -> float:
    raise KeyError(outcome.unit)


def payoff_half(outcome: Any) -> float | None:
    return 0.5 if outcome.unit else None
