"""The calibration that the product uses.

It looks at how arms differ on a pair, not at how hard the pair is, and one context counts once. The
scale of the strengths comes from the dev rows alone, for on the rows they were learned on strengths
look too good. How good each arm is overall comes from all learned rows: a mean of many rows hardly
overfits, and the mean of the dev rows alone, a fifth of them, is mostly luck where arms are many.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.offline.calibrate import Calibration, calibrate, level_of, shrunk
from reward_router.types import Float, Int

SURE = 1.645
"""Standard errors that the scale of the strengths is taken off by: one-sided 95 %."""


@dataclass(frozen=True, eq=False)
class LearnedRows:
    """All rows that strengths were learned from, the dev rows among them.

    Args:
        h_RD: encoded rows.
        payoff_RK: payoffs in [0, 1]; NaN where an arm has none.
        unit_R: numbers the contexts: rows of one context are one row, since what is peculiar to a
            prompt is not an effect of its features.
        dev_R: the rows that the strengths were not trained on.
        sources: where each row comes from; None: all from where the prior will be used. How much
            arms' means differ between sources sets how well the intercepts are known elsewhere.
    """

    h_RD: Float
    payoff_RK: Float
    unit_R: Int
    dev_R: NDArray[np.bool_]
    sources: ArrayLike | None = None


def calibrate_apart(rows: LearnedRows, bt_KD: Float, most_worth: float) -> Calibration:
    """Scale, intercepts and precisions from payoffs less their row's mean, one row a context.

    Noise and level come from the payoffs as they are; where the prior will be used on the same
    source, the level is known to its sampling error. A pair that is hard for every arm is no
    reason to prefer one: left in, it widens every arm's prior (K arms about their mean have
    (K - 1) / K of their own variance, which is put back).

    The scale s and the precision of the weights are fitted on the dev rows, where every arm's own
    mean is free, so they say how much of an arm's *difference between contexts* strengths foretell.
    Of s the one-sided lower 95 % bound is taken: few dev rows often show contexts that are noise,
    and choosing by them costs more than leaving them out. The intercept is what makes the prior's
    mean over all rows the arm's own mean there: b_n = mean of y_n, shrunk by its noise, less s
    times the mean of <h, E_n>. Errors and cost are those of `calibrate`.

    Args:
        rows: what was learned from.
        bt_KD: strengths of the arms.
        most_worth: in pairs, as in `calibrate`.
    """
    dev_R = rows.dev_R
    source_R = np.zeros(len(dev_R)) if rows.sources is None else np.asarray(rows.sources)
    h_dev_RD = rows.h_RD[dev_R]
    payoff_DK = rows.payoff_RK[dev_R]
    source_D = source_R[dev_R]
    about_mean_KD = bt_KD - bt_KD.mean(axis=0)

    about_DK, first_D = _one_row_a_context(payoff_DK, rows.unit_R[dev_R])
    apart = calibrate(h_dev_RD[first_D], bt_KD, about_DK, source_D[first_D], most_worth)
    # The online router sees single payoffs, so the noise is that of payoffs as they are.
    noise_sd = calibrate(h_dev_RD, bt_KD, payoff_DK, source_D, most_worth).noise_sd

    expected_DK = h_dev_RD[first_D] @ about_mean_KD.T
    scale = max(0.0, apart.scale - SURE * _standard_error(about_DK, expected_DK))
    offset_K = _intercepts(rows, scale * (rows.h_RD @ about_mean_KD.T))
    most = most_worth / noise_sd**2
    n_arms = len(bt_KD)
    return replace(
        apart,
        scale=scale,
        # variance times K / (K - 1): what taking the mean of K arms off has removed
        precision=min(apart.precision * (1 - 1 / n_arms), most),
        offset_K=offset_K,
        offset_precision=min(apart.offset_precision, most),
        noise_sd=noise_sd,
        level=_level(rows) if rows.sources is None else level_of(payoff_DK, source_D),
    )


def _about(payoff_RK: Float) -> Float:
    """(R, K) how much better or worse each arm did than the arms' mean on the same row; or NaN."""
    paid_RK = ~np.isnan(payoff_RK)
    sum_R = np.where(paid_RK, payoff_RK, 0.0).sum(axis=1)
    mean_R = sum_R / np.maximum(paid_RK.sum(axis=1), 1)
    return np.asarray(payoff_RK - mean_R[:, None])


