"""How far to believe the strengths: scale, precision, noise and intercepts of the prior, by marginal likelihood on a dev split.

Arm n's payoff on pair i is y = s <h_i, E_n> + b_n + <h_i, u_n> + e with u_n ~ N(0, I / lambda0), e ~ N(0, sigma^2) and E the rows of
E_bt less their mean (BT fixes them only up to a common vector). Given r = 1 / (lambda0 sigma^2) the rest is closed form: s and
b_n by generalised least squares (b_n shrunk by its own noise), sigma^2 from the residuals; r is a 1-D search. 1 / r is how many pairs the prior is worth, and it
is held between 1 and ``most_worth``, what the dev rows can tell: neither drowned nor a dogma. O(K (P D^2 + D^3)) once, then O(K P D) a step.
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
"""Pairs that a zero prior may be worth: few dev rows cannot tell equal arms from unequal ones, and a router must stay able to learn."""

LEVEL_SD = 0.1
"""How far the mean payoff of another source may lie, before any source is seen."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the online router needs: mu0_n = ``scale`` (E_bt[n] - mean) and an intercept mean ``offset_K``, in payoff units.

    ``precision`` is lambda0 of the weights, ``offset_precision`` that of the intercepts, ``noise_sd`` sigma. ``zero_precision`` is
    lambda0 of a router without strengths (s = 0), fitted the same way. ``gain`` is the log evidence per dev payoff that the
    strengths add over it. ``worth`` = lambda0 sigma^2, in pairs. ``level``: mean payoff of the mean arm and how well it is
    known on other data (None: not at all).
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
    """One arm's told rows in the basis of its features: U'y and U'X with the squared singular values, and what U leaves over."""

    n: int
    square_J: Float
    cross_JC: Float
    gram_CC: Float

    def weighted(self, r: float) -> tuple[Float, float]:
        """X~'(I + r H H')^-1 X~ of the columns [y, f, 1], and log det(I + r H H')."""
        shrink_J = r * self.square_J / (1.0 + r * self.square_J)
        return self.gram_CC - self.cross_JC.T @ (shrink_J[:, None] * self.cross_JC), float(
            np.log1p(r * self.square_J).sum()
        )


def calibrate(
    h_PD: Float,
    bt_KD: Float,
    payoff_PK: Float,
    sources: ArrayLike | None = None,
    most_worth: float = 1000.0,
) -> Calibration:
    """Fit the prior's numbers on dev rows: ``payoff_PK`` in [0, 1] of the kind used online, NaN where an arm has none.

    ``sources`` (P,) names where a row comes from: how much arms' intercepts differ between sources sets their precision.
    ``most_worth`` caps what the prior is worth in pairs: beyond the dev pairs the evidence is flat. InputError for shapes, or fewer than 2 payoffs an arm
    on average. A scale that comes out negative is 0: the strengths told nothing.
    """
    if (
        h_PD.ndim != 2
        or payoff_PK.shape != (len(h_PD), len(bt_KD))
        or bt_KD.shape[1] != h_PD.shape[1]
    ):
        raise InputError(
            f"calibration needs h (P, D), E (K, D), payoff (P, K); got {h_PD.shape}, {bt_KD.shape}, {payoff_PK.shape}"
        )
    told_PK = ~np.isnan(payoff_PK)
    if told_PK.sum() < 2 * len(bt_KD):
        raise InputError(
            f"calibration needs 2 payoffs an arm or more; {told_PK.sum()} for {len(bt_KD)} arms: give a larger dev share"
        )
    f_PK = h_PD @ (bt_KD - bt_KD.mean(axis=0)).T
    mean = float(payoff_PK[told_PK].mean())
    arms = [_arm(h_PD[t], payoff_PK[t, k] - mean, f_PK[t, k]) for k, t in enumerate(told_PK.T)]
    r, scale, offset_K, variance, evidence = _searched(arms, True, most_worth)
    zero_r, _, _, zero_variance, zero_evidence = _searched(arms, False, min(most_worth, ZERO_WORTH))
    rows = int(told_PK.sum())
    offset_K = _shrunk(
        offset_K,
        np.array([variance / max(arm.weighted(r)[0][2, 2], 1e-12) for arm in arms if arm.n]),
        told_PK,
    )
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


def _shrunk(offset_K: Float, noise_J: Float, told_PK: NDArray[np.bool_]) -> Float:
    """Intercepts about their mean, times the share of their spread that their estimates' noise does not explain (James-Stein)."""
    heard_K = told_PK.any(axis=0)
    about_K = np.where(heard_K, offset_K - offset_K[heard_K].mean(), 0.0)
    spread = float((about_K**2).sum()) / max(int(heard_K.sum()) - 1, 1)
    return np.asarray(
        about_K * max(0.0, 1.0 - float(noise_J.mean()) / spread if spread > 0 else 0.0)
    )


