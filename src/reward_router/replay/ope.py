"""Off-policy evaluation: what another router would have earned, from the log of one stochastic router that kept its propensities.

Estimand: the mean payoff of a FROZEN target over the logged contexts, (1/T) sum_t sum_k target_tk r_tk. The logger adapts, so rows
are not independent; but given the past, w_t r_t - v_t has mean 0, which is all the intervals use:

- ``ips``, ``snips``, ``dr``: martingale central limit theorem. The variance is that of the row terms about their mean, which
  also holds the spread of v_t over contexts and so errs on the wide side; Student's t with ESS - 1 degrees of freedom, and four
  pseudo-rows of the average effective weight (two right, two wrong; Agresti and Coull) against payoffs near 0 or 1: the
  interval is the hull of the one with and the one without them.
- ``dr_stabilised``: rows weighted by the inverse root of the variance expected from the past alone (Hadad et al. 2021; Zhan et al.
  2021), for loggers that all but stop exploring.
- ``cs``: empirical-Bernstein confidence sequence for IPS (Waudby-Smith and Ramdas 2024, predictable plug-in): holds at any stopping
  time for contexts in random order, and is wide.

A target that learns has no frozen estimand: ``rejection.rejection_replay``, on i.i.d. contexts only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import Float, Int

METHODS = ("ips", "snips", "dr", "dr_stabilised", "cs")
TRAINED_LOSS = ("neg_loss", "improvement", "light_advantage", "full_advantage")
FEWEST = 20
_PSEUDO = 2.0
_REFITS = 20


@dataclass(frozen=True)
class Log:
    """T decisions of one router in their order. ``probs_TK`` is what each arm was drawn from; ``payoff_T`` NaN where none came."""

    context_TD: Float
    probs_TK: Float
    arm_T: Int
    payoff_T: Float
    forced_T: NDArray[np.bool_]
    arms: tuple[str, ...]
    source: str = "payoff"

    def __len__(self) -> int:
        """Decisions."""
        return len(self.arm_T)

    @property
    def propensity_T(self) -> Float:
        """Probability with which each logged arm was drawn."""
        return self.probs_TK[np.arange(len(self)), self.arm_T]

    def usable(self) -> "Log":
        """Without forced warm-up rows (their arm was not drawn) and rows without a payoff."""
        keep = ~self.forced_T & ~np.isnan(self.payoff_T)
        rows = {f: getattr(self, f)[keep] for f in ("context_TD", "probs_TK", "arm_T", "payoff_T", "forced_T")}
        return replace(self, **rows)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval. ``ess``: effective sample size, (sum w)^2 / sum w^2; under 100 take it as a hint only."""

    method: str
    value: float
    low: float
    high: float
    ess: float
    rows: int
    left_out: int


