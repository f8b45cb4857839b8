"""Symmetric linear discriminant over calibrated verdicts.

It says how much each arm adds beyond those already asked. With v = y x (y = +1 if a is better, else
-1) both classes collapse into one sample with mean mu and covariance Sigma, and the log-odds that a
is better are

    L = 2 w'x with w = Sigma^-1 mu                                                           (1)

In standard units z = mu / sd, R = corr(v - mu):

    w = argmin_{w >= 0} w'R w / 2 - z'w                                                      (2)

Leading axes (G) are batched: correlation intensities, categories. Deviation from plain LDA: z and R
are shrunk and w >= 0.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward_router.types import Float, Int

FAMILY_CORRELATION = 0.9  # arms from this correlation on are near-duplicates
SPENT = 1e-3  # conditional variance below which an arm is explained by those before it


class Moments(NamedTuple):
    """Standardised first and second moments of v = y x; ``n`` is the effective number of rows."""

    z_K: Float
    sd_K: Float
    corr_KK: Float
    target_KK: Float
    n: float


def moments(v_PK: Float, weight_P: Float | None = None) -> Moments:
    """Shrunk z, correlations and the target they shrink to. O(P K^2)."""
    weight = np.ones(len(v_PK)) if weight_P is None else weight_P
    weight = weight / weight.sum()
    # Kish's effective number of rows
    n = 1.0 / float((weight**2).sum())

    mu = weight @ v_PK
    # an arm that always says the same has no spread of its own
    sd = np.sqrt(weight @ (v_PK - mu) ** 2 + 1e-4)
    # Standard units, so that arms with long margins do not dominate the correlations.
    unit = (v_PK - mu) / sd
    weighted = unit * weight[:, None]
    corr = weighted.T @ unit
    np.fill_diagonal(corr, 1.0)

    # an arm below a coin says nothing; the other arms' mean must not lend it a voice
    speaks_K = (v_PK != 0).any(axis=0)
    z_K = np.where(speaks_K, shrink_mean(mu / sd, n), 0.0)
    return Moments(z_K, sd, corr, family_target(corr), n)


def shrink_mean(z_K: Float, n: float) -> Float:
    """z_k <- zbar + (z_k - zbar) t2 / (t2 + 1/n), t2 = max(Var_k z - 1/n, 1e-6)."""
    centre = z_K.mean()
    noise = 1 / n
    # What is left of the arms' spread once sampling noise has explained its part.
    spread = max(float(z_K.var()) - noise, 1e-6)

    gap_K = z_K - centre
    return np.asarray(centre + gap_K * spread / (spread + noise))


def family_target(corr_KK: Float, threshold: float = FAMILY_CORRELATION) -> Float:
    """(K, K) what correlations shrink to: 0 between families, the family's mean inside one.

    Arms are of one family where correlations of at least ``threshold`` link them.
    """
    family = _components(corr_KK >= threshold)
    target = np.eye(len(corr_KK))
    for name in np.unique(family):
        member = np.flatnonzero(family == name)
        size = member.size
        # An arm without relatives keeps 0 to all others.
        if size < 2:
            continue
        inside = np.ix_(member, member)
        # The mean off the diagonal, whose ones are taken out of the sum.
        total = corr_KK[inside].sum() - size
        target[inside] = total / (size * (size - 1))

    np.fill_diagonal(target, 1.0)
    return target


def _components(linked_KK: NDArray[np.bool_]) -> Int:
    """(K,) the lowest arm that each arm is linked to, over any number of links."""
    label = np.arange(len(linked_KK))
    # A label travels one link a round, so K rounds reach every member of a family.
    for _ in range(len(label)):
        # every arm takes the lowest label among those it is linked to
        spread = np.where(linked_KK, label[None, :], len(label)).min(axis=1)
        spread = np.minimum(spread, label)
        if (spread == label).all():
            break
        label = spread

    return label


def shrink_correlation(moment: Moments, intensity: float) -> Float:
    """R = (1 - rho) corr + rho target; 1 is naive Bayes outside families."""
    return np.asarray((1 - intensity) * moment.corr_KK + intensity * moment.target_KK)


def category_means(v_PK: Float, code_P: Int, n_categories: int, moment: Moments) -> Float:
    """(C, K) empirical-Bayes z of each category. O(P K).

    They are pulled to the global z by what chance alone would spread.
    """
    count = np.bincount(code_P, minlength=n_categories).astype(float)
    seen = count > 0
    rows = np.maximum(count, 1)[:, None]
    total = np.zeros((n_categories, v_PK.shape[1]))
    np.add.at(total, code_P, v_PK)

    raw = total / rows / moment.sd_K
    gap = raw - moment.z_K
    noise = 1 / rows

    # what categories differ by beyond their sampling noise
    beyond = gap[seen] ** 2 - noise[seen]
    spread_K = np.maximum(beyond.mean(0), 0.0)

    # Empirical Bayes: the share of a gap that is no noise stays.
    shrunk_gap = gap * spread_K / (spread_K + noise)
    return np.where(seen[:, None], moment.z_K + shrunk_gap, moment.z_K)


def greedy_order(
    z_GK: Float, corr_GKK: Float, cost_K: Float, length: int, signed: bool = False
) -> Int:
    """(G, T) arms by Mahalanobis gain per cost; -1 once nobody adds. O(T K^2).

    The gain is max(z_k|S, 0)^2 / (R_kk|S c_k), with S the arms before. In the model the innovation
    of an arm given those asked does not depend on their scores, so the order is fixed in advance.
    ``signed`` also takes arms that are worse than a coin. An arm explained by those before it
    (conditional variance below 1e-3) is never asked.
    """
    # Both are conditioned in place on each arm as it is picked.
    z = z_GK.copy()
    n_arms = z_GK.shape[1]
    cov = np.broadcast_to(corr_GKK, (*z_GK.shape, n_arms)).copy()
    group = np.arange(len(z))
    order = np.full((len(z), length), -1)
    open_GK = np.ones(z.shape, dtype=bool)

    for t in range(length):
        var = np.maximum(np.diagonal(cov, axis1=1, axis2=2), 0.0)
        # arms not asked, not explained by others, and better than a coin
        alive = open_GK & (var > SPENT) & (signed | (z > 0))
        least_var = np.maximum(var, SPENT)
        gain = np.where(alive, z**2 / least_var / cost_K, 0.0)
        pick = np.argmax(gain, axis=1)
        useful = gain[group, pick] > 1e-12
        order[useful, t] = pick[useful]
        if not useful.any():
            break
        open_GK[group, pick] = False

        # condition z and R on the arm picked: the Schur complement, a rank-1 update
        # Rows in which nobody adds are left as they are.
        scale = np.where(useful, 1 / least_var[group, pick], 0.0)
        column = cov[group, :, pick] * scale[:, None]
        z = z - column * z[group, pick][:, None]
        cov -= column[:, :, None] * cov[group, pick][:, None, :]

    return order


def prefix_weights(
    z_GK: Float, corr_GKK: Float, order_GT: Int, sd_K: Float, signed: bool = False
) -> Float:
    """(G, T, T) weights on x of each prefix: 2 w / sd by equation (2). O(G T^4), T at most 16.

    ``signed`` leaves out the condition w >= 0.
    """
    n_groups, length = order_GT.shape
    corr = np.broadcast_to(corr_GKK, (*z_GK.shape, z_GK.shape[1]))
    out = np.zeros((n_groups, length, length))
    for g in range(n_groups):
        size = int((order_GT[g] >= 0).sum())
        chosen = order_GT[g, :size]
        block = corr[g][np.ix_(chosen, chosen)]
        z = z_GK[g, chosen]
        scale = 2 / sd_K[chosen]  # equation (1) in units of x
        # Every prefix has weights of its own: those of the whole order are wrong for a part of it.
        for t in range(size):
            upto = slice(t + 1)
            out[g, t, upto] = prefix_solve(block[upto, upto], z[upto], signed) * scale[upto]

        # after the last useful arm the sum stays what it is
        out[g, size:] = out[g, size - 1] if size else 0.0

    return out


def prefix_solve(corr_SS: Float, z_S: Float, signed: bool = False) -> Float:
    """Equation (2): the free solution where it is non-negative or ``signed``.

    Otherwise it is SciPy's NNLS on the Cholesky factor.
    """
    # Two arms that always agree make R singular.
    ridged = corr_SS + _ridge(len(z_S))
    free = np.linalg.solve(ridged, z_S)
    if signed or (free >= 0).all():
        return np.asarray(free)

    from scipy.optimize import nnls

    # w'R w / 2 - z'w = |F'w - F^-1 z|^2 / 2 + const with R = F F': a least-squares problem
    factor = np.linalg.cholesky(ridged)
    return np.asarray(nnls(factor.T, np.linalg.solve(factor, z_S))[0], dtype=np.float64)


@functools.cache
def _ridge(size: int) -> Float:
    """1e-6 on the diagonal. It is read alone: every prefix of a length shares it."""
    ridge = 1e-6 * np.eye(size)
    ridge.flags.writeable = False
    return ridge


def vote_moments(v_PK: Float, weight_P: Float | None = None) -> Moments:
    """Moments whose discriminant is the weighted vote: log(s / (1 - s)) for an arm.

    s is the arm's smoothed share of right verdicts. ``v_PK`` holds y sign(m). Arms at or below a
    coin get z = 0 and are never asked. O(P K).
    """
    right_K, n = _weighted_mean(0.5 + 0.5 * v_PK, weight_P)
    # Laplace's rule: neither 0 nor 1
    share_K = (n * right_K + 1) / (n + 2)
    log_odds_K = np.log(share_K / (1 - share_K))

    z_K = np.maximum(log_odds_K, 0.0)
    # sd 2, so that 2 w / sd is the arm's log-odds
    sd_K = np.full(len(share_K), 2.0)
    return _independent(z_K, sd_K, n)


def mean_moments(v_PK: Float, weight_P: Float | None = None) -> Moments:
    """Moments whose discriminant weighs all arms alike, the surest asked first.

    ``v_PK`` holds y times margins of unit scale. Arms whose mean is not above 0 get z = 0 and are
    never asked. O(P K).
    """
    mean_K, n = _weighted_mean(v_PK, weight_P)
    second_K, _ = _weighted_mean(v_PK**2, weight_P)
    # E[v^2] - E[v]^2, which rounding may bring below 0.
    var_K = np.maximum(second_K - mean_K**2, 0.0)

    z_K = np.maximum(mean_K / np.sqrt(var_K + 1e-4), 0.0)
    # sd 2 z, so that 2 w / sd is 1 for every arm
    sd_K = np.where(z_K > 0, 2 * z_K, 1.0)
    return _independent(z_K, sd_K, n)


def _weighted_mean(value_PK: Float, weight_P: Float | None) -> tuple[Float, float]:
    weight = np.ones(len(value_PK)) if weight_P is None else weight_P
    weight = weight / weight.sum()

    mean_K = np.asarray(weight @ value_PK)
    # Kish's effective number of rows
    n = 1.0 / float((weight**2).sum())
    return mean_K, n


def _independent(z_K: Float, sd_K: Float, n: float) -> Moments:
    identity = np.eye(len(z_K))
    return Moments(z_K, sd_K, identity, identity, n)


def prefix_log_odds(x_PK: Float, order_T: Int, weight_TT: Float) -> Float:
    """(P, T) log-odds after 1..T arms of one order: L_t = sum_{k in S_t} w_k x_k. O(P T^2)."""
    # -1 ends an order: it reads arm 0 and is multiplied by 0.
    picked = x_PK[:, np.maximum(order_T, 0)] * (order_T >= 0)
    return np.asarray(picked @ weight_TT.T)  # equation (1), a row of weights a prefix
