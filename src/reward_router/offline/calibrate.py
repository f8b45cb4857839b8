"""How far to believe the strengths, by marginal likelihood on a dev split.

Scale, precision, noise and intercepts of the prior are fitted. Arm n's payoff on pair i is
y = s <h_i, E_n> + b_n + <h_i, u_n> + e with u_n ~ N(0, I / lambda0), e ~ N(0, sigma^2) and E the
rows of E_bt less their mean (BT fixes them only up to a common vector). Given
r = 1 / (lambda0 sigma^2) the rest is closed form: s and b_n by generalised least squares (b_n
shrunk by its own noise), sigma^2 from the residuals; r is a 1-D search. 1 / r is how many pairs the
prior is worth, and it is held between 1 and ``most_worth``, what the dev rows can tell: neither
drowned nor a dogma. O(K (P D^2 + D^3)) once, then O(K P D) a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from reward_router.errors import InputError
from reward_router.types import Float, Int

LEAST_NOISE = 1e-3
ZERO_WORTH = 4.0
"""Pairs that a zero prior may be worth.

Few dev rows cannot tell equal arms from unequal ones, and a router must stay able to learn.
"""

LEVEL_SD = 0.1
"""How far the mean payoff of another source may lie, before any source is seen."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the online router needs of the prior, in payoff units.

    The prior mean of arm n is mu0_n = ``scale`` (E_bt[n] - mean), with an intercept.

    Args:
        scale: s.
        precision: lambda0 of the weights.
        noise_sd: sigma.
        offset_K: means of the intercepts.
        offset_precision: lambda0 of the intercepts.
        zero_precision: lambda0 of a router without strengths (s = 0), fitted the same way.
        gain: the log evidence per dev payoff that the strengths add over it.
        rows: payoffs that it was fitted on.
        level: mean payoff of the mean arm and how well it is known on other data; None: not at all.
    """

    scale: float
    precision: float
    noise_sd: float
    offset_K: Float
    offset_precision: float
    zero_precision: float
    gain: float
    rows: int
    level: tuple[float, float] | None = None

    @property
    def worth(self) -> float:
        """Pairs' worth of evidence in the prior, along one direction."""
        return self.precision * self.noise_sd**2


@dataclass(frozen=True, eq=False)
class _Arm:
    """One arm's paid rows in the basis U of its features.

    U'y and U'X with the squared singular values, and what U leaves over.
    """

    n: int
    square_J: Float
    cross_JC: Float
    gram_CC: Float

    def weighted(self, r: float) -> tuple[Float, float]:
        """X~'(I + r H H')^-1 X~ of the columns [y, f, 1], and log det(I + r H H')."""
        # Woodbury in the basis U: (I + r H H')^-1 = I - U diag(shrink_J) U'.
        prior_J = r * self.square_J
        shrink_J = prior_J / (1.0 + prior_J)
        shrunk_cross_JC = shrink_J[:, None] * self.cross_JC
        explained_CC = self.cross_JC.T @ shrunk_cross_JC
        left_CC = self.gram_CC - explained_CC

        # det(I + r H H') is the product of 1 + r times the squared singular values.
        log_det = float(np.log1p(prior_J).sum())
        return left_CC, log_det


