"""What would each way of judging be worth on labels it did not see?

This is repeated, nested cross-validation in which rows of one prompt stay together.

Every outer fold fits each candidate from scratch (intensity, categories, temperatures and stopping
inside) and picks the best single arm on the same rows; the rows left out give paired differences.
One folding's luck is not the verdict: figures are means over foldings, which are added until the
verdict no longer hangs on them. The foldings are fixed, so nothing here depends on the committee's
seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.fit import FitShape, fit_plan
from reward_router.committee.labelled import LabelledRows, assign_folds
from reward_router.committee.plan import walk
from reward_router.types import Float, Int

OUTER_FOLDS = 5
FEWEST_FOLDINGS = 2
MOST_FOLDINGS = 5
CLEAR = 2.0  # standard errors between foldings that a verdict must be away from turning
NOTHING = 5e-4  # a twentieth of a point decides nothing worth another folding
Z95 = 1.645
SINGLE = "single"
OF_ALL = ("mean of all", "vote of all")
"""What asking every arm gives: yardsticks, not candidates."""
DISCOUNTS = (1.0, 1 / 3, 1 / 25)
"""Of the price, for candidates that fall behind the yardsticks."""


class Setting(NamedTuple):
    """What every candidate is fitted with.

    It is the relative costs, the most arms, and the price of a unit of relative cost.
    """

    cost_K: Float
    max_calls: int
    price: float

    @property
    def prices(self) -> Float:
        """The price and its discounts, ascending."""
        return self.price * np.array(DISCOUNTS[::-1])

    def shape(self, weights: str) -> FitShape:
        """The shape of a fit with these weights."""
        return FitShape(self.cost_K, min(self.max_calls, len(self.cost_K)), weights)


@dataclass(frozen=True)
class Trial:
    """One candidate out of fold, a row a labelled pair and a column a folding.

    ``right_PR`` holds 1, 1/2 or 0; ``cost_PR`` and ``calls_PR`` what was asked.
    """

    right_PR: Float
    cost_PR: Float
    calls_PR: Float

    def utility_P(self, price: float) -> Float:
        """(P,) accuracy less the price of what was asked, mean over foldings."""
        return np.asarray((self.right_PR - price * self.cost_PR).mean(axis=1))

    def joined(self, other: "Trial") -> "Trial":
        """With the foldings of another trial."""
        return Trial(
            np.concatenate([self.right_PR, other.right_PR], axis=1),
            np.concatenate([self.cost_PR, other.cost_PR], axis=1),
            np.concatenate([self.calls_PR, other.calls_PR], axis=1),
        )


Trials = dict[str, Trial]


class Difference(NamedTuple):
    """The mean of paired differences.

    ``error`` is its clustered standard error, ``between`` how far foldings alone move it.
    """

    mean: float
    error: float
    between: float

    def lower(self, z: float = Z95) -> float:
        """The one-sided lower bound."""
        return self.mean - z * self.error

    def settled(self, z: float = 0.0) -> bool:
        """Whether more foldings would hardly carry the bound at ``z`` (0: the mean) across 0."""
        return self.between < NOTHING or abs(self.lower(z)) > CLEAR * self.between


def best_single(margins_PK: Float, sign_P: Float, cost_K: Float, price: float) -> int:
    """The arm with the best accuracy less its price, the first among equals. O(P K).

    Ties and missing scores count one half.
    """
    right = 0.5 + 0.5 * np.sign(np.nan_to_num(margins_PK)) * sign_P[:, None]
    return int(np.argmax(right.mean(0) - price * cost_K))


def signed_credit(answer_P: Float, sign_P: Float) -> Float:
    """1 where the signed answer is right, 1/2 where it is 0, else 0."""
    return np.asarray(0.5 + 0.5 * np.sign(answer_P) * sign_P)


def clustered_error(value_P: Float, group_P: Int) -> float:
    """Standard error of the mean of ``value_P`` with whole groups as the unit. O(P)."""
    _, index = np.unique(group_P, return_inverse=True)
    # Summed by group first: rows of one prompt move together.
    about_P = value_P - value_P.mean()
    total = np.bincount(index, about_P)
    n_groups = len(total)
    # one group tells nothing of how groups differ
    if n_groups < 2:
        return float("inf")
    # The sandwich variance of a sum, with its small-sample factor G / (G - 1).
    variance = (total**2).sum() * n_groups / (n_groups - 1)
    return float(np.sqrt(variance) / len(value_P))


def difference(one_PR: Float, other_PR: Float, group_P: Int) -> Difference:
    """one - other, paired; the standard error is at least that of half a row."""
    gap_PR = one_PR - other_PR
    mean_P = gap_PR.mean(axis=1)
    n_rows, foldings = gap_PR.shape

    # a difference that never varies is still not certain
    error = max(clustered_error(mean_P, group_P), 0.5 / n_rows)

    # how far one folding's luck moves the mean
    spread = float("inf")
    if foldings > 1:
        mean_R = gap_PR.mean(axis=0)
        spread = float(mean_R.std(ddof=1))
    return Difference(float(mean_P.mean()), error, spread / np.sqrt(foldings))


def nested_trials(
    data: LabelledRows,
    candidates: Sequence[str],
    setting: Setting,
    settled: Callable[[Trials], bool],
) -> Trials:
    """The best single arm and every candidate out of fold, on rows whose label was drawn at random.

    Foldings are added until ``settled`` says that the verdict is clear of them, at most
    MOST_FOLDINGS.
    """
    trials: Trials = {}
    for number in range(MOST_FOLDINGS):
        more = _folding(data, candidates, setting, number)
        if trials:
            trials = {name: trials[name].joined(trial) for name, trial in more.items()}
        else:
            trials = more

        if number + 1 >= FEWEST_FOLDINGS and settled(trials):
            break

    return trials


def _folding(
    data: LabelledRows, candidates: Sequence[str], setting: Setting, number: int
) -> Trials:
    """All candidates over one folding."""
    fold_P = assign_folds(data.group_P, OUTER_FOLDS, number + 1)
    drawn_P = data.random_P
    n_stages = len(DISCOUNTS)
    stages = []
    for name in candidates:
        stages += [discounted(name, stage) for stage in range(n_stages)]

    table = {name: np.zeros((3, len(fold_P))) for name in (SINGLE, *OF_ALL, *stages)}
    for fold in np.unique(fold_P):
        held_P = fold_P == fold
        # Only rows that were labelled at random say what the stream is like.
        where = held_P & drawn_P
        # Everything that is fitted comes from these rows, the best single arm too.
        train = data.take(~held_P)
        test = data.take(where)
        table[SINGLE][:, where] = _alone(train.take(train.random_P), test, setting)
        # what asking everybody gives, on the same rows
        for name in OF_ALL:
            table[name][:, where] = _of_all(name, train, test, setting)

        for name in candidates:
            judged = _judged(train, test, setting, name, number)
            for stage, rows in enumerate(judged):
                table[discounted(name, stage)][:, where] = rows

    return {name: _trial(rows[:, drawn_P]) for name, rows in table.items()}


def _trial(rows_3P: Float) -> Trial:
    """Right, cost and calls of one folding."""
    return Trial(rows_3P[0, :, None], rows_3P[1, :, None], rows_3P[2, :, None])


def _alone(train: LabelledRows, test: LabelledRows, setting: Setting) -> Float:
    # The arm is chosen on the rows to learn from: chosen on the others it would look too good.
    price = setting.price
    arm = best_single(train.margins_PK, train.sign_P, setting.cost_K, price)
    margin_P = np.nan_to_num(test.margins_PK[:, arm])
    right_P = signed_credit(margin_P, test.sign_P)

    # Every row costs one call of that arm.
    cost = setting.cost_K[arm]
    cost_P = np.full_like(right_P, cost)
    calls_P = np.ones_like(right_P)
    return np.stack([right_P, cost_P, calls_P])


def discounted(name: str, number: int) -> str:
    """The name of a candidate's trial at a discounted price; its own at the full one."""
    return name if number == 0 else f"{name}, price x {DISCOUNTS[number]:.2g}"


