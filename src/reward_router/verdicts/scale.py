"""Each arm's own scale, as it was seen so far.

Location and spread of its scores, to set scores of different arms side by side.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from reward_router.types import Float

if TYPE_CHECKING:
    from reward_router.ledger import Store

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
    def of(cls, ledger: "Store") -> "ScoreScale":
        """The scale that the calls in a ledger make. O(calls)."""
        calls = ledger.calls()
        numbers = calls.arm.tolist()
        names = [calls.arms[number] for number in numbers]
        scores = calls.score.tolist()

        scale = cls()
        scale.learn(zip(names, calls.status, scores, strict=True))
        return scale

    def learn(self, calls: Iterable[tuple[str, str, float]]) -> None:
        """Take in (arm, status, score); what is no number, or was seen already, is left out.

        O(1) each.
        """
        for arm, status, score in calls:
            if status in SEEN_ALREADY or not math.isfinite(score):
                continue
            count, mean, squares = self._seen.get(arm, (0, 0.0, 0.0))
            # Welford: sums of squares would cancel where an arm's scores are far from 0
            count += 1
            gap_before = score - mean
            mean += gap_before / count
            gap_after = score - mean
            squares += gap_before * gap_after
            self._seen[arm] = count, mean, squares

    def calibrated(self, arm: str, score_N: Float) -> Float:
        """(N,) how many standard deviations each score is above the arm's mean.

        NaN where the score is, and everywhere until the arm has given two different scores.
        """
        count, mean, squares = self._seen.get(arm, (0, 0.0, 0.0))
        # One score, or equal ones, say nothing of the arm's scale.
        if squares <= 0.0:
            return np.full(len(score_N), np.nan)
        sd = math.sqrt(squares / count)
        return np.asarray((score_N - mean) / sd, np.float64)
