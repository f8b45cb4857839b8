"""What routing has to beat: cross-fitted one-call rules, K-call committees, and the bound. Pure functions of a :class:`Split`.

Aggregates come raw and calibrated, because raw scores of different arms share no scale: ``mean``/``median`` calibrated use
each arm's log-odds (``committee.Calibrator``); ``wco``/``uwo`` need a value a response, so theirs are z-scores per arm with the
training side's mean and deviation. An arm that abstained takes no part. Ties of an aggregate count 1/2.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.committee import PRICE, Committee
from reward_router.committee.fit import Shape, fit_plan
from reward_router.committee.labelled import Labelled, labelled_rows
from reward_router.committee.plan import Plan
from reward_router.errors import InputError
from reward_router.replay.protocols import Split
from reward_router.replay.records import Records, credit
from reward_router.types import Float, Int

Verdict = tuple[Float, Float]
_STEPS = 60
_CHEAPEST = 1e-6  # the committee's costs must be above 0


def _asked(split: Split) -> Float:
    return (~np.isnan(split.records.margins_PK[split.test_P])).astype(np.float64)


def _judged(split: Split, margin_T: Float) -> Verdict:
    return credit(margin_T, split.records.label_P[split.test_P]), _asked(split)


def _one_call(split: Split, arm_T: Int) -> Verdict:
    asked_TK = np.zeros((len(arm_T), len(split.records.arms)))
    asked_TK[np.arange(len(arm_T)), arm_T] = 1.0
    return split.records.correct_PK[split.test_P, arm_T], asked_TK


def _best_there(split: Split, value_TK: Float) -> Verdict:
    """The arm of the highest value among those with a score on the row."""
    return _one_call(split, split.records.eligible(value_TK, split.test_P).argmax(axis=1))


def best_train(split: Split) -> Verdict:
    """The arm most often right on the training folds."""
    accuracy_K = split.records.correct_PK[split.train_P].mean(axis=0)
    return _best_there(split, np.tile(accuracy_K, (len(split.test_P), 1)))


def category_best(split: Split) -> Verdict:
    """The arm most often right in the row's category on the training folds; an unseen category gets the overall best."""
    correct_PK, category_P = split.records.correct_PK, split.records.category_P
    train_category = category_P[split.train_P]
    accuracy_CK = np.tile(
        correct_PK[split.train_P].mean(axis=0), (len(split.records.categories), 1)
    )
    for c in np.unique(train_category):
        accuracy_CK[c] = correct_PK[split.train_P[train_category == c]].mean(axis=0)
    return _best_there(split, accuracy_CK[category_P[split.test_P]])


def by_column(column: str = "category", prior: float = 10.0) -> Callable[[Split], Verdict]:
    """A fixed table from a column's values to arms: each value's best arm on the training rows. No text is read.

    ``prior`` pseudo-rows at an arm's overall accuracy keep a rare value from being won by luck (0: `category_best`); an unseen value
    gets the overall best.
    """
    if not prior >= 0:
        raise InputError(f"router by: prior={prior} rows, allowed: 0 or more")

    def method(split: Split) -> Verdict:
        code_P, values = split.records.tag(column)
        correct_TK, code_T = split.records.correct_PK[split.train_P], code_P[split.train_P]
        overall_K = correct_TK.mean(axis=0)
        right_CK = np.zeros((len(values), len(overall_K)))
        np.add.at(right_CK, code_T, correct_TK)
        rows_C1 = np.bincount(code_T, minlength=len(values))[:, None]
        seen_C1 = np.maximum(rows_C1 + prior, 1e-12)
        table_CK = np.where(rows_C1 > 0, (right_CK + prior * overall_K) / seen_C1, overall_K)
        return _best_there(split, table_CK[code_P[split.test_P]])

    return method


def logistic(penalty: float = 10.0) -> Callable[[Split], Verdict]:
    """Per-arm logistic regression of being right on the context; the arm with the highest predicted chance judges."""

    def method(split: Split) -> Verdict:
        x_PD = np.hstack([np.ones((len(split.context_PD), 1)), split.context_PD])
        weight_DK = fit_logistic(x_PD[split.fit_P], split.records.correct_PK[split.fit_P], penalty)
        return _best_there(split, x_PD[split.test_P] @ weight_DK)

    return method


