"""Payoffs from gold: truth beats loss. They lie in [0, 1] by nature and are not scaled."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from reward_router.kinds import PayoffKind
from reward_router.types import Float


def order_accuracy(score_N: ArrayLike, gold_N: ArrayLike) -> float | None:
    """Share of (better, worse) response pairs that the scores order rightly, in [0, 1]. O(N^2).

    A tie or an abstention counts 1/2. This is the ``probe`` payoff: does the arm tell right from
    wrong here? Gold is 1 and 0, or any numbers: every pair of unequal gold counts once. None where
    gold is all equal or unknown (NaN): nothing can be learned.

    >>> order_accuracy([0.9, 0.1, 0.5], [1, 0, 0])
    1.0
    """
    score_N = np.asarray(score_N, np.float64)
    gold_N = np.asarray(gold_N, np.float64)
    better_NN = gold_N[:, None] > gold_N[None, :]
    gap_P = (score_N[:, None] - score_N[None, :])[better_NN]
    # no pair of unequal gold: nothing can be ordered
    if gap_P.size == 0:
        return None

    undecided_P = (gap_P == 0) | np.isnan(gap_P)
    return float(np.mean((gap_P > 0) + 0.5 * undecided_P))


def gold_of_best(score_N: ArrayLike, gold_N: ArrayLike) -> float | None:
    """Mean gold of the responses with the highest score, in [0, 1]; the ``verifier`` payoff.

    None where unknown. O(N).
    """
    score_N = np.asarray(score_N, np.float64)
    gold_N = np.asarray(gold_N, np.float64)
    if not np.isfinite(score_N).any():
        return None

    # tied responses count alike
    best = float(np.mean(gold_N[score_N == np.nanmax(score_N)]))
    return best if np.isfinite(best) else None


def gold_of_choice(score_N: Float, gold_N: Float) -> float | None:
    """Gold of the response the arm would pick; one that abstains picks any of them alike."""
    answered = np.isfinite(score_N).any()
    return gold_of_best(score_N if answered else np.zeros_like(score_N), gold_N)


class Golds(Protocol):
    """What came of one decision, as far as gold tells it."""

    def mean(self, formula: Callable[[Float, Float], float | None]) -> float | None:
        """The mean of a formula of scores and gold over the decision's prompts.

        None where no prompt gives one.
        """
        ...


def _probe(outcome: Golds) -> float | None:
    return outcome.mean(order_accuracy)


def _verifier(outcome: Golds) -> float | None:
    return outcome.mean(gold_of_choice)


KINDS = (
    PayoffKind(
        "probe",
        _probe,
        "does the arm put right answers above wrong ones, "
        "on a sample of training prompts that have a rule",
        needs_gold=True,
        is_gold=True,
        sampled=True,
    ),
    PayoffKind(
        "verifier",
        _verifier,
        "is the response the arm likes best right, by its prompt's rule",
        needs_gold=True,
        sampled=True,
    ),
)
