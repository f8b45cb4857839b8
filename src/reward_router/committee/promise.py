"""A promise instead of a price: ask until P(wrong) <= max_error, abstain where it cannot be kept.

The certificate is Learn-then-Test with a fixed sequence (Angelopoulos et al. 2021) on labels that
the committee was not fitted on: whole prompts, 2 of 5, are set aside. For thresholds tau on
|log-odds| from the strictest down, the hypothesis "more than max_error of the answered pairs are
wrong" is tested by the exact binomial tail; the first threshold at which it is not rejected ends
the search. It begins where enough pairs are answered for a test to have power, which no label
decides. So with probability CONFIDENCE over the labels set aside the share of wrong answers among
those given is at most max_error on new pairs of the same stream. Rows of one prompt are no
independent rows: counts are divided by their design effect, which is exact where prompts have one
row. Leaves out: what happens on another stream; there nothing is promised.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv

from reward_router.committee.labelled import LabelledRows, assign_folds
from reward_router.committee.plan import CommitteePlan, paths
from reward_router.types import Float, Int

CONFIDENCE = 0.9
FOLDS = 5
SET_ASIDE = 2
POWER = 2.0  # times the fewest prompts at which no wrong answer at all would be proof
LEVELS = np.concatenate([1 - np.geomspace(1e-5, 0.05, 40), np.linspace(0.945, 0.505, 40)])
"""P(right) that a threshold asks for, the strictest first.

All are above a coin, so that a tie is no answer and the next arm is asked.
"""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised: of the pairs answered at most ``max_error`` are wrong.

    It holds with probability CONFIDENCE over the labels that were set aside.

    Args:
        max_error: the share of wrong answers that is promised.
        threshold: on |log-odds|; pairs below it after the last arm are abstained on. Infinite:
            nothing can be promised.
        labels: rows set aside.
        answered: how many of them were answered.
        wrong: how many of those wrongly.
        bound: upper confidence bound of the share of wrong answers.
    """

    max_error: float
    threshold: float
    labels: int
    answered: int
    wrong: int
    bound: float

    @property
    def coverage(self) -> float:
        """Share of the labels set aside that was answered."""
        return self.answered / self.labels if self.labels else 0.0

    @property
    def kept(self) -> bool:
        """Whether there is a threshold at which the promise holds."""
        return bool(np.isfinite(self.threshold))

    def numbers(self) -> list[float]:
        """The fields in order, as numbers."""
        counts = [float(self.labels), float(self.answered), float(self.wrong)]
        return [self.max_error, self.threshold, *counts, self.bound]

    @classmethod
    def of(cls, numbers: Float) -> "Promise":
        """The promise that `numbers` wrote."""
        max_error, threshold, labels, answered, wrong, bound = map(float, numbers)
        return cls(max_error, threshold, int(labels), int(answered), int(wrong), bound)

    def summary(self) -> dict[str, Any]:
        """JSON-ready; ``threshold`` as P(right), None where nothing can be promised."""
        return {
            "max_error": self.max_error,
            "confidence": CONFIDENCE,
            "kept": self.kept,
            "threshold": float(1 / (1 + np.exp(-self.threshold))) if self.kept else None,
            "labels": self.labels,
            "answered": self.answered,
            "wrong": self.wrong,
            "risk": self.wrong / self.answered if self.answered else None,
            "risk_bound": self.bound,
            "coverage": self.coverage,
        }


def set_aside(data: LabelledRows, seed: int) -> tuple[LabelledRows, LabelledRows]:
    """Rows to fit on, and rows of other prompts with labels drawn at random to certify with."""
    # Whole prompts: a row of a prompt that was fitted on is no new pair.
    held_P = assign_folds(data.group_P, FOLDS, seed) < SET_ASIDE
    return data.take(~held_P), data.take(held_P & data.random_P)


