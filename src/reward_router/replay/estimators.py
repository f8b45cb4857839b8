"""Off-policy estimates as pure functions of row terms; leading axes hold several logs at once.

The logger adapts, so rows are not independent. But given the past and the row's context,
w_t r_t - v_t has mean 0, which is all that the intervals use (martingale central limit theorem):

- ``ips``, ``snips``, ``dr``: the variance is the larger of two. As drawn: that of the row terms
  about their mean, which also holds the spread of v_t over contexts and so errs on the wide side.
  As expected: sum_k target_k^2 / p_k, known from the recorded probabilities, times the mean
  squared residual; it sees the large weights that were possible and did not happen. Student's t
  with ESS - 1 degrees of freedom, and four pseudo-rows of the average effective weight (two right,
  two wrong; Agresti and Coull) against payoffs near 0 or 1: the interval is the hull of the one
  with and the one without them.
- ``dr_stabilised``: rows weighted by the inverse root of the variance expected from the past alone
  (Hadad et al. 2021; Zhan et al. 2021), for loggers that all but stop exploring.
- ``cs``: empirical-Bernstein confidence sequence for IPS (Waudby-Smith and Ramdas 2024,
  predictable plug-in). It holds at any stopping time for contexts in random order, and is wide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reward_router.types import Float, Int

Bounds = tuple[Float, Float, Float]  # value, low, high: one number a log
_PSEUDO = 2.0
_REFITS = 20
_TINY = 1e-300


@dataclass(frozen=True)
class Terms:
    """What the estimators need of T paid, drawn rows for one frozen target; all arrays (..., T).

    Args:
        weight_T: target / propensity of the drawn arm.
        payoff_T: what it earned.
        spread_T: mean square of the weight given the past, sum_k target_k^2 / p_k.
        direct_T: sum_k target_k q_k, q the payoff expected from earlier rows (``past_model``).
        own_T: q of the drawn arm.
    """

    weight_T: Float
    payoff_T: Float
    spread_T: Float
    direct_T: Float
    own_T: Float

    @property
    def ess(self) -> Float:
        """(...) effective sample size.

        It is the smaller of (sum w)^2 / sum w^2 as drawn and T^2 / sum E[w^2] as it was to be
        expected. Large weights that were possible and did not happen make the first look good;
        the second takes them into account.
        """
        # Kish's effective sample size of the weights as drawn.
        n_rows = self.weight_T.shape[-1]
        total = self.weight_T.sum(axis=-1)
        squares = (self.weight_T**2).sum(axis=-1)
        drawn = total**2 / np.maximum(squares, _TINY)
        # The same with E[w^2], which the recorded probabilities give without waiting for the draw.
        expected = n_rows**2 / np.maximum(self.spread_T.sum(axis=-1), _TINY)
        return np.asarray(np.minimum(drawn, expected))


def terms(target_TK: Float, probs_TK: Float, arm_T: Int, payoff_T: Float, model_TK: Float) -> Terms:
    """Row terms of one target; arrays (..., T, K) and (..., T). O(T K)."""
    # An arm that the target never takes adds nothing, also where the logger never took it: 0/0.
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_TK = np.where(target_TK > 0, target_TK**2 / probs_TK, 0.0)
    # Only the drawn arm has a payoff, so only its ratio of probabilities enters.
    weight_T = _drawn(target_TK, arm_T) / _drawn(probs_TK, arm_T)
    # The model's value of the target: what `dr` starts from before the residual corrects it.
    direct_T = np.einsum("...tk,...tk->...t", target_TK, model_TK)
    return Terms(weight_T, payoff_T, spread_TK.sum(axis=-1), direct_T, _drawn(model_TK, arm_T))


def _drawn(values_TK: Float, arm_T: Int) -> Float:
    return np.asarray(np.take_along_axis(values_TK, arm_T[..., None], axis=-1)[..., 0])


def past_model(
    context_TD: Float, arm_T: Int, payoff_T: Float, n_arms: int, penalty: float = 1.0
) -> Float:
    """(..., T, K) payoff expected of each arm on each row; 1/2 before there are earlier rows.

    Ridge regression for each arm on earlier rows, fitted anew 20 times along the log.
    O(T D^2 + 20 K D^3) a log.

    Args:
        context_TD: contexts of the rows, (..., T, D).
        arm_T: the arm of each row.
        payoff_T: what it earned.
        n_arms: K.
        penalty: of the ridge regression.
    """
    # Several logs go through one stacked solve: R of them, whatever their leading axes were.
    lead = arm_T.shape[:-1]
    n_rows = arm_T.shape[-1]
    ones = np.ones((*context_TD.shape[:-1], 1))
    x_RTD = np.concatenate([ones, context_TD], axis=-1)
    x_RTD = x_RTD.reshape(-1, n_rows, context_TD.shape[-1] + 1)
    # One model for each log and arm: the slot numbers them all.
    slot_RT = arm_T.reshape(-1, n_rows) + n_arms * np.arange(len(x_RTD))[:, None]
    # About 1/2, so that the ridge shrinks an arm without rows to "no idea" and not to failure.
    payoff_RT = payoff_T.reshape(-1, n_rows) - 0.5
    width = x_RTD.shape[-1]
    models = n_arms * len(x_RTD)
    gram_MDD = np.tile(penalty * np.eye(width), (models, 1, 1))
    moment_MD = np.zeros((models, width))
    q_RTK = np.full((len(x_RTD), n_rows, n_arms), 0.5)
    # The first part is predicted by no rows at all and keeps 1/2.
    edges = np.linspace(0, n_rows, _REFITS + 1).astype(np.int64)
    # Rows from begin to start are learned from, those from start to stop are predicted.
    for (begin, start), stop in zip(pairwise(edges[:-1]), edges[2:], strict=True):
        x_QD = x_RTD[:, begin:start].reshape(-1, width)
        slot_Q = slot_RT[:, begin:start].ravel()
        payoff_Q1 = payoff_RT[:, begin:start].reshape(-1, 1)
        # Not `gram[slot] += ...`: that would count a slot once, however often it occurs.
        np.add.at(gram_MDD, slot_Q, x_QD[:, :, None] * x_QD[:, None, :])
        np.add.at(moment_MD, slot_Q, payoff_Q1 * x_QD)
        weight_RKD = np.linalg.solve(gram_MDD, moment_MD[:, :, None]).reshape(-1, n_arms, width)
        predicted_RTK = 0.5 + x_RTD[:, start:stop] @ weight_RKD.transpose(0, 2, 1)
        # A linear model leaves [0, 1] far from its rows, and no payoff does.
        q_RTK[:, start:stop] = np.clip(predicted_RTK, 0.0, 1.0)
    return q_RTK.reshape(*lead, n_rows, n_arms)


def ips(rows: Terms, level: float) -> Bounds:
    """Inverse propensity weighting: the mean of w r. Unbiased."""
    return term_interval(rows.weight_T * rows.payoff_T, rows.payoff_T, rows, level)


def snips(rows: Terms, level: float) -> Bounds:
    """Self-normalised: sum w r / sum w.

    Linearised about its value, the row terms are w (r - value).
    """
    # All weights may be 0: the target and the logger then never took the same arm.
    total = np.maximum(rows.weight_T.sum(axis=-1), _TINY)
    value = (rows.weight_T * rows.payoff_T).sum(axis=-1) / total
    # First-order expansion of a ratio of means: the error is the mean of w (r - value) over total.
    residual_T = rows.payoff_T - value[..., None]
    term_T = value[..., None] + rows.weight_T * residual_T
    return term_interval(term_T, residual_T, rows, level, value=value)


def dr(rows: Terms, level: float) -> Bounds:
    """Doubly robust: sum_k target_k q_k + w (r - q of the drawn arm). Unbiased.

    The model q is fitted on earlier rows only.
    """
    # The weights multiply the residual alone, so it and not the payoff sets the width.
    return term_interval(_doubly_robust(rows), rows.payoff_T - rows.own_T, rows, level)


def dr_stabilised(rows: Terms, level: float) -> Bounds:
    """As ``dr``, rows weighted by the inverse root of the variance expected from the past alone."""
    residual_T = rows.payoff_T - rows.own_T
    share_T = _stabilised(rows.spread_T)
    return term_interval(_doubly_robust(rows), residual_T, rows, level, share_T=share_T)


def _doubly_robust(rows: Terms) -> Float:
    return rows.direct_T + rows.weight_T * (rows.payoff_T - rows.own_T)


def _stabilised(spread_T: Float) -> Float:
    """(..., T) inverse root of the mean of sum_k target_k^2 / p_k over the rows before.

    It is known before the row's own context, so the weighted terms keep their mean.
    """
    n_rows = spread_T.shape[-1]
    # A window and not all of the past: the logger's probabilities drift as it learns.
    window = max(1, n_rows // 20)
    zero = np.zeros((*spread_T.shape[:-1], 1))
    # Differences of one running sum give every window's sum in O(T).
    total_T = np.concatenate([zero, np.cumsum(spread_T, axis=-1)], axis=-1)
    start_T = np.maximum(np.arange(n_rows) - window, 0)
    count_T = np.maximum(np.arange(n_rows) - start_T, 1)
    before_T = (total_T[..., :n_rows] - total_T[..., start_T]) / count_T
    # The first row has no past; its own spread stands in.
    before_T[..., 0] = spread_T[..., 0]
    # A target that the logger follows nearly always would otherwise get an infinite share.
    return np.asarray(1.0 / np.sqrt(np.maximum(before_T, 1e-12)))


def term_interval(
    term_T: Float,
    residual_T: Float,
    rows: Terms,
    level: float,
    share_T: Float | None = None,
    value: Float | None = None,
) -> Bounds:
    """(value, low, high) of the mean of row terms.

    What widens the interval is said at the top of this module.

    Args:
        term_T: the row terms whose mean is wanted.
        residual_T: what the weights multiply in them.
        rows: the log's terms.
        level: of confidence.
        share_T: weight of each row; None: all count alike.
        value: the estimate, where it is not the mean of the terms.
    """
    from scipy.special import stdtrit

    # Rows of equal share are the plain mean.
    share_T = np.ones_like(term_T) if share_T is None else share_T
    weight_T = rows.weight_T
    square_T = share_T**2
    total = share_T.sum(axis=-1)
    term_sum = (share_T * term_T).sum(axis=-1)
    value = term_sum / total if value is None else value

    # The variance as expected, with the mean square of the residuals under the target.
    total_weight = np.maximum(weight_T.sum(axis=-1), _TINY)
    mean = (weight_T * residual_T).sum(axis=-1) / total_weight
    square = (weight_T * residual_T**2).sum(axis=-1) / total_weight
    # E[w^2 residual^2] as if weight and residual were independent, less the squared mean.
    expected = (square_T * rows.spread_T).sum(axis=-1) * square - square_T.sum(axis=-1) * mean**2

    # Pseudo-rows of the average effective weight, half of them right and half wrong.
    share_weight = np.maximum((share_T * weight_T).sum(axis=-1), _TINY)
    pseudo = (square_T * weight_T**2).sum(axis=-1) / share_weight
    more = total + 2 * _PSEUDO * pseudo
    centre = (term_sum + _PSEUDO * pseudo) / more
    # What the pseudo-rows add to the sum of squares: as many at 1 as at 0, about the centre.
    added = _PSEUDO * pseudo**2 * ((1 - centre) ** 2 + centre**2)

    # The hull of the interval without the pseudo-rows and the one with them.
    # Below two effective rows Student's t has no degrees of freedom left: it stays at one.
    wide = stdtrit(np.maximum(rows.ess - 1, 1.0), (1 + level) / 2)
    plain = wide * np.sqrt(np.maximum(_about(square_T, term_T, value), expected)) / total
    half = wide * np.sqrt(np.maximum(_about(square_T, term_T, centre), expected) + added) / more
    low = np.minimum(centre - half, value - plain)
    high = np.maximum(centre + half, value + plain)
    return value, low, high


def _about(square_T: Float, term_T: Float, centre: Float) -> Float:
    """Weighted sum of squares of the terms about a centre."""
    # Weights are squared because the variance of c x is c^2 that of x.
    return np.asarray((square_T * (term_T - centre[..., None]) ** 2).sum(axis=-1))


def cs(rows: Terms, level: float) -> Bounds:
    """Confidence sequence for the mean of w r, and by 1 - r for its upper end."""
    # Both ends share the error evenly.
    alpha = (1 - level) / 2
    value = (rows.weight_T * rows.payoff_T).mean(axis=-1)
    low = bernstein(rows.weight_T * rows.payoff_T, alpha)
    # The sequence bounds from below only; 1 - r turns the upper end into a lower one.
    high = 1.0 - bernstein(rows.weight_T * (1.0 - rows.payoff_T), alpha)
    return value, np.minimum(low, value), np.maximum(high, value)


def bernstein(x_T: Float, alpha: float) -> Float:
    """Lower confidence sequence at the last row for the mean of non-negative terms.

    Predictable plug-in empirical Bernstein (Waudby-Smith and Ramdas 2024, theorem 2): each bet is
    made from the rows before it.
    """
    # Running mean and variance start from one pseudo-row, 1/2 with variance 1/4.
    t = np.arange(1, x_T.shape[-1] + 1)
    mean_T = np.minimum((0.5 + np.cumsum(x_T, axis=-1)) / (t + 1), 1.0)
    # Shifted by one row: a bet that had seen its own row would not keep the mean at 0.
    past_T = np.concatenate([np.full_like(x_T[..., :1], 0.5), mean_T[..., :-1]], axis=-1)
    square_T = (x_T - past_T) ** 2
    before_T = (0.25 + np.cumsum(square_T, axis=-1))[..., :-1] / t[1:]
    variance_T = np.concatenate([np.full_like(x_T[..., :1], 0.25), before_T], axis=-1)
    # Bets stay at most 1/2: psi grows without bound towards 1.
    bet_T = np.minimum(np.sqrt(2 * np.log(1 / alpha) / (variance_T * t * np.log1p(t))), 0.5)
    psi_T = -np.log1p(-bet_T) - bet_T
    gained = (bet_T * x_T - square_T * psi_T).sum(axis=-1) - np.log(1 / alpha)
    return np.asarray(gained / bet_T.sum(axis=-1))


ESTIMATORS: dict[str, Callable[[Terms, float], Bounds]] = {
    "ips": ips,
    "snips": snips,
    "dr": dr,
    "dr_stabilised": dr_stabilised,
    "cs": cs,
}