def ridge(penalty: float = 10.0) -> Callable[[Split], Verdict]:
    """Per-arm ridge regression of being right on the context (LinUCB's mean, given every arm's label)."""

    def method(split: Split) -> Verdict:
        x_PD = np.hstack([np.ones((len(split.context_PD), 1)), split.context_PD])
        x_TD, y_TK = x_PD[split.fit_P], split.records.correct_PK[split.fit_P]
        gram_DD = x_TD.T @ x_TD + penalty * _free_intercept(x_TD.shape[1])
        return _best_there(split, x_PD[split.test_P] @ np.linalg.solve(gram_DD, x_TD.T @ y_TK))

    return method


def _free_intercept(width: int) -> Float:
    diagonal_D = np.ones(width)
    diagonal_D[0] = 1e-6
    return np.diag(diagonal_D)


def fit_logistic(x_TD: Float, y_TK: Float, penalty: float, free_first: bool = True) -> Float:
    """(D, K) weights of K L2-penalised logistic regressions on shared rows, targets in [0, 1]. O(steps T D K).

    Minorise-maximise with the fixed curvature X'X/4 (Boehning 1992): one factorisation serves every arm and step.
    """
    width = x_TD.shape[1]
    ridge_DD = penalty * (_free_intercept(width) if free_first else np.eye(width))
    bound_DD = np.linalg.inv(x_TD.T @ x_TD / 4 + ridge_DD)
    weight_DK = np.zeros((width, y_TK.shape[1]))
    for _ in range(_STEPS):
        p_TK = 1.0 / (1.0 + np.exp(-np.clip(x_TD @ weight_DK, -40, 40)))
        step_DK = bound_DD @ (x_TD.T @ (y_TK - p_TK) - ridge_DD @ weight_DK)
        weight_DK += step_DK
        if np.abs(step_DK).max() < 1e-5:
            break
    return weight_DK


def majority(split: Split) -> Verdict:
    """Each arm one vote; an even split counts 1/2."""
    return _judged(
        split, np.sign(np.nan_to_num(split.records.margins_PK[split.test_P])).sum(axis=1)
    )


def weighted_vote(split: Split) -> Verdict:
    """Votes weighted by the log-odds of each arm's accuracy on the training folds, (right + 1)/(n + 2), a tie half right."""
    sign_PK, correct_TK = (
        np.sign(np.nan_to_num(split.records.margins_PK)),
        split.records.correct_PK[split.train_P],
    )
    share_K = (correct_TK.sum(axis=0) + 1) / (len(correct_TK) + 2)
    return _judged(split, sign_PK[split.test_P] @ np.log(share_K / (1 - share_K)))


def stacking(penalty: float = 1.0) -> Callable[[Split], Verdict]:
    """Logistic regression of the label on all arms' calibrated log-odds, no intercept: symmetric in a and b."""

    def method(split: Split) -> Verdict:
        train_TK, test_TK = split.log_odds
        target_T1 = (split.records.label_P[split.fit_P, None] > 0).astype(np.float64)
        return _judged(
            split, (test_TK @ fit_logistic(train_TK, target_T1, penalty, free_first=False))[:, 0]
        )

    return method


def committee(
    price: float = PRICE,
    max_calls: int = 16,
    gate: str = "auto",
    weights: str = "auto",
    max_error: float | None = None,
) -> Callable[[Split], Verdict]:
    """One arm, then another only where it pays (``reward_router.committee``); until its gate opens, the best single arm.

    ``weights=auto`` lets weights of either sign compete on folds of one source, and never where the judged rows come from elsewhere.
    With ``max_error`` a pair that stays too unsure counts as the better guess here; what was answered is in ``promise``.
    """
    options: dict[str, Any] = {
        "max_calls": max_calls,
        "gate": gate,
        "weights": weights,
        "max_error": max_error,
    }
    Committee([1.0, 1.0], price, **options)  # bad settings are an error before the first run

    def method(split: Split) -> Verdict:
        judge = fitted_committee(split, price, options)
        return judged_at(judge, split, judge.price)

    return method


def fitted_committee(split: Split, price: float, options: Mapping[str, Any]) -> Committee:
    """A committee that learned from the training rows, arms at the file's mean prices."""
    records, train_P = split.records, split.fit_P
    judge = Committee(np.maximum(records.price_PK.mean(axis=0), _CHEAPEST), price, **options)
    margins_TK, label_T = _turned(split)
    names = [records.categories[c] for c in records.category_P[train_P]]
    origin = "other" if split.carried else "stream"
    return judge.fit(margins_TK, label_T, records.group_P[train_P], names, origin=origin)


