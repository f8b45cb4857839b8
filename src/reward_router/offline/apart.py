"""The calibration that the product uses.

It looks at how arms differ on a pair, not at how hard the pair is, and one context counts once.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from reward_router.offline.calibrate import Calibration, calibrate, level_of
from reward_router.types import Float, Int


def calibrate_apart(
    h_RD: Float,
    bt_KD: Float,
    payoff_RK: Float,
    unit_R: Int,
    sources: ArrayLike | None,
    most_worth: float,
) -> Calibration:
    """Scale, intercepts and precisions from payoffs less their row's mean, one row a context.

    Noise and level come from the payoffs as they are. A pair that is hard for every arm is no
    reason to prefer one: left in, it widens every arm's prior (K arms about their mean have
    (K - 1) / K of their own variance, which is put back). Errors and cost are those of `calibrate`.

    Args:
        h_RD: encoded rows.
        bt_KD: strengths of the arms.
        payoff_RK: payoffs in [0, 1]; NaN where an arm has none.
        unit_R: numbers the contexts: rows of one context are one row, since what is peculiar to a
            prompt is not an effect of its features.
        sources: where each row comes from.
        most_worth: in pairs, as in `calibrate`.
    """
    paid_RK = ~np.isnan(payoff_RK)
    n_arms = len(bt_KD)
    sum_R = np.where(paid_RK, payoff_RK, 0.0).sum(axis=1)
    mean_R = sum_R / np.maximum(paid_RK.sum(axis=1), 1)
    # How much better or worse each arm did than the arms' mean on the same row.
    about_RK = np.where(paid_RK, payoff_RK - mean_R[:, None], 0.0)

    # One row a context: the mean over all rows that share it.
    _, first_U, unit_R = np.unique(unit_R, return_index=True, return_inverse=True)
    sum_UK = np.zeros((len(first_U), n_arms))
    count_UK = np.zeros((len(first_U), n_arms))
    np.add.at(sum_UK, unit_R, about_RK)
    np.add.at(count_UK, unit_R, paid_RK)
    about_UK = np.where(count_UK > 0, sum_UK / np.maximum(count_UK, 1), np.nan)

    source_R = np.zeros(len(h_RD)) if sources is None else np.asarray(sources)
    apart = calibrate(h_RD[first_U], bt_KD, about_UK, source_R[first_U], most_worth)
    # The online router sees single payoffs, so the noise is that of payoffs as they are.
    noise_sd = calibrate(h_RD, bt_KD, payoff_RK, source_R, most_worth).noise_sd
    most = most_worth / noise_sd**2
    return replace(
        apart,
        # variance times K / (K - 1): what taking the mean of K arms off has removed
        precision=min(apart.precision * (1 - 1 / n_arms), most),
        offset_precision=min(apart.offset_precision, most),
        noise_sd=noise_sd,
        level=level_of(payoff_RK, source_R),
    )
