"""What routing has to beat: one-call rules, K-call committees, and the bound.

All are pure functions of a :class:`Split`, trained on its training rows.

Aggregates come raw and calibrated, because raw scores of different arms share no scale.
``mean`` and ``median`` calibrated use each arm's log-odds (``committee.Calibrator``). ``wco`` and
``uwo`` need one value for each response, so theirs are z-scores of the arm with the training
side's mean and deviation. An arm that abstained takes no part. Ties of an aggregate count 1/2.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.committee import PRICE, Committee
from reward_router.committee.committee import FEWEST_LABELS
from reward_router.committee.fit import FitShape, fit_plan
from reward_router.committee.labelled import LabelledRows, labelled_rows
from reward_router.committee.plan import CommitteePlan
from reward_router.errors import InputError
from reward_router.replay.protocols import RowOutcome, Split
from reward_router.replay.records import Records, credit
from reward_router.types import Float, Int

_STEPS = 60
# The committee's costs must be above 0, and a file may say that a call is free.
_CHEAPEST = 1e-6


def _calls_of_all(split: Split) -> Float:
    """(T, K) one call of every arm that has a score on the row."""
    return (~np.isnan(split.records.margins_PK[split.test_P])).astype(np.float64)


def _judged(split: Split, margin_T: Float) -> RowOutcome:
    label_T = split.records.label_P[split.test_P]
    return credit(margin_T, label_T), _calls_of_all(split)


def _one_call(split: Split, arm_T: Int) -> RowOutcome:
    calls_TK = np.zeros((len(arm_T), len(split.records.arms)))
    calls_TK[np.arange(len(arm_T)), arm_T] = 1.0
    return split.records.correct_PK[split.test_P, arm_T], calls_TK


def _best_present(split: Split, value_TK: Float) -> RowOutcome:
    """The arm of the highest value among those with a score on the row."""
    allowed_TK = split.records.eligible(value_TK, split.test_P)
    return _one_call(split, allowed_TK.argmax(axis=1))


def best_train(split: Split) -> RowOutcome:
    """The arm most often right on the training folds."""
    accuracy_K = split.records.correct_PK[split.train_P].mean(axis=0)
    return _best_present(split, np.tile(accuracy_K, (len(split.test_P), 1)))


def category_best(split: Split) -> RowOutcome:
    """The arm most often right in the row's category on the training folds.

    A category that was not seen there gets the arm that is best overall.
    """
    correct_PK = split.records.correct_PK
    category_P = split.records.category_P
    category_T = category_P[split.train_P]
    overall_K = correct_PK[split.train_P].mean(axis=0)

    # A category that the training rows lack keeps the overall accuracies.
    n_categories = len(split.records.categories)
    accuracy_CK = np.tile(overall_K, (n_categories, 1))
    for code in np.unique(category_T):
        rows = split.train_P[category_T == code]
        accuracy_CK[code] = correct_PK[rows].mean(axis=0)

    judged_P = category_P[split.test_P]
    return _best_present(split, accuracy_CK[judged_P])


def by_column(column: str = "category", prior: float = 10.0) -> Callable[[Split], RowOutcome]:
    """A fixed table from a column's values to arms: each value's best arm on the training rows.

    No text is read. A value that the training rows lack gets the arm that is best overall.

    Args:
        column: the column whose values are looked up.
        prior: pseudo-rows at an arm's overall accuracy, which keep a rare value from being won by
            luck; 0 gives `category_best`.
    """
    if not prior >= 0:
        raise InputError(f"router by: prior={prior} rows, allowed: 0 or more")

    def method(split: Split) -> RowOutcome:
        code_P, values = split.records.tag(column)
        n_values = len(values)
        code_T = code_P[split.train_P]
        correct_TK = split.records.correct_PK[split.train_P]
        overall_K = correct_TK.mean(axis=0)

        # Right rows of each value, and how many rows it has.
        right_CK = np.zeros((n_values, len(overall_K)))
        np.add.at(right_CK, code_T, correct_TK)
        rows_C1 = np.bincount(code_T, minlength=n_values)[:, None]

        # Shrunk towards the overall accuracy; without a prior an empty value divides by 0.
        weight_C1 = np.maximum(rows_C1 + prior, 1e-12)
        shrunk_CK = (right_CK + prior * overall_K) / weight_C1
        table_CK = np.where(rows_C1 > 0, shrunk_CK, overall_K)
        return _best_present(split, table_CK[code_P[split.test_P]])

    return method


def logistic(penalty: float = 10.0) -> Callable[[Split], RowOutcome]:
    """Logistic regression for each arm of being right on the context.

    The arm with the highest predicted chance judges. ``penalty`` is the L2 penalty.
    """

    def method(split: Split) -> RowOutcome:
        x_PD = _with_intercept(split.context_PD)
        correct_TK = split.records.correct_PK[split.fit_P]
        weight_DK = fit_logistic(x_PD[split.fit_P], correct_TK, penalty)
        return _best_present(split, x_PD[split.test_P] @ weight_DK)

    return method


def ridge(penalty: float = 10.0) -> Callable[[Split], RowOutcome]:
    """Ridge regression for each arm of being right on the context.

    This is LinUCB's mean, given the label of every arm. ``penalty`` is the L2 penalty.
    """

    def method(split: Split) -> RowOutcome:
        x_PD = _with_intercept(split.context_PD)
        x_TD = x_PD[split.fit_P]
        y_TK = split.records.correct_PK[split.fit_P]
        # One Gram matrix for all arms: they share the rows and differ in the targets alone.
        gram_DD = x_TD.T @ x_TD + penalty * _free_intercept(x_TD.shape[1])
        weight_DK = np.linalg.solve(gram_DD, x_TD.T @ y_TK)
        return _best_present(split, x_PD[split.test_P] @ weight_DK)

    return method


def _with_intercept(context_PD: Float) -> Float:
    return np.hstack([np.ones((len(context_PD), 1)), context_PD])


def _free_intercept(width: int) -> Float:
    """The identity, but for a first entry of almost nothing: the intercept is not penalised."""
    diagonal_D = np.ones(width)
    diagonal_D[0] = 1e-6
    return np.diag(diagonal_D)


def fit_logistic(x_TD: Float, y_TK: Float, penalty: float, free_first: bool = True) -> Float:
    """(D, K) weights of K logistic regressions with an L2 penalty. O(steps T D K).

    Minorise-maximise with the fixed curvature X'X/4 (Boehning 1992): one factorisation serves
    every arm and step.

    Args:
        x_TD: the rows, which all K regressions share.
        y_TK: targets in [0, 1].
        penalty: of the weights.
        free_first: whether the first column is an intercept, which is not penalised.
    """
    width = x_TD.shape[1]
    shape_DD = _free_intercept(width) if free_first else np.eye(width)
    ridge_DD = penalty * shape_DD
    # X'X/4 bounds the curvature everywhere, so it is inverted once for all arms and steps.
    bound_DD = np.linalg.inv(x_TD.T @ x_TD / 4 + ridge_DD)

    weight_DK = np.zeros((width, y_TK.shape[1]))
    for _ in range(_STEPS):
        # Clipped at 40, where the sigmoid is 0 or 1 to the last bit and exp cannot overflow.
        logit_TK = np.clip(x_TD @ weight_DK, -40, 40)
        p_TK = 1.0 / (1.0 + np.exp(-logit_TK))
        gradient_DK = x_TD.T @ (y_TK - p_TK) - ridge_DD @ weight_DK
        step_DK = bound_DD @ gradient_DK
        weight_DK += step_DK
        if np.abs(step_DK).max() < 1e-5:
            break
    return weight_DK


def majority(split: Split) -> RowOutcome:
    """Each arm has one vote; an even split counts 1/2."""
    vote_TK = np.sign(np.nan_to_num(split.records.margins_PK[split.test_P]))
    return _judged(split, vote_TK.sum(axis=1))


def weighted_vote(split: Split) -> RowOutcome:
    """Votes weighted by the log-odds of each arm's accuracy on the training folds.

    The accuracy is (right + 1)/(n + 2), and a tie is half right.
    """
    vote_PK = np.sign(np.nan_to_num(split.records.margins_PK))
    correct_TK = split.records.correct_PK[split.train_P]

    # One right and one wrong pseudo-row keep the log-odds of a perfect arm finite.
    right_K = correct_TK.sum(axis=0) + 1
    share_K = right_K / (len(correct_TK) + 2)
    weight_K = np.log(share_K / (1 - share_K))
    return _judged(split, vote_PK[split.test_P] @ weight_K)


def stacking(penalty: float = 1.0) -> Callable[[Split], RowOutcome]:
    """Logistic regression of the label on all arms' calibrated log-odds.

    It has no intercept, so it is symmetric in a and b. ``penalty`` is the L2 penalty.
    """

    def method(split: Split) -> RowOutcome:
        train_TK, test_TK = split.log_odds
        target_T1 = (split.records.label_P[split.fit_P, None] > 0).astype(np.float64)
        weight_K1 = fit_logistic(train_TK, target_T1, penalty, free_first=False)
        return _judged(split, (test_TK @ weight_K1)[:, 0])

    return method


def committee_method(
    price: float = PRICE,
    max_calls: int = 16,
    gate: str = "auto",
    weights: str = "auto",
    max_error: float | None = None,
) -> Callable[[Split], RowOutcome]:
    """One arm, then another only where it pays (``reward_router.committee``).

    Until its gate opens, the best single arm judges. The options are those of
    ``committee.Committee``.

    Args:
        price: accuracy that one call of mean cost must buy.
        max_calls: calls a row at most.
        gate: when the committee may replace the best single arm.
        weights: ``auto`` lets weights of either sign compete on folds of one source, and never
            where the judged rows come from elsewhere.
        max_error: share of wrong answers that is promised. A pair that stays too unsure counts as
            the better guess here; what was answered is in ``promise``.
    """
    options: dict[str, Any] = {
        "max_calls": max_calls,
        "gate": gate,
        "weights": weights,
        "max_error": max_error,
    }
    # Built once for its checks alone: bad settings are an error before the first run.
    Committee([1.0, 1.0], price, **options)

    def method(split: Split) -> RowOutcome:
        judge = fitted_committee(split, price, options)
        return judged_at(judge, split, judge.price)

    return method


def fitted_committee(split: Split, price: float, options: Mapping[str, Any]) -> Committee:
    """A committee that learned from the training rows, with arms at the file's mean prices."""
    records = split.records
    train_P = split.fit_P
    cost_K = np.maximum(records.price_PK.mean(axis=0), _CHEAPEST)
    judge = Committee(cost_K, price, **options)
    # So few teach it nothing, and one alone would be a label for one side.
    if len(train_P) < FEWEST_LABELS:
        return judge

    margins_TK, label_T = _turned(split)
    codes = records.category_P[train_P]
    names = [records.categories[code] for code in codes]
    # Rows of other sets are no sample of the rows that are judged.
    origin = "other" if split.carried else "stream"
    return judge.fit(margins_TK, label_T, records.group_P[train_P], names, origin=origin)


