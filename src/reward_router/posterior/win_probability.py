"""P(arm wins): the exact probability that independent Gaussian utilities are largest at each arm.

Utilities may also be mixtures of Gaussians.

    p_k = integral of f_k(t) prod_{j != k} F_j(t) dt                                         (1)

It is computed by Gauss-Legendre panels laid where some arm's density lives: between the points
where a component starts or stops mattering, each panel is at most ``WIDTH`` times the smallest sd
that is active there. So nested scales (sd ratios of 1e4 and more) cost more panels, not accuracy.
Below ``max_j (m_j - REACH s_j)`` the maximum lies with probability under Phi(-REACH); above
``max_j (m_j + REACH s_j)`` likewise. Rows whose scales are alike take evenly spaced points instead:
fewer of them, and nothing to lay out.
"""

from functools import cache
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import AnyFloat, Float, Int

REACH = 6.0
WIDTH = 2.0
NODES = 10
# widths of the maximum between even points, and how many points at most
STEP = 0.5
POINTS = 512
# Smallest sd against the largest in a row: below it a point mass is indistinguishable.
_FLOOR = 1e-9
_CELLS = 1_000_000  # node x component values held at a time


def win_probability(mean_BK: AnyFloat, sd_BK: AnyFloat) -> Float:
    """(B, K) probabilities that arm k's draw from N(mean, sd^2) is the largest of its row.

    Absolute error under 1e-6 (checked against adaptive quadrature to K = 64 and sd ratios of 1e4).
    ``sd_BK`` >= 0; equal arms of sd 0 share. O(B K panels), panels about 5 to 60 a row. InputError
    on non-finite input.

    >>> win_probability(np.array([[0.0, 0.0]]), np.array([[1.0, 2.0]])).round(6)
    array([[0.5, 0.5]])
    """
    # A Gaussian is a mixture of one component.
    mean_BKC = np.asarray(mean_BK, np.float64)[..., None]
    sd_BKC = np.asarray(sd_BK, np.float64)[..., None]
    return mixture_win_probability(mean_BKC, sd_BKC, np.ones_like(mean_BKC))