def _of_all(name: str, train: LabelledRows, test: LabelledRows, setting: Setting) -> Float:
    """Right, cost and calls where every arm is asked.

    Arms are weighed alike on margins of unit scale, or by the log-odds of their accuracy, of either
    sign.
    """
    drawn = train.take(train.random_P)
    if name == OF_ALL[0]:
        calibrator = setting.shape("mean").calibrator(drawn)
        value_P = calibrator.log_odds(test.margins_PK).sum(axis=1)
    else:
        drawn_margins_PK = np.nan_to_num(drawn.margins_PK)
        right_PK = signed_credit(drawn_margins_PK, drawn.sign_P[:, None])
        # Laplace's rule, so that an arm that was always right has finite log-odds.
        hits_K = right_PK.sum(axis=0) + 1
        share_K = hits_K / (len(right_PK) + 2)
        weight_K = np.log(share_K / (1 - share_K))
        side_PK = np.sign(np.nan_to_num(test.margins_PK))
        value_P = side_PK @ weight_K

    right_P = signed_credit(value_P, test.sign_P)
    n_arms = len(setting.cost_K)
    cost_P = np.full_like(right_P, setting.cost_K.sum())
    calls_P = np.full_like(right_P, n_arms)
    return np.stack([right_P, cost_P, calls_P])


def _judged(
    train: LabelledRows, test: LabelledRows, setting: Setting, weights: str, seed: int
) -> list[Float]:
    """(3, rows) right, cost and calls at each of DISCOUNTS of the price; one fit serves all."""
    plan = fit_plan(train, setting.shape(weights), seed, setting.prices)
    judged = []
    # From the dearest price: DISCOUNTS begin with none.
    for price in setting.prices[::-1]:
        log_odds_P, asked_PK = walk(plan, test.margins_PK, test.category_P, float(price))
        right_P = signed_credit(log_odds_P, test.sign_P)
        cost_P = asked_PK @ setting.cost_K
        calls_P = asked_PK.sum(1)
        judged.append(np.stack([right_P, cost_P, calls_P]))

    return judged


def over_sources(
    data: LabelledRows, source_P: Int, setting: Setting, seed: int
) -> list[tuple[NDArray[np.bool_], Trials]]:
    """``safe`` and ``signed`` judged on each source by what all the others taught.

    Returns the source's rows and the trials of each.
    """
    by_source = []
    for source in np.unique(source_P):
        here_P = source_P == source
        train = data.take(~here_P)
        test = data.take(here_P & data.random_P)
        trials = {}
        for name in ("safe", "signed"):
            at_full_price = _judged(train, test, setting, name, seed)[0]
            trials[name] = _trial(at_full_price)

        by_source.append((here_P & data.random_P, trials))

    return by_source
