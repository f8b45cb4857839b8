"""From answers to the numbers that TRL gets, one a completion; and payoffs that user code gives."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from reward_router.errors import InputError
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


def payoffs_of(payoffs: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Payoffs by decision id; InputError for no mapping, or a payoff outside [0, 1]."""
    if not isinstance(payoffs, Mapping):
        raise InputError(
            f"payoffs: {type(payoffs).__name__}; allowed a mapping of decision ids to numbers from "
            "0 to 1"
        )
    for decision_id, value in payoffs.items():
        if not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
            raise InputError(
                f"payoffs: {value!r} for decision {decision_id!r}; allowed a number from 0 to 1; "
                "nothing was changed"
            )
    return [(decision_id, float(value)) for decision_id, value in payoffs.items()]