def _turned(split: Split) -> tuple[Float, NDArray[np.bool_]]:
    """Margins and labels of the training rows, the better response on side a and b in turn.

    A file may put the better response always first; a committee must not learn that.
    """
    records = split.records
    train_P = split.fit_P
    label_T = np.arange(len(train_P)) % 2 == 0
    a_is_better_T = records.label_P[train_P] > 0
    # The sign that brings the better response to the side that its turn asks for.
    turned_T = np.where(a_is_better_T == label_T, 1.0, -1.0)
    margins_TK = records.margins_PK[train_P]
    return margins_TK * turned_T[:, None], label_T


def fitting_rows(split: Split) -> LabelledRows:
    """The training rows as the committee's functions take them.

    Every label counts as drawn at random.
    """
    margins_TK, label_T = _turned(split)
    records = split.records
    train_P = split.fit_P
    return labelled_rows(
        margins_TK, label_T, records.group_P[train_P], records.category_P[train_P], None, None
    )


def planned(rows: LabelledRows, max_calls: int = 16) -> CommitteePlan:
    """The committee's plan without weights of either sign, every call at one price."""
    n_arms = rows.margins_PK.shape[1]
    return fit_plan(rows, FitShape(np.ones(n_arms), min(max_calls, n_arms), "safe"), 0)