def calibrate(
    h_PD: Float,
    bt_KD: Float,
    payoff_PK: Float,
    sources: ArrayLike | None = None,
    most_worth: float = 1000.0,
) -> Calibration:
    """Fit the prior's numbers on dev rows.

    InputError for shapes, or fewer than 2 payoffs an arm on average. A scale that comes out
    negative is 0: the strengths foretold nothing.

    Args:
        h_PD: encoded rows.
        bt_KD: strengths of the arms.
        payoff_PK: in [0, 1], of the kind used online; NaN where an arm has none.
        sources: (P,) where a row comes from: how much arms' intercepts differ between sources sets
            their precision.
        most_worth: caps what the prior is worth in pairs: beyond the dev pairs the evidence is
            flat.
    """
    shape = (len(h_PD), len(bt_KD))
    if h_PD.ndim != 2 or payoff_PK.shape != shape or bt_KD.shape[1] != h_PD.shape[1]:
        raise InputError(
            "calibration needs h (P, D), E (K, D), payoff (P, K); "
            f"got {h_PD.shape}, {bt_KD.shape}, {payoff_PK.shape}"
        )
    paid_PK = ~np.isnan(payoff_PK)
    if paid_PK.sum() < 2 * len(bt_KD):
        raise InputError(
            f"calibration needs 2 payoffs an arm or more; {paid_PK.sum()} for {len(bt_KD)} arms: "
            "give a larger dev share"
        )
    # BT fixes the strengths only up to a common vector, so only their differences say anything.
    about_mean_KD = bt_KD - bt_KD.mean(axis=0)
    f_PK = h_PD @ about_mean_KD.T
    mean = float(payoff_PK[paid_PK].mean())
    arms = []
    for k, paid_P in enumerate(paid_PK.T):
        # Payoffs about their mean: the intercepts say only how arms differ.
        about_N = payoff_PK[paid_P, k] - mean
        arms.append(_arm(h_PD[paid_P], about_N, f_PK[paid_P, k]))
    r, scale, offset_K, variance, evidence = _searched(arms, True, most_worth)
    # The same fit without strengths, for the router that has no prior and for the comparison.
    zero_worth = min(most_worth, ZERO_WORTH)
    zero_r, _, _, zero_variance, zero_evidence = _searched(arms, False, zero_worth)
    rows = int(paid_PK.sum())
    # The variance of an intercept's estimate is sigma^2 over its weighted count.
    counts = []
    for arm in arms:
        # An arm without payoffs has no estimate, and no noise of one.
        if arm.n:
            gram_CC, _ = arm.weighted(r)
            counts.append(max(gram_CC[2, 2], 1e-12))
    # Before the residuals: they are to hold what the shrunk intercepts leave over.
    offset_K = shrunk(offset_K, variance / np.array(counts), paid_PK)
    residual_PK = payoff_PK - mean - scale * f_PK - offset_K
    return Calibration(
        scale=scale,
        precision=1.0 / (r * variance),
        noise_sd=float(np.sqrt(variance)),
        offset_K=offset_K,
        offset_precision=_between(residual_PK, sources, variance, most_worth),
        zero_precision=1.0 / (zero_r * zero_variance),
        gain=(evidence - zero_evidence) / rows,
        rows=rows,
    )


def shrunk(offset_K: Float, noise_J: Float, paid_PK: NDArray[np.bool_]) -> Float:
    """Intercepts about their mean, shrunk towards it (James-Stein).

    They keep the share of their spread that their estimates' noise does not explain.
    """
    paid_K = paid_PK.any(axis=0)
    mean = offset_K[paid_K].mean()
    about_K = np.where(paid_K, offset_K - mean, 0.0)

    # One degree of freedom went into the mean.
    n_paid = int(paid_K.sum())
    free = max(n_paid - 1, 1)
    spread = float((about_K**2).sum()) / free
    noise = float(noise_J.mean())

    # Where the noise explains more than the whole spread, the intercepts are one and the same.
    share = 1.0 - noise / spread if spread > 0 else 0.0
    return np.asarray(about_K * max(0.0, share))


def _arm(h_ND: Float, y_N: Float, f_N: Float) -> _Arm:
    # One SVD an arm: every step of the search over r is then O(J) and needs no matrix inverse.
    left_NJ, values_J, _ = np.linalg.svd(h_ND, full_matrices=False)
    columns_NC = np.stack([y_N, f_N, np.ones_like(y_N)], axis=1)
    return _Arm(
        n=len(y_N),
        square_J=values_J**2,
        cross_JC=left_NJ.T @ columns_NC,
        gram_CC=columns_NC.T @ columns_NC,
    )


def _searched(
    arms: Sequence[_Arm], informed: bool, most_worth: float
) -> tuple[float, float, Float, float, float]:
    """(r, scale, offsets, sigma^2, log evidence) at the best r.

    1 / r lies between 1 and ``most_worth``.
    """
    # log r, since what a prior is worth (1 / r) is a scale.
    bounds = (-np.log(max(most_worth, 2.0)), 0.0)

    def cost(log_r: float) -> float:
        return -_profile(arms, float(np.exp(log_r)), informed)[-1]

    best = minimize_scalar(cost, bounds=bounds, method="bounded")
    r = float(np.exp(best.x))
    return r, *_profile(arms, r, informed)


def _profile(arms: Sequence[_Arm], r: float, informed: bool) -> tuple[float, Float, float, float]:
    """(scale, offsets, sigma^2, log evidence) that are best given r.

    The evidence is known up to a constant.
    """
    weighted = [arm.weighted(r) for arm in arms]
    swept_K = [_without_intercept(gram_CC) for gram_CC, _ in weighted]

    # Sums over arms: the scale s is one number for all of them.
    yy = sum(swept_CC[0, 0] for swept_CC in swept_K)
    yf = sum(swept_CC[0, 1] for swept_CC in swept_K)
    ff = sum(swept_CC[1, 1] for swept_CC in swept_K)

    # Generalised least squares of y on f; strengths that foretell the opposite count as nothing.
    scale = 0.0
    if informed and ff > 1e-12:
        scale = float(max(yf / ff, 0.0))
    offset_K = np.array([_intercept(gram_CC, scale) for gram_CC, _ in weighted])

    # |y - s f|^2, from the sums alone.
    n = sum(arm.n for arm in arms)
    residual = float(yy - 2 * scale * yf + scale**2 * ff)
    # A floor, because rows that are fitted exactly would make the evidence infinite.
    variance = max(residual / n, LEAST_NOISE**2)

    log_det = sum(arm_log_det for _, arm_log_det in weighted)
    evidence = -0.5 * n * np.log(variance) - 0.5 * log_det
    return scale, offset_K, variance, float(evidence)