def _turned(split: Split) -> tuple[Float, NDArray[np.bool_]]:
    """Margins and labels of the training rows with both sides in turn, wherever the file puts the better response."""
    records, train_P = split.records, split.fit_P
    label_T = np.arange(len(train_P)) % 2 == 0
    turned_T = np.where((records.label_P[train_P] > 0) == label_T, 1.0, -1.0)
    return records.margins_PK[train_P] * turned_T[:, None], label_T


def fitting_rows(split: Split) -> Labelled:
    """The training rows as the committee's functions take them; every label counts as drawn at random."""
    margins_TK, label_T = _turned(split)
    records, train_P = split.records, split.fit_P
    return labelled_rows(
        margins_TK, label_T, records.group_P[train_P], records.category_P[train_P], None, None
    )


def planned(rows: Labelled, max_calls: int = 16) -> Plan:
    """The committee's plan without weights of either sign, every call at one price."""
    n_arms = rows.margins_PK.shape[1]
    return fit_plan(rows, Shape(np.ones(n_arms), min(max_calls, n_arms), "safe"), 0)


def judged_at(judge: Committee, split: Split, price: float) -> Verdict:
    """The test rows at one price."""
    records, test_P = split.records, split.test_P
    names = [records.categories[c] for c in records.category_P[test_P]]
    prob_T, _, asked_TK = judge.judge(records.margins_PK[test_P], names, price)
    return credit(prob_T - 0.5, records.label_P[test_P]), asked_TK.astype(np.float64)


def aggregate(
    how: str, scores: str = "calibrated", penalty: float = 1.0
) -> Callable[[Split], Verdict]:
    """mean, median, wco (min) or uwo (mean - penalty var) over arms, of ``raw`` or ``calibrated`` values a response."""
    if how not in _REDUCE or scores not in ("raw", "calibrated"):
        raise InputError(
            f"aggregate {how} of {scores} scores; allowed: {', '.join(_REDUCE)} of raw or calibrated"
        )

    def method(split: Split) -> Verdict:
        if scores == "calibrated" and how in ("mean", "median"):
            test_TK = np.where(
                np.isnan(split.records.margins_PK[split.test_P]), np.nan, split.log_odds[1]
            )
            return _judged(split, _REDUCE[how](test_TK, penalty))
        first_TK, second_TK = _responses(split, scores)
        return _judged(split, _REDUCE[how](first_TK, penalty) - _REDUCE[how](second_TK, penalty))

    return method


def _responses(split: Split, scores: str) -> tuple[Float, Float]:
    first_PK, second_PK = split.records.first_PK, split.records.second_PK
    if scores == "raw":
        return first_PK[split.test_P], second_PK[split.test_P]
    train_QK = np.concatenate([first_PK[split.fit_P], second_PK[split.fit_P]])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # an arm without one training score stays NaN: it takes no part
        centre_K, scale_K = np.nanmean(train_QK, axis=0), np.nanstd(train_QK, axis=0)
    scale_K = np.where(scale_K > 0, scale_K, 1.0)
    return (first_PK[split.test_P] - centre_K) / scale_K, (
        second_PK[split.test_P] - centre_K
    ) / scale_K


def _quiet(reduce: Callable[[Float, float], Float]) -> Callable[[Float, float], Float]:
    def reduced(values_TK: Float, penalty: float) -> Float:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # a row on which all arms abstained is NaN and counts 1/2
            return np.asarray(reduce(values_TK, penalty))

    return reduced


_REDUCE: dict[str, Callable[[Float, float], Float]] = {
    "mean": _quiet(lambda v, _: np.nanmean(v, axis=1)),
    "median": _quiet(lambda v, _: np.nanmedian(v, axis=1)),
    "wco": _quiet(lambda v, _: np.nanmin(v, axis=1)),  # Coste et al. 2023: worst-case optimisation
    "uwo": _quiet(
        lambda v, penalty: np.nanmean(v, axis=1) - penalty * np.nanvar(v, axis=1)
    ),  # ddof 0, as their best-of-n
}


def oracle(records: Records) -> Int:
    """(P,) an arm that is right wherever some arm is. A bound, not a method: it knows the label."""
    return np.asarray(records.eligible(records.correct_PK).argmax(axis=1))