def judged_at(judge: Committee, split: Split, price: float) -> RowOutcome:
    """The test rows at one price."""
    records = split.records
    test_P = split.test_P
    codes = records.category_P[test_P]
    names = [records.categories[code] for code in codes]

    prob_T, _, called_TK = judge.judge(records.margins_PK[test_P], names, price)
    # A probability of 1/2 is a tie, as a margin of 0 is.
    accuracy_T = credit(prob_T - 0.5, records.label_P[test_P])
    return accuracy_T, called_TK.astype(np.float64)


def aggregate(
    how: str, scores: str = "calibrated", penalty: float = 1.0
) -> Callable[[Split], RowOutcome]:
    """One number made of all arms' values.

    Args:
        how: ``mean``, ``median``, ``wco`` (the minimum) or ``uwo`` (mean - penalty x variance).
        scores: ``raw`` or ``calibrated`` values.
        penalty: of the variance, for ``uwo``.
    """
    if how not in _REDUCE or scores not in ("raw", "calibrated"):
        raise InputError(
            f"aggregate {how} of {scores} scores; "
            f"allowed: {', '.join(_REDUCE)} of raw or calibrated"
        )
    reduce = _REDUCE[how]

    def method(split: Split) -> RowOutcome:
        # Mean and median of a difference can be taken of the pair's log-odds directly.
        if scores == "calibrated" and how in ("mean", "median"):
            # Log-odds are 0 where an arm is missing, which would pull a mean towards no verdict.
            absent_TK = np.isnan(split.records.margins_PK[split.test_P])
            test_TK = np.where(absent_TK, np.nan, split.log_odds[1])
            return _judged(split, reduce(test_TK, penalty))
        first_TK, second_TK = _responses(split, scores)
        return _judged(split, reduce(first_TK, penalty) - reduce(second_TK, penalty))

    return method