def _intercept(gram_CC: Float, scale: float) -> float:
    """What an arm's payoffs have left on average once the strengths are taken off."""
    weighted_count = gram_CC[2, 2]
    if weighted_count <= 0:
        return 0.0
    return float((gram_CC[0, 2] - scale * gram_CC[1, 2]) / weighted_count)


def _without_intercept(gram_CC: Float) -> Float:
    """The weighted products of y and f after the arm's own intercept is projected out."""
    weighted_count = gram_CC[2, 2]
    if weighted_count <= 0:
        return gram_CC[:2, :2]
    with_ones_2 = gram_CC[:2, 2]
    of_intercept_22 = np.outer(with_ones_2, with_ones_2) / weighted_count
    return np.asarray(gram_CC[:2, :2] - of_intercept_22)


def _between(
    residual_PK: Float, sources: ArrayLike | None, variance: float, most_worth: float
) -> float:
    """Precision of the intercepts, by a 1-D search.

    It is that of the spread of arms' mean residuals between sources beyond their noise.
    """
    source_P = np.zeros(len(residual_PK)) if sources is None else np.asarray(sources)
    means, counts = _cells(residual_PK, source_P)

    def cost(log_precision: float) -> float:
        # A cell's mean is N(0, spread between sources + its own sampling noise).
        spread = 1.0 / np.exp(log_precision)
        total = spread + variance / counts
        return float(0.5 * (np.log(total) + means**2 / total).sum())

    # Worth between one pair and most_worth pairs, as the prior of the weights.
    least = np.log(1.0 / variance)
    most = np.log(max(most_worth, 2.0) / variance)
    best = minimize_scalar(cost, bounds=(least, most), method="bounded")
    return float(np.exp(best.x))


def _cells(residual_PK: Float, sources: np.ndarray) -> tuple[Float, Int]:
    """Mean residual and number of rows of every (source, arm) that has any."""
    means = []
    counts = []
    for name in np.unique(sources):
        of_source_RK = residual_PK[sources == name]
        paid_RK = ~np.isnan(of_source_RK)
        count_K = paid_RK.sum(axis=0)
        sum_K = np.nansum(of_source_RK, axis=0)

        # An arm that this source never paid has no mean there.
        any_K = count_K > 0
        means.append(sum_K[any_K] / count_K[any_K])
        counts.append(count_K[any_K])
    return np.concatenate(means), np.concatenate(counts)


def level_of(payoff_PK: Float, sources: ArrayLike | None = None) -> tuple[float, float]:
    """(mean, sd) of the level.

    The mean is that of the rows' mean payoffs over arms; the sd says how far another source's may
    lie from it. That is the variance between sources beyond their sampling error, with two
    pseudo-sources at `LEVEL_SD`^2, plus the mean's squared standard error. InputError where no row
    has a payoff.

    Args:
        payoff_PK: NaN where an arm has none; rows without any do not count.
        sources: where each row comes from; None: all from one.
    """
    paid_PK = ~np.isnan(payoff_PK)
    paid_P = paid_PK.any(axis=1)
    if not paid_P.any():
        raise InputError("no payoff to take the level from: every row is NaN")
    sum_P = np.nansum(payoff_PK[paid_P], axis=1)
    count_P = paid_PK[paid_P].sum(axis=1)
    mean_P = sum_P / count_P

    source_P = np.zeros(len(mean_P), int)
    if sources is not None:
        paid_sources = np.asarray(sources)[paid_P]
        _, source_P = np.unique(paid_sources, return_inverse=True)
    count_S = np.bincount(source_P)
    means_S = np.bincount(source_P, mean_P) / count_S
    n_sources = len(count_S)

    noise = float(mean_P.var())
    between = 0.0
    if n_sources > 1:
        # Means of few rows differ by chance alone: that much is no difference of sources.
        sampling_noise = float((noise / count_S).mean())
        between = float(means_S.var(ddof=1)) - sampling_noise
    free = n_sources - 1
    # One source says nothing of others: then the pseudo-sources alone speak.
    spread = (free * max(between, 0.0) + 2 * LEVEL_SD**2) / (free + 2)

    squared_error = noise / len(mean_P)
    return float(mean_P.mean()), float(np.sqrt(spread + squared_error))