def promised(
    plan: CommitteePlan, held: LabelledRows, max_error: float
) -> tuple[CommitteePlan, Promise]:
    """The plan that asks until its threshold is met, and the promise that ``held`` certifies."""
    path_PT, end_P = paths(plan, held.margins_PK, held.category_P)
    best = Promise(max_error, float("inf"), len(end_P), 0, 0, 1.0)
    # (1 - max_error)^n <= 1 - CONFIDENCE: so many right answers are a proof
    fewest = POWER * np.log(1 - CONFIDENCE) / np.log(1 - max_error)
    for level in LEVELS:
        threshold = float(np.log(level / (1 - level)))
        answered_P, wrong_P = outcome(path_PT, end_P, threshold, held.sign_P)
        answered_groups = np.unique(held.group_P[answered_P > 0])
        if len(answered_groups) < fewest:
            continue  # no test of so few has power, and none is made

        n, wrong = effective(answered_P, wrong_P, held.group_P)
        # a fixed sequence ends at the first hypothesis that is not rejected
        if tail(wrong, n, max_error) > 1 - CONFIDENCE:
            break

        best = Promise(
            max_error,
            threshold,
            labels=len(end_P),
            answered=int(answered_P.sum()),
            wrong=int(wrong_P.sum()),
            bound=upper(wrong, n),
        )

    # Where nothing can be promised everything is abstained on: one arm's answer is as good.
    bound = best.threshold if best.kept else 0.0
    return _asking_until(plan, bound), best


def outcome(path_PT: Float, end_P: Int, threshold: float, sign_P: Float) -> tuple[Float, Float]:
    """(P,) 1 where a row is answered, and (P,) 1 where it is answered wrongly.

    Arms are asked until |log-odds| meets the threshold.
    """
    n_rows, length = path_PT.shape
    was_asked_PT = np.arange(length) <= end_P[:, None]
    # a tie is no answer, whatever the threshold
    is_answer_PT = (np.abs(path_PT) >= threshold) & (path_PT != 0)
    sure_PT = is_answer_PT & was_asked_PT
    answered_P = sure_PT.any(axis=1)
    # argmax of booleans: the first arm at which the row is sure
    first_P = np.argmax(sure_PT, axis=1)
    verdict_P = path_PT[np.arange(n_rows), first_P]
    wrong_P = answered_P & (verdict_P * sign_P < 0)

    return answered_P.astype(np.float64), wrong_P.astype(np.float64)


def effective(answered_P: Float, wrong_P: Float, group_P: Int) -> tuple[float, float]:
    """(answers, wrong ones) divided by the design effect of whole prompts, at least 1.

    It is exact where each prompt has one row.
    """
    n = float(answered_P.sum())
    wrong = float(wrong_P.sum())
    share = wrong / n if n else 0.0
    if not 0 < share < 1:
        # without both outcomes the effect cannot be estimated: prompts count once
        answered_groups = np.unique(group_P[answered_P > 0])
        prompts = float(len(answered_groups))
        return prompts, prompts * share

    _, index = np.unique(group_P, return_inverse=True)
    # residuals summed by prompt: their variance over the binomial one is the effect
    residual_P = wrong_P - share * answered_P
    per_prompt = np.bincount(index, residual_P)
    binomial = n * share * (1 - share)
    # At least 1: rows that happen to disagree inside prompts must not add evidence.
    effect = max(float((per_prompt**2).sum()) / binomial, 1.0)
    return n / effect, wrong / effect


def tail(wrong: float, n: float, max_error: float) -> float:
    """P(Binomial(n, max_error) <= wrong).

    The incomplete beta function also takes counts that are not whole.
    """
    if wrong >= n:
        return 1.0
    return float(betainc(n - wrong, wrong + 1, 1 - max_error))


def upper(wrong: float, n: float) -> float:
    """Clopper-Pearson's one-sided upper bound of the share of wrong answers at CONFIDENCE."""
    if wrong >= n:
        return 1.0
    return float(betaincinv(wrong + 1, n - wrong, CONFIDENCE))


def _asking_until(plan: CommitteePlan, threshold: float) -> CommitteePlan:
    """The plan with one bound for every number of arms asked, whatever the price."""
    length = plan.bound_TL.shape[0]
    # A grid of a single price: `at_price` then gives its column at any price.
    bound_TL = np.full((length, 1), threshold)
    return replace(plan, bound_TL=bound_TL, prices_L=np.zeros(1), cost_L=plan.cost_L[:1])