def _responses(split: Split, scores: str) -> tuple[Float, Float]:
    """(T, K) values of the two responses on the test rows, as recorded or as z-scores."""
    first_PK = split.records.first_PK
    second_PK = split.records.second_PK
    first_TK = first_PK[split.test_P]
    second_TK = second_PK[split.test_P]
    if scores == "raw":
        return first_TK, second_TK
    train_QK = np.concatenate([first_PK[split.fit_P], second_PK[split.fit_P]])
    with warnings.catch_warnings():
        # An arm without one training score stays NaN: it takes no part.
        warnings.simplefilter("ignore", RuntimeWarning)
        centre_K = np.nanmean(train_QK, axis=0)
        scale_K = np.nanstd(train_QK, axis=0)
    scale_K = np.where(scale_K > 0, scale_K, 1.0)
    return (first_TK - centre_K) / scale_K, (second_TK - centre_K) / scale_K


def _quiet(reduce: Callable[[Float, float], Float]) -> Callable[[Float, float], Float]:
    def reduced(values_TK: Float, penalty: float) -> Float:
        with warnings.catch_warnings():
            # A row on which all arms abstained is NaN and counts 1/2.
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.asarray(reduce(values_TK, penalty))

    return reduced


def _mean_less_variance(values_TK: Float, penalty: float) -> Float:
    # The population variance (ddof 0), as in the best-of-n of Coste et al. 2023.
    return np.asarray(np.nanmean(values_TK, axis=1) - penalty * np.nanvar(values_TK, axis=1))


_REDUCE: dict[str, Callable[[Float, float], Float]] = {
    "mean": _quiet(lambda v, _: np.nanmean(v, axis=1)),
    "median": _quiet(lambda v, _: np.nanmedian(v, axis=1)),
    "wco": _quiet(lambda v, _: np.nanmin(v, axis=1)),  # Coste et al. 2023: worst-case optimisation
    "uwo": _quiet(_mean_less_variance),
}


def oracle(records: Records) -> Int:
    """(P,) an arm that is right wherever some arm is. A bound, not a method: it knows the label."""
    return np.asarray(records.eligible(records.correct_PK).argmax(axis=1))
