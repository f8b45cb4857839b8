"""Should the committee play at all? Only where nested, grouped cross-validation says so with confidence.

Every outer fold fits the whole committee (intensity, categories, temperatures and stopping inside) and picks the best single arm on
the same rows; the rows left out give paired differences in accuracy, whose cluster-robust lower bound must lie above zero.
"""

from dataclasses import dataclass

import numpy as np

from reward_router.committee.labelled import Labelled, assign_folds
from reward_router.committee.plan import fit_plan, walk
from reward_router.types import Float, Int

OUTER_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict on the committee: accuracies out of fold, their difference and its one-sided lower bound."""

    open: bool
    committee: float
    single: float
    gain: float
    lower: float
    calls: float
    n: int

    def numbers(self) -> list[float]:
        """The fields in order, as numbers."""
        return [float(self.open), self.committee, self.single, self.gain, self.lower, self.calls, float(self.n)]

    @classmethod
    def of(cls, numbers: Float) -> "Gate":
        """The gate that `numbers` wrote."""
        opened, committee, single, gain, lower, calls, n = map(float, numbers)
        return cls(bool(opened), committee, single, gain, lower, calls, int(n))


def best_single(margins_PK: Float, sign_P: Float, cost_K: Float, price: float) -> int:
    """The arm with the best accuracy (ties and missing one half) less its price; the first among equals. O(P K)."""
    right = 0.5 + 0.5 * np.sign(np.nan_to_num(margins_PK)) * sign_P[:, None]
    return int(np.argmax(right.mean(0) - price * cost_K))


def credit(answer_P: Float, sign_P: Float) -> Float:
    """1 where the signed answer is right, 1/2 where it is 0, else 0."""
    return np.asarray(0.5 + 0.5 * np.sign(answer_P) * sign_P)


def clustered_error(value_P: Float, group_P: Int) -> float:
    """Standard error of the mean of ``value_P`` with whole groups as the unit. O(P)."""
    _, index = np.unique(group_P, return_inverse=True)
    total = np.bincount(index, value_P - value_P.mean())
    n_groups = len(total)
    if n_groups < 2:
        return float("inf")
    return float(np.sqrt((total**2).sum() * n_groups / (n_groups - 1)) / len(value_P))


def nested_gate(data: Labelled, cost_K: Float, max_calls: int, price: float, seed: int, z: float = 1.645) -> Gate:
    """Grouped cross-validation of the whole procedure against the best single arm; open iff the lower bound is above 0."""
    fold = assign_folds(data.group_P, OUTER_FOLDS, seed + 1)
    parts = [_held_out(data, fold == f, cost_K, max_calls, price, seed) for f in np.unique(fold)]
    ours, single, calls, group = (np.concatenate(column) for column in zip(*parts, strict=True))
    gain = ours - single
    lower = float(gain.mean()) - z * max(clustered_error(gain, group), 0.5 / max(len(gain), 1))
    return Gate(
        lower > 0, float(ours.mean()), float(single.mean()), float(gain.mean()), lower, float(calls.mean()), len(gain)
    )


def _held_out(
    data: Labelled, held: np.ndarray, cost_K: Float, max_calls: int, price: float, seed: int
) -> tuple[Float, Float, Float, Int]:
    train, test = data.take(~held), data.take(held & data.random_P)
    plan = fit_plan(train, cost_K, max_calls, seed, np.array([price]))
    log_odds, asked = walk(plan, test.margins_PK, test.category_P, price)
    sign, trained = test.sign_P, train.take(train.random_P)
    arm = best_single(trained.margins_PK, trained.sign_P, cost_K, price)
    return (
        credit(log_odds, sign),
        credit(np.nan_to_num(test.margins_PK[:, arm]), sign),
        asked.sum(1).astype(float),
        test.group_P,
    )