def estimate(
    log: Log, target_TK: Float, method: str = "dr", level: float = 0.95, model_TK: Float | None = None
) -> Estimate:
    """Value of a frozen target, ``target_TK`` (T, K) its probabilities on every logged row. O(T K); see ``past_model`` for ``dr``.

    ``model_TK``: what ``past_model`` gave for the usable rows, to value several targets of one log at the cost of one.

    ``InputError``: unknown method; target without support in the log; payoffs that the logged arms' own training produced;
    a deterministic logger; fewer than 20 usable rows.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}, allowed: {', '.join(METHODS)}")
    keep = ~log.forced_T & ~np.isnan(log.payoff_T)
    rows, target = log.usable(), np.asarray(target_TK, dtype=np.float64)[keep]
    check(rows, target)
    weight_T = target[np.arange(len(rows)), rows.arm_T] / rows.propensity_T
    ess = float(weight_T.sum() ** 2 / max(float((weight_T**2).sum()), 1e-300))
    value, low, high = _ESTIMATORS[method](rows, target, weight_T, level, ess, model_TK)
    return Estimate(method, value, max(low, 0.0), min(high, 1.0), ess, len(rows), len(log) - len(rows))


def check(log: Log, target_TK: Float) -> None:
    """Refuse what cannot be estimated, saying what to change."""
    if log.source in TRAINED_LOSS:
        raise InputError(
            f"payoff {log.source} is scaled from a loss that the logged arms themselves trained: another choice would have changed "
            "every later payoff. Log a payoff that does not depend on the run: probe, verifier, label"
        )
    if len(log) < FEWEST:
        raise InputError(f"{len(log)} usable decisions, needed: {FEWEST} that were drawn (not forced) and paid")
    if target_TK.shape != log.probs_TK.shape:
        raise InputError(f"target has shape {target_TK.shape}, needed {log.probs_TK.shape} (decisions, arms)")
    if (log.propensity_T >= 1.0).all():
        raise InputError(
            "the logger was deterministic (propensity 1 everywhere): log with explore > 0, or with Thompson sampling"
        )
    bare_TK = (target_TK > 0) & (log.probs_TK <= 0)
    if bare_TK.any():
        arms = [log.arms[k] for k in np.flatnonzero(bare_TK.any(axis=0))]
        share = 100 * bare_TK.any(axis=1).mean()
        raise InputError(
            f"missing support: the target uses {', '.join(arms[:5])} where the logger never would ({share:.3g} % of the decisions). "
            "Log with explore > 0, or evaluate a target that stays within what was tried"
        )
    if log.payoff_T.min() < 0 or log.payoff_T.max() > 1:
        raise InputError(f"payoffs lie in [{log.payoff_T.min():g}, {log.payoff_T.max():g}], allowed: [0, 1]")


def _ips(
    log: Log, target: Float, weight_T: Float, level: float, ess: float, model: Float | None
) -> tuple[float, float, float]:
    terms_T = weight_T * log.payoff_T
    return interval(terms_T, np.ones(len(log)), weight_T, level, ess)


def _snips(
    log: Log, target: Float, weight_T: Float, level: float, ess: float, model: Float | None
) -> tuple[float, float, float]:
    """Ratio estimator: linearised about its value, the row terms are w (r - value)."""
    value = float(weight_T @ log.payoff_T / max(float(weight_T.sum()), 1e-300))
    return interval(value + weight_T * (log.payoff_T - value), np.ones(len(log)), weight_T, level, ess, value)


def _dr(
    log: Log, target: Float, weight_T: Float, level: float, ess: float, model: Float | None
) -> tuple[float, float, float]:
    return interval(_doubly_robust(log, target, weight_T, model), np.ones(len(log)), weight_T, level, ess)


def _dr_stabilised(
    log: Log, target: Float, weight_T: Float, level: float, ess: float, model: Float | None
) -> tuple[float, float, float]:
    return interval(_doubly_robust(log, target, weight_T, model), _stabilised(log, target), weight_T, level, ess)


def _doubly_robust(log: Log, target: Float, weight_T: Float, model: Float | None) -> Float:
    """sum_k target_k q_k + w (r - q_arm), q fitted on earlier rows only."""
    q_TK = past_model(log) if model is None else model
    own_T = q_TK[np.arange(len(log)), log.arm_T]
    return np.asarray((target * q_TK).sum(axis=1) + weight_T * (log.payoff_T - own_T))


def past_model(log: Log, penalty: float = 1.0) -> Float:
    """(T, K) payoff expected of each arm on each row by per-arm ridge regression on earlier rows; 1/2 before there are any."""
    x_TD = np.hstack([np.ones((len(log), 1)), log.context_TD])
    n_arms, width = log.probs_TK.shape[1], x_TD.shape[1]
    gram_KDD, moment_KD = np.tile(penalty * np.eye(width), (n_arms, 1, 1)), np.zeros((n_arms, width))
    q_TK, edges = np.full(log.probs_TK.shape, 0.5), np.linspace(0, len(log), _REFITS + 1).astype(np.int64)
    for (begin, start), stop in zip(pairwise(edges[:-1]), edges[2:], strict=True):
        rows = slice(begin, start)
        np.add.at(gram_KDD, log.arm_T[rows], x_TD[rows, :, None] * x_TD[rows, None, :])
        np.add.at(moment_KD, log.arm_T[rows], (log.payoff_T[rows] - 0.5)[:, None] * x_TD[rows])
        weight_KD = np.linalg.solve(gram_KDD, moment_KD[:, :, None])[:, :, 0]
        q_TK[start:stop] = np.clip(0.5 + x_TD[start:stop] @ weight_KD.T, 0.0, 1.0)
    return q_TK


def _stabilised(log: Log, target: Float) -> Float:
    """Inverse root of the mean of sum_k target_k^2 / p_k over the rows before: known before the row's own context."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_T = np.where(target > 0, target**2 / log.probs_TK, 0.0).sum(axis=1)
    window = max(1, len(log) // 20)
    total_T = np.concatenate([[0.0], np.cumsum(spread_T)])
    start_T = np.maximum(np.arange(len(log)) - window, 0)
    count_T = np.maximum(np.arange(len(log)) - start_T, 1)
    before_T = (total_T[np.arange(len(log))] - total_T[start_T]) / count_T
    before_T[0] = spread_T[0]
    return np.asarray(1.0 / np.sqrt(np.maximum(before_T, 1e-12)))


def interval(
    terms_T: Float, share_T: Float, weight_T: Float, level: float, ess: float, value: float | None = None
) -> tuple[float, float, float]:
    """(value, low, high) of the weighted mean of row terms; see the module's first page for what widens it."""
    from scipy.special import stdtrit

    total, square = float(share_T.sum()), share_T**2
    value = float(share_T @ terms_T) / total if value is None else value
    pseudo = float((share_T * weight_T) @ (share_T * weight_T)) / max(float(share_T @ weight_T), 1e-300)
    more = total + 2 * _PSEUDO * pseudo
    centre = (float(share_T @ terms_T) + _PSEUDO * pseudo) / more
    spread = float(square @ (terms_T - centre) ** 2) + _PSEUDO * pseudo**2 * ((1 - centre) ** 2 + centre**2)
    wide = float(stdtrit(max(ess - 1, 1.0), (1 + level) / 2))
    plain, half = wide * np.sqrt(float(square @ (terms_T - value) ** 2)) / total, wide * np.sqrt(spread) / more
    return value, min(centre - half, value - plain), max(centre + half, value + plain)


def _cs(
    log: Log, target: Float, weight_T: Float, level: float, ess: float, model: Float | None
) -> tuple[float, float, float]:
    alpha = (1 - level) / 2
    value = float((weight_T * log.payoff_T).mean())
    low = _bernstein(weight_T * log.payoff_T, alpha)
    high = 1.0 - _bernstein(weight_T * (1.0 - log.payoff_T), alpha)
    return value, min(low, value), max(high, value)


def _bernstein(x_T: Float, alpha: float) -> float:
    """Lower confidence sequence at the last row for the mean of non-negative terms (predictable plug-in empirical Bernstein)."""
    t = np.arange(1, len(x_T) + 1)
    mean_T = np.minimum((0.5 + np.cumsum(x_T)) / (t + 1), 1.0)
    past_T = np.concatenate([[0.5], mean_T[:-1]])
    square_T = (x_T - past_T) ** 2
    variance_T = np.concatenate([[0.25], (0.25 + np.cumsum(square_T))[:-1] / t[1:]])
    bet_T = np.minimum(np.sqrt(2 * np.log(1 / alpha) / (variance_T * t * np.log1p(t))), 0.5)
    psi_T = -np.log1p(-bet_T) - bet_T
    return float((bet_T @ x_T - np.log(1 / alpha) - square_T @ psi_T) / bet_T.sum())


_ESTIMATORS: dict[str, Callable[[Log, Float, Float, float, float, Float | None], tuple[float, float, float]]] = {
    "ips": _ips,
    "snips": _snips,
    "dr": _dr,
    "dr_stabilised": _dr_stabilised,
    "cs": _cs,
}
