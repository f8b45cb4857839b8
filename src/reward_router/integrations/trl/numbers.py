"""From answers to the numbers that TRL gets, one a completion."""

from collections.abc import Sequence

import numpy as np

from reward_router.integrations.trl.judging import Answer


def rewards_of(
    answers: Sequence[Answer], n_rows: int, none_where_failed: bool
) -> list[float | None]:
    """One reward a row of all processes.

    A completion without a score has the mean of its group, which makes its advantage zero; a group
    without any has 0 throughout, for the same reason. None in their place where
    ``none_where_failed``.
    """
    rewards: list[float | None] = [0.0] * n_rows
    for answer in answers:
        known_N = np.isfinite(answer.scores)
        mean = float(answer.scores[known_N].mean()) if known_N.any() else 0.0
        unscored = None if none_where_failed and (answer.failed or known_N.any()) else mean
        for row, score, is_known in zip(answer.rows, answer.scores, known_N, strict=True):
            rewards[row] = float(score) if is_known else unscored
    return rewards


def broken_ties(rewards: Sequence[float | None], coins: Sequence[float]) -> list[float | None]:
    """OnlineDPO's pairs (i, i + B) with ties broken by coin i, in [0, 1): TRL itself would take the
    first.
    """
    fair = list(rewards)
    half = len(fair) // 2
    for i in range(half):
        first = fair[i] or 0.0
        if first == (fair[i + half] or 0.0):
            nudge = 1e-5 * max(1.0, abs(first))  # survives float32
            fair[i] = first + (nudge if coins[i] < 0.5 else -nudge)
    return fair
