"""Should the committee play at all? Only where nested, grouped cross-validation says so with confidence.

Every outer fold fits the whole committee (intensity, categories, temperatures and stopping inside) and picks the best single arm on
the same rows; the rows left out give paired differences in accuracy, whose cluster-robust lower bound must lie above zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.fit import Shape, fit_plan
from reward_router.committee.labelled import Labelled, assign_folds
from reward_router.committee.plan import walk
from reward_router.types import Float, Int

OUTER_FOLDS = 5
REPEATS = 2
RULES = ("lower95", "noninferior", "mean")
Z95 = 1.645
MARGIN = 0.01  # of non-inferiority: the accuracy that may be lost with confidence at most 95 %


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


def opens(rule: str, gain: float, lower: float) -> bool:
    """Whether a rule lets the committee play, given its gain out of fold and the gain's one-sided lower 95 % bound.

    >>> [opens(rule, 0.012, -0.004) for rule in RULES]
    [False, True, True]
    """
    if rule == "lower95":
        return lower > 0
    return gain > 0 and (rule == "mean" or lower > -MARGIN)


def nested_gate(
    data: Labelled, cost_K: Float, max_calls: int, price: float, seed: int, rule: str = "lower95", signed: bool = False
) -> Gate:
    """Repeated grouped cross-validation of the whole procedure against the best single arm, both chosen inside.

    ``rule`` "lower95": open iff the one-sided lower 95 % bound of the gain is above 0; "mean": iff the gain is; "noninferior": iff the gain
    is, and the bound is above -1 percentage point.
    """
    drawn = data.take(data.random_P)
    ours, single, calls = (np.zeros(len(drawn.label_P)) for _ in range(3))
    for repeat in range(REPEATS):
        fold = assign_folds(data.group_P, OUTER_FOLDS, seed + 1 + repeat)
        for f in np.unique(fold):
            held = fold == f
            parts = _held_out(data, held, cost_K, max_calls, price, seed, signed)
            for total, part in zip((ours, single, calls), parts, strict=True):
                total[held[data.random_P]] += part / REPEATS
    gain_P = ours - single
    gain, error = float(gain_P.mean()), max(clustered_error(gain_P, drawn.group_P), 0.5 / len(gain_P))
    lower = gain - Z95 * error
    means = float(ours.mean()), float(single.mean())
    return Gate(opens(rule, gain, lower), *means, gain, lower, float(calls.mean()), len(gain_P))


def signed_wins(data: Labelled, source_P: Int, cost_K: Float, max_calls: int, price: float, seed: int) -> Gate | None:
    """Do signed weights carry over to a source they were not fitted on? None where there are fewer than two sources.

    Each source is left out once; open iff on no source the signed committee is less accurate than the safe one, and the pooled
    one-sided lower 95 % bound of its gain is above 0. A random split is no test: there negative weights win by fitting the benchmark.
    """
    sources = np.unique(source_P)
    if len(sources) < 2:
        return None
    gains, safe_rows, signed_rows, calls, rows = [], [], [], [], data.random_P
    for source in sources:
        held = source_P == source
        train, test = data.take(~held), data.take(held & rows)
        judged = []
        for signed in (False, True):
            plan = fit_plan(
                train,
                Shape(cost_K, min(max_calls, len(cost_K)), "signed" if signed else "safe"),
                seed,
                np.array([price]),
            )
            log_odds, asked = walk(plan, test.margins_PK, test.category_P, price)
            judged.append(credit(log_odds, test.sign_P))
        gains.append(float((judged[1] - judged[0]).mean()))
        safe_rows.append(judged[0])
        signed_rows.append(judged[1])
        calls.append(asked.sum(1))
    safe, signed_right = np.concatenate(safe_rows), np.concatenate(signed_rows)
    group = np.concatenate([data.group_P[(source_P == source) & rows] for source in sources])
    gain = float((signed_right - safe).mean())
    lower = gain - Z95 * max(clustered_error(signed_right - safe, group), 0.5 / len(group))
    mean_calls = float(np.concatenate(calls).mean())
    return Gate(
        lower > 0 and min(gains) >= 0,
        float(signed_right.mean()),
        float(safe.mean()),
        gain,
        lower,
        mean_calls,
        len(group),
    )


def _held_out(
    data: Labelled, held: NDArray[np.bool_], cost_K: Float, max_calls: int, price: float, seed: int, signed: bool
) -> tuple[Float, Float, Float]:
    train, test = data.take(~held), data.take(held & data.random_P)
    plan = fit_plan(
        train, Shape(cost_K, min(max_calls, len(cost_K)), "signed" if signed else "safe"), seed, np.array([price])
    )
    log_odds, asked = walk(plan, test.margins_PK, test.category_P, price)
    trained = train.take(train.random_P)
    arm = best_single(trained.margins_PK, trained.sign_P, cost_K, price)
    alone = np.nan_to_num(test.margins_PK[:, arm])
    return credit(log_odds, test.sign_P), credit(alone, test.sign_P), asked.sum(1).astype(np.float64)