def mixture_win_probability(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> Float:
    """(B, K): as ``win_probability`` for arms that are mixtures of C Gaussians.

    The weights of an arm's components sum to 1.
    """
    if mean_BKC.ndim != 3 or not mean_BKC.shape == sd_BKC.shape == weight_BKC.shape:
        raise InputError(
            f"means, sds and weights must share a shape, got {mean_BKC.shape}, {sd_BKC.shape}"
        )
    if not (np.isfinite(mean_BKC).all() and np.isfinite(sd_BKC).all() and (sd_BKC >= 0).all()):
        raise InputError("means must be finite and sds finite and at least 0")

    rows, n_arms = mean_BKC.shape[:2]
    if n_arms == 1 or not rows:
        return np.ones((rows, n_arms))
    # a mixture has scales of its own: no even points for it
    if mean_BKC.shape[2] > 1:
        return _by_panels(mean_BKC, sd_BKC, weight_BKC)

    p_BK, done_B = _by_even_points(mean_BKC[..., 0], sd_BKC[..., 0])
    if not done_B.all():
        rest_B = ~done_B
        p_BK[rest_B] = _by_panels(mean_BKC[rest_B], sd_BKC[rest_B], weight_BKC[rest_B])

    return p_BK


def _by_even_points(mean_BK: Float, sd_BK: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Rows whose scales are alike, by evenly spaced points; and which rows those are.

    The probabilities of the others are left open. The integrand is smooth and vanishes at both
    ends, so equal weights converge faster than any power of the step h: at worst K equal arms,
    whose maximum is nearly a Gumbel of scale b = sd / sqrt(2 log K), with error e^(-pi^2 b / h),
    3e-9 at h = b / 2.
    """
    # only differences matter; about 0 they lose least to rounding
    mean_BK = mean_BK - mean_BK.max(axis=1, keepdims=True)
    # Outside [low, high] the maximum lies with probability under Phi(-REACH).
    low_B = (mean_BK - REACH * sd_BK).max(axis=1)
    high_B = (mean_BK + REACH * sd_BK).max(axis=1)
    # An arm that never reaches the range of the maximum has no say in how fine the points are.
    live_BK = mean_BK + REACH * sd_BK >= low_B[:, None]
    finest_B = np.where(live_BK, sd_BK, np.inf).min(axis=1)
    n_arms = mean_BK.shape[1]
    # The step in units of the sd: half of the Gumbel's scale (see above).
    apart = STEP / sqrt(2 * log(n_arms))
    # Below 1e-200 a square of 1 / sd would overflow.
    alike_B = (high_B - low_B <= POINTS * apart * finest_B) & (finest_B > 1e-200)
    if n_arms * POINTS > _CELLS or not alike_B.any():
        return np.empty_like(mean_BK), np.zeros_like(alike_B)

    if len(mean_BK) == 1:
        # one decision at a time is the usual read: the same numbers with nothing to gather
        finest = float(finest_B[0])
        eighths = max(ceil(float(high_B[0] - low_B[0]) / (8 * apart * finest)), 1)
        sd_1K = np.maximum(sd_BK, _FLOOR * finest)
        return _even_shares(mean_BK, sd_1K, low_B, high_B, 8 * eighths), alike_B

    p_BK = np.empty_like(mean_BK)
    # Rounded up to multiples of eight, so that few different numbers of points occur:
    # the range of the maximum, in multiples of eight points
    eighth_B = 8 * apart * np.where(alike_B, finest_B, np.inf)
    eighths_B = np.ceil((high_B - low_B) / eighth_B).astype(np.int64)
    eighths_B = np.maximum(eighths_B, 1)
    # rows of one number of points go together, in pieces that bound the memory
    for eighths in set(eighths_B[alike_B].tolist()):
        row_R = np.flatnonzero(alike_B & (eighths_B == eighths))
        step = max(_CELLS // (8 * eighths * n_arms), 1)
        for start in range(0, len(row_R), step):
            part = row_R[start : start + step]
            # An arm of sd 0 that is never the maximum is no division by 0.
            sd_RK = np.maximum(sd_BK[part], _FLOOR * finest_B[part, None])
            p_BK[part] = _even_shares(mean_BK[part], sd_RK, low_B[part], high_B[part], 8 * eighths)

    return p_BK, alike_B


def _even_shares(mean_RK: Float, sd_RK: Float, low_R: Float, high_R: Float, points: int) -> Float:
    from scipy.special import ndtr

    # Midpoints: the ends, where the integrand vanishes, would be wasted.
    share_M = (np.arange(points) + 0.5) / points
    t_RM = low_R[:, None] + (high_R - low_R)[:, None] * share_M
    z_RMK = (t_RM[:, :, None] - mean_RK[:, None]) / sd_RK[:, None]
    z_RMK = np.minimum(z_RMK, 40.0)  # it is at least -REACH, by ``low_R``
    below_RMK = ndtr(z_RMK)
    # f_k / F_k but for 1 / (sd sqrt(2 pi)): the sd follows, the constant cancels in the shares.
    density_RMK = np.exp(-0.5 * z_RMK * z_RMK) / below_RMK
    # equation (1), with prod_{j != k} F_j as prod_j F_j / F_k
    p_RK = np.einsum("rm,rmk->rk", below_RMK.prod(axis=2), density_RMK) / sd_RK

    # Quadrature errors are alike in all arms: dividing by the sum takes most of them out.
    return np.asarray(p_RK / p_RK.sum(axis=1, keepdims=True))


def _by_panels(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> Float:
    """Any rows, by panels as fine as each stretch needs."""
    rows, n_arms = mean_BKC.shape[:2]
    mean_BKC, sd_BKC = _standardised(mean_BKC, sd_BKC)
    row_M, t_M, dt_M = _nodes(mean_BKC, sd_BKC, weight_BKC)
    p_BK = np.zeros((rows, n_arms))
    # Pieces of nodes bound the memory at _CELLS values.
    step = max(_CELLS // mean_BKC[0].size, 1)

    for start in range(0, len(t_M), step):
        part = slice(start, start + step)
        row_m = row_M[part]
        share_MK = _shares(t_M[part], mean_BKC[row_m], sd_BKC[row_m], weight_BKC[row_m])
        # nodes of one row lie together, so the sum over them is a sum of stretches
        # A row that is cut between two pieces is added to in both.
        first_R, start_R = np.unique(row_m, return_index=True)
        p_BK[first_R] += np.add.reduceat(share_MK * dt_M[part, None], start_R, axis=0)

    return np.asarray(p_BK / p_BK.sum(axis=1, keepdims=True))


def _standardised(mean_BKC: Float, sd_BKC: Float) -> tuple[Float, Float]:
    """Rows about their largest mean, in units of their scale.

    Sds are at least ``_FLOOR``, so that point masses tie.
    """
    mean_BKC = mean_BKC - mean_BKC.max(axis=(1, 2), keepdims=True)
    scale_B11 = np.maximum(sd_BKC.max(axis=(1, 2)), -mean_BKC.min(axis=(1, 2)))[:, None, None]
    # a row of equal point masses has no scale at all
    scale_B11 = np.where(scale_B11 > 1e-290, scale_B11, 1.0)
    return mean_BKC / scale_B11, np.maximum(sd_BKC / scale_B11, _FLOOR)


@cache
def _legendre() -> tuple[Float, Float]:
    node_n, weight_n = np.polynomial.legendre.leggauss(NODES)
    return (node_n + 1) / 2, weight_n / 2


def _nodes(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> tuple[Int, Float, Float]:
    """Quadrature points of all rows, flat: row index, position, weight."""
    row_G, left_G, right_G, rate_G = _stretches(mean_BKC, sd_BKC, weight_BKC)
    length_G = right_G - left_G
    # A panel spans at most WIDTH of the smallest sd that is active there.
    count_G = np.ceil(length_G * rate_G / WIDTH).astype(np.int64)

    # panels of a stretch are numbered from 0
    first_G = np.cumsum(count_G) - count_G
    number_P = np.arange(count_G.sum()) - np.repeat(first_G, count_G)
    size_P = np.repeat(length_G / count_G, count_G)
    left_P = np.repeat(left_G, count_G) + number_P * size_P
    row_P = np.repeat(row_G, count_G)

    # Gauss-Legendre nodes of every panel
    node_n, weight_n = _legendre()
    t_PN = left_P[:, None] + size_P[:, None] * node_n
    dt_PN = size_P[:, None] * weight_n
    return np.repeat(row_P, NODES), t_PN.ravel(), dt_PN.ravel()


def _stretches(
    mean_BKC: Float, sd_BKC: Float, weight_BKC: Float
) -> tuple[Int, Float, Float, Float]:
    """Stretches of similar finest scale: row, left end, right end, 1 / smallest active sd.

    Those without any density are left out.
    """
    edge_BE, rate_BE = _cells(mean_BKC, sd_BKC, weight_BKC)
    # Ends that were cut to the same place leave cells of length 0.
    row_F, cell_F = np.nonzero((np.diff(edge_BE, axis=1) > 0) & (rate_BE > 0))
    left_F = edge_BE[row_F, cell_F]
    right_F = edge_BE[row_F, cell_F + 1]
    rate_F = rate_BE[row_F, cell_F]
    # stretches whose scale differs by less than a factor sqrt(2) are joined
    # Joining costs at most sqrt(2) times the panels and saves thousands of tiny stretches.
    octave_F = np.floor(2 * np.log2(rate_F))
    same_row_F = row_F[1:] == row_F[:-1]
    touching_F = left_F[1:] == right_F[:-1]
    same_octave_F = octave_F[1:] == octave_F[:-1]
    joined_F = same_row_F & touching_F & same_octave_F
    first_G = np.flatnonzero(np.append(True, ~joined_F))
    last_G = np.append(first_G[1:], len(row_F)) - 1

    return row_F[first_G], left_F[first_G], right_F[last_G], np.maximum.reduceat(rate_F, first_G)


def _cells(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> tuple[Float, Float]:
    """Sorted ends of all supports (B, 2J), and each cell's finest rate (B, 2J - 1).

    The ends are cut to where the maximum can lie.
    """
    rows = len(mean_BKC)
    # A component of weight 0 must not lay panels: its ends are at infinity, cut below.
    live_BKC = weight_BKC > 1e-12
    start_BKC = np.where(live_BKC, mean_BKC - REACH * sd_BKC, np.inf)
    stop_BKC = np.where(live_BKC, mean_BKC + REACH * sd_BKC, -np.inf)
    low_B = start_BKC.min(axis=2).max(axis=1)
    high_B = stop_BKC.max(axis=(1, 2))
    start_BJ = start_BKC.reshape(rows, -1)
    stop_BJ = stop_BKC.reshape(rows, -1)
    edge_BE = np.concatenate([start_BJ, stop_BJ], axis=1)
    edge_BE = np.sort(np.clip(edge_BE, low_B[:, None], high_B[:, None]), axis=1)
    # Between two neighbouring ends no component starts or stops: the middle stands for the cell.
    middle_BE = (edge_BE[:, :-1] + edge_BE[:, 1:]) / 2
    rate_BE = np.zeros_like(middle_BE)
    rate_BJ = 1 / sd_BKC.reshape(rows, -1)
    for j in range(rate_BJ.shape[1]):  # over components: keeps memory at B x 2J
        inside_BE = (middle_BE > start_BJ[:, j, None]) & (middle_BE < stop_BJ[:, j, None])
        np.maximum(rate_BE, inside_BE * rate_BJ[:, j, None], out=rate_BE)

    return edge_BE, rate_BE


def _shares(t_M: Float, mean_MKC: Float, sd_MKC: Float, weight_MKC: Float) -> Float:
    """f_k(t) prod_{j != k} F_j(t) at each node, the integrand of equation (1): (M, K)."""
    from scipy.special import ndtr

    z_MKC = (t_M[:, None, None] - mean_MKC) / sd_MKC
    # f_k: the mixture's density.
    height_MKC = weight_MKC * np.exp(-0.5 * z_MKC**2) / sd_MKC
    density_MK = height_MKC.sum(axis=2) / np.sqrt(2 * np.pi)

    # -37 is where ndtr is about to underflow: f / F must stay finite
    share_MKC = weight_MKC * ndtr(np.maximum(z_MKC, -37.0))
    below_MK = share_MKC.sum(axis=2)
    # equation (1), with prod_{j != k} F_j as prod_j F_j / F_k
    return np.asarray(density_MK / below_MK * below_MK.prod(axis=1, keepdims=True))