def _arm(h_ND: Float, y_N: Float, f_N: Float) -> _Arm:
    columns_NC = np.stack([y_N, f_N, np.ones_like(y_N)], axis=1)
    left_NJ, values_J, _ = np.linalg.svd(h_ND, full_matrices=False)
    return _Arm(len(y_N), values_J**2, left_NJ.T @ columns_NC, columns_NC.T @ columns_NC)


def _searched(
    arms: Sequence[_Arm], informed: bool, most_worth: float
) -> tuple[float, float, Float, float, float]:
    """(r, scale, offsets, sigma^2, log evidence) at the best r; 1 / r between 1 and ``most_worth``."""
    bounds = (-np.log(max(most_worth, 2.0)), 0.0)
    found = minimize_scalar(
        lambda z: -_profile(arms, float(np.exp(z)), informed)[-1], bounds=bounds, method="bounded"
    )
    r = float(np.exp(found.x))
    return r, *_profile(arms, r, informed)


def _profile(arms: Sequence[_Arm], r: float, informed: bool) -> tuple[float, Float, float, float]:
    """(scale, offsets, sigma^2, log evidence) that are best given r, up to a constant of the evidence."""
    weighted = [arm.weighted(r) for arm in arms]
    swept_K = [_without_intercept(gram_CC) for gram_CC, _ in weighted]
    yy, yf, ff = (sum(s[i] for s in swept_K) for i in ((0, 0), (0, 1), (1, 1)))
    scale = float(max(yf / ff, 0.0)) if informed and ff > 1e-12 else 0.0
    offset_K = np.array(
        [(g[0, 2] - scale * g[1, 2]) / g[2, 2] if g[2, 2] > 0 else 0.0 for g, _ in weighted]
    )
    n = sum(arm.n for arm in arms)
    variance = max(float(yy - 2 * scale * yf + scale**2 * ff) / n, LEAST_NOISE**2)
    evidence = -0.5 * n * np.log(variance) - 0.5 * sum(logdet for _, logdet in weighted)
    return scale, offset_K, variance, float(evidence)


def _without_intercept(gram_CC: Float) -> Float:
    """The weighted products of y and f after the arm's own intercept is projected out."""
    if gram_CC[2, 2] <= 0:
        return gram_CC[:2, :2]
    return np.asarray(gram_CC[:2, :2] - np.outer(gram_CC[:2, 2], gram_CC[:2, 2]) / gram_CC[2, 2])


def _between(
    residual_PK: Float, sources: ArrayLike | None, variance: float, most_worth: float
) -> float:
    """Precision of the intercepts: the spread of arms' mean residuals between sources beyond their noise, by a 1-D search."""
    means, counts = _cells(
        residual_PK, np.zeros(len(residual_PK)) if sources is None else np.asarray(sources)
    )

    def cost(z: float) -> float:
        total = 1.0 / np.exp(z) + variance / counts
        return float(0.5 * (np.log(total) + means**2 / total).sum())

    bounds = (np.log(1.0 / variance), np.log(max(most_worth, 2.0) / variance))
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x))


def _cells(residual_PK: Float, sources: np.ndarray) -> tuple[Float, Int]:
    """Mean residual and number of rows of every (source, arm) that has any."""
    means = []
    counts = []
    for name in np.unique(sources):
        here_PK = residual_PK[sources == name]
        told_K = (~np.isnan(here_PK)).sum(axis=0)
        means.append(np.nansum(here_PK, axis=0)[told_K > 0] / told_K[told_K > 0])
        counts.append(told_K[told_K > 0])
    return np.concatenate(means), np.concatenate(counts)


def level_of(payoff_PK: Float, sources: ArrayLike | None = None) -> tuple[float, float]:
    """(mean, sd) of the level: the rows' mean payoffs over arms, and how far another source's may lie from their mean.

    The variance between sources beyond their sampling error, with two pseudo-sources at `LEVEL_SD`^2, plus the mean's squared
    standard error. Rows without a payoff do not count; NaN = an arm without. InputError where no row has one.
    """
    told_PK = ~np.isnan(payoff_PK)
    heard_P = told_PK.any(axis=1)
    if not heard_P.any():
        raise InputError("no payoff to take the level from: every row is NaN")
    mean_P = np.nansum(payoff_PK[heard_P], axis=1) / told_PK[heard_P].sum(axis=1)
    source_P = (
        np.zeros(len(mean_P), int)
        if sources is None
        else np.unique(np.asarray(sources)[heard_P], return_inverse=True)[1]
    )
    count_S = np.bincount(source_P)
    means_S = np.bincount(source_P, mean_P) / count_S
    noise = float(mean_P.var())
    between = (
        float(means_S.var(ddof=1)) - float((noise / count_S).mean()) if len(count_S) > 1 else 0.0
    )
    free = len(count_S) - 1
    spread = (free * max(between, 0.0) + 2 * LEVEL_SD**2) / (free + 2)
    return float(mean_P.mean()), float(np.sqrt(spread + noise / len(mean_P)))