def _summed(value_RK: Float, unit_R: Int) -> tuple[Float, Float]:
    """(U, K) sums over the rows of each context, and how many rows had a value."""
    n_units = int(unit_R.max()) + 1
    known_RK = ~np.isnan(value_RK)
    sum_UK = np.zeros((n_units, value_RK.shape[1]))
    count_UK = np.zeros_like(sum_UK)
    np.add.at(sum_UK, unit_R, np.where(known_RK, value_RK, 0.0))
    np.add.at(count_UK, unit_R, known_RK)
    return sum_UK, count_UK


def _one_row_a_context(payoff_RK: Float, unit_R: Int) -> tuple[Float, Int]:
    """(U, K) means of `_about` over all rows that share a context; and the first row of each."""
    _, first_U, index_R = np.unique(unit_R, return_index=True, return_inverse=True)
    sum_UK, count_UK = _summed(_about(payoff_RK), index_R)
    about_UK = np.where(count_UK > 0, sum_UK / np.maximum(count_UK, 1), np.nan)
    return about_UK, first_U


def _level(rows: LearnedRows) -> tuple[float, float]:
    """Mean payoff of the mean arm over all learned rows, and its standard error by contexts.

    Rows without any payoff do not count.
    """
    paid_RK = ~np.isnan(rows.payoff_RK)
    paid_R = paid_RK.any(axis=1)
    mean_P = (
        np.where(paid_RK, rows.payoff_RK, 0.0).sum(axis=1)[paid_R] / paid_RK.sum(axis=1)[paid_R]
    )
    level = float(mean_P.mean())

    _, index_P = np.unique(rows.unit_R[paid_R], return_inverse=True)
    gap_U = np.bincount(index_P, mean_P - level)
    return level, float(np.sqrt((gap_U**2).sum())) / len(mean_P)


def _standard_error(about_UK: Float, expected_UK: Float) -> float:
    """Of the regression of payoffs on what strengths expect, every arm about its own mean.

    Clustered by context: arms err together, so a row of many arms is one witness. Infinite where
    nothing varies.
    """
    paid_UK = ~np.isnan(about_UK)
    count_K = np.maximum(paid_UK.sum(axis=0), 1)
    y_UK = np.where(paid_UK, about_UK, 0.0)
    x_UK = np.where(paid_UK, expected_UK, 0.0)
    y_UK = np.where(paid_UK, y_UK - y_UK.sum(axis=0) / count_K, 0.0)
    x_UK = np.where(paid_UK, x_UK - x_UK.sum(axis=0) / count_K, 0.0)

    weight = float((x_UK**2).sum())
    n_contexts = len(about_UK)
    if weight < 1e-12 or n_contexts < 2:
        return float("inf")
    slope = float((x_UK * y_UK).sum()) / weight
    score_U = (x_UK * (y_UK - slope * x_UK)).sum(axis=1)
    # The sandwich variance, with its small-sample factor.
    variance = float((score_U**2).sum()) * n_contexts / (n_contexts - 1)
    return float(np.sqrt(variance)) / weight


def _intercepts(rows: LearnedRows, expected_RK: Float) -> Float:
    """(K,) what makes an arm's mean forecast its mean payoff, shrunk towards the mean arm.

    Means are over rows, as a stream has them; their noise is that of whole contexts. Zero, the mean
    arm, for an arm that has no payoff at all.
    """
    about_RK = _about(rows.payoff_RK)
    paid_RK = ~np.isnan(about_RK)
    n_K = paid_RK.sum(axis=0)
    paid_K = n_K > 0
    count_K = np.maximum(n_K, 1)
    mean_K = np.where(paid_RK, about_RK, 0.0).sum(axis=0) / count_K

    _, index_R = np.unique(rows.unit_R, return_inverse=True)
    gap_UK, _ = _summed(about_RK - mean_K, index_R)
    noise_K = (gap_UK**2).sum(axis=0) / count_K**2

    overall_K = shrunk(mean_K, noise_K[paid_K], paid_RK)
    by_strengths_K = np.where(paid_RK, expected_RK, 0.0).sum(axis=0) / count_K
    offset_K = np.where(paid_K, overall_K - by_strengths_K, 0.0)
    return np.asarray(offset_K - offset_K[paid_K].mean() * paid_K)
