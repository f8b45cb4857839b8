"""Each arm's own scale, as it was seen so far: location and spread of its scores, to set scores of different arms side by side."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from reward_router.types import Float

if TYPE_CHECKING:
    from reward_router.ledger import Ledger

SEEN_ALREADY = ("shared", "failed", "timeout")
"""Calls that hold no new score."""


class ScoreScale:
    """Running mean and standard deviation of every arm's scores (Welford's recurrences).

    It holds no state of its own making: it is rebuilt from recorded calls.

    >>> scale = ScoreScale()
    >>> scale.learn([("a", "ok", 1.0), ("a", "ok", 3.0), ("a", "abstained", float("nan"))])
    >>> scale.calibrated("a", np.array([2.0, 4.0])).round(3).tolist()
    [0.0, 2.0]
    """

    def __init__(self) -> None:
        """Nothing is known of any arm."""
        self._seen: dict[str, tuple[int, float, float]] = {}

    @classmethod
    def of(cls, ledger: "Ledger") -> "ScoreScale":
        """The scale that the calls in a ledger make. O(calls)."""
        calls = ledger.calls()
        names = [calls.arms[number] for number in calls.arm.tolist()]
        scale = cls()
        scale.learn(zip(names, calls.status, calls.score.tolist(), strict=True))
        return scale

    def learn(self, calls: Iterable[tuple[str, str, float]]) -> None:
        """Take in (arm, status, score); what is no number, or was seen already, is left out. O(1) each."""
        for arm, status, score in calls:
            if status in SEEN_ALREADY or not math.isfinite(score):
                continue
            count, mean, squares = self._seen.get(arm, (0, 0.0, 0.0))
            count += 1
            gap = score - mean
            mean += gap / count
            squares += gap * (score - mean)
            self._seen[arm] = count, mean, squares

    def calibrated(self, arm: str, score_N: Float) -> Float:
        """(N,) how many standard deviations each score is above the arm's mean.

        NaN where the score is, and everywhere until the arm has given two different scores.
        """
        count, mean, squares = self._seen.get(arm, (0, 0.0, 0.0))
        if squares <= 0.0:
            return np.full(len(score_N), np.nan)
        return np.asarray((score_N - mean) / math.sqrt(squares / count), np.float64)
