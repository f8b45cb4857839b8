"""P(arm wins): the exact probability that independent Gaussian (mixture) utilities have their maximum at each arm.

p_k = integral of f_k(t) prod_{j != k} F_j(t) dt, by Gauss-Legendre panels laid where some arm's
density lives: between the points where a component starts or stops mattering, each panel is at most
``WIDTH`` times the smallest sd that is active there. So nested scales (sd ratios of 1e4 and more)
cost more panels, not accuracy. Below ``max_j (m_j - REACH s_j)`` the maximum lies with probability
under Phi(-REACH); above ``max_j (m_j + REACH s_j)`` likewise. Rows whose scales are alike take
evenly spaced points instead: fewer of them, and nothing to lay out.
"""

from functools import cache
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import AnyFloat, Float, Int

REACH, WIDTH, NODES = 6.0, 2.0, 10
STEP, POINTS = 0.5, 512  # widths of the maximum between even points, and how many points at most
_FLOOR = 1e-9  # smallest sd against the largest in a row: beyond this ratio a point mass is indistinguishable
_CELLS = 1_000_000  # node x component values held at a time


def win_probability(mean_BK: AnyFloat, sd_BK: AnyFloat) -> Float:
    """(B, K) probabilities that arm k's N(mean, sd^2) is the largest of the row's independent draws.

    Absolute error under 1e-6 (checked against adaptive quadrature to K = 64 and sd ratios of 1e4).
    ``sd_BK`` >= 0; equal arms of sd 0 share. O(B K panels), panels about 5 to 60 a row. InputError
    on non-finite input.

    >>> win_probability(np.array([[0.0, 0.0]]), np.array([[1.0, 2.0]])).round(6)
    array([[0.5, 0.5]])
    """
    mean_BKC, sd_BKC = (
        np.asarray(mean_BK, np.float64)[..., None],
        np.asarray(sd_BK, np.float64)[..., None],
    )
    return mixture_win_probability(mean_BKC, sd_BKC, np.ones_like(mean_BKC))


def mixture_win_probability(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> Float:
    """(B, K): as ``win_probability`` for arms that are mixtures of C Gaussians with weights that sum to 1."""
    if mean_BKC.ndim != 3 or not mean_BKC.shape == sd_BKC.shape == weight_BKC.shape:
        raise InputError(
            f"means, sds and weights must share a shape, got {mean_BKC.shape}, {sd_BKC.shape}"
        )
    if not (np.isfinite(mean_BKC).all() and np.isfinite(sd_BKC).all() and (sd_BKC >= 0).all()):
        raise InputError("means must be finite and sds finite and at least 0")
    rows, n_arms = mean_BKC.shape[:2]
    if n_arms == 1 or not rows:
        return np.ones((rows, n_arms))
    if mean_BKC.shape[2] > 1:
        return _by_panels(mean_BKC, sd_BKC, weight_BKC)
    p_BK, found_B = _by_even_points(mean_BKC[..., 0], sd_BKC[..., 0])
    if not found_B.all():
        p_BK[~found_B] = _by_panels(mean_BKC[~found_B], sd_BKC[~found_B], weight_BKC[~found_B])
    return p_BK


def _by_even_points(mean_BK: Float, sd_BK: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Rows whose scales are alike, by evenly spaced points; which rows those are.

    The others' are left open.

    The integrand is smooth and vanishes at both ends, so equal weights converge faster than any
    power of the step h: at worst K equal arms, whose maximum is nearly a Gumbel of scale b = sd /
    sqrt(2 log K), with error e^(-pi^2 b / h), 3e-9 at h = b / 2.
    """
    mean_BK = mean_BK - mean_BK.max(axis=1, keepdims=True)
    low_B, high_B = (mean_BK - REACH * sd_BK).max(axis=1), (mean_BK + REACH * sd_BK).max(axis=1)
    live_BK = mean_BK + REACH * sd_BK >= low_B[:, None]
    finest_B = np.where(live_BK, sd_BK, np.inf).min(axis=1)
    p_BK, n_arms = np.empty_like(mean_BK), mean_BK.shape[1]
    apart = STEP / sqrt(2 * log(n_arms))
    found_B = (high_B - low_B <= POINTS * apart * finest_B) & (finest_B > 1e-200)
    if n_arms * POINTS > _CELLS or not found_B.any():
        return p_BK, np.zeros_like(found_B)
    eighths_B = np.ceil(
        (high_B - low_B) / (8 * apart * np.where(found_B, finest_B, np.inf))
    ).astype(np.int64)
    eighths_B = np.maximum(eighths_B, 1)
    for eighths in set(eighths_B[found_B].tolist()):
        row_R = np.flatnonzero(found_B & (eighths_B == eighths))
        step = max(_CELLS // (8 * eighths * n_arms), 1)
        for start in range(0, len(row_R), step):
            part = row_R[start : start + step]
            sd_RK = np.maximum(sd_BK[part], _FLOOR * finest_B[part, None])
            p_BK[part] = _even_shares(mean_BK[part], sd_RK, low_B[part], high_B[part], 8 * eighths)
    return p_BK, found_B


def _even_shares(mean_RK: Float, sd_RK: Float, low_R: Float, high_R: Float, points: int) -> Float:
    from scipy.special import ndtr

    t_RM = low_R[:, None] + (high_R - low_R)[:, None] * ((np.arange(points) + 0.5) / points)
    z_RMK = np.minimum(
        (t_RM[:, :, None] - mean_RK[:, None]) / sd_RK[:, None], 40.0
    )  # at least -REACH, by ``low``
    below_RMK = ndtr(z_RMK)
    density_RMK = np.exp(-0.5 * z_RMK * z_RMK) / below_RMK
    p_RK = np.einsum("rm,rmk->rk", below_RMK.prod(axis=2), density_RMK) / sd_RK
    return np.asarray(p_RK / p_RK.sum(axis=1, keepdims=True))


def _by_panels(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> Float:
    """Any rows, by panels as fine as each stretch needs."""
    rows, n_arms = mean_BKC.shape[:2]
    mean_BKC, sd_BKC = _standardised(mean_BKC, sd_BKC)
    row_M, t_M, dt_M = _nodes(mean_BKC, sd_BKC, weight_BKC)
    p_BK = np.zeros((rows, n_arms))
    step = max(_CELLS // mean_BKC[0].size, 1)
    for start in range(0, len(t_M), step):
        part = slice(start, start + step)
        share_MK = _shares(
            t_M[part], mean_BKC[row_M[part]], sd_BKC[row_M[part]], weight_BKC[row_M[part]]
        )
        first_R, at_R = np.unique(row_M[part], return_index=True)
        p_BK[first_R] += np.add.reduceat(share_MK * dt_M[part, None], at_R, axis=0)
    return np.asarray(p_BK / p_BK.sum(axis=1, keepdims=True))


def _standardised(mean_BKC: Float, sd_BKC: Float) -> tuple[Float, Float]:
    """Rows about their largest mean in units of their scale, with sds of at least ``_FLOOR``: point masses tie."""
    mean_BKC = mean_BKC - mean_BKC.max(axis=(1, 2), keepdims=True)
    scale_B11 = np.maximum(sd_BKC.max(axis=(1, 2)), -mean_BKC.min(axis=(1, 2)))[:, None, None]
    scale_B11 = np.where(scale_B11 > 1e-290, scale_B11, 1.0)
    return mean_BKC / scale_B11, np.maximum(sd_BKC / scale_B11, _FLOOR)


@cache
def _legendre() -> tuple[Float, Float]:
    node_n, weight_n = np.polynomial.legendre.leggauss(NODES)
    return (node_n + 1) / 2, weight_n / 2


def _nodes(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> tuple[Int, Float, Float]:
    """Quadrature points of all rows, flat: row index, position, weight."""
    row_G, left_G, right_G, rate_G = _stretches(mean_BKC, sd_BKC, weight_BKC)
    count_G = np.ceil((right_G - left_G) * rate_G / WIDTH).astype(np.int64)
    number_P = np.arange(count_G.sum()) - np.repeat(np.cumsum(count_G) - count_G, count_G)
    size_P = np.repeat((right_G - left_G) / count_G, count_G)
    left_P = np.repeat(left_G, count_G) + number_P * size_P
    at_n, weight_n = _legendre()
    t_PN, dt_PN = left_P[:, None] + size_P[:, None] * at_n, size_P[:, None] * weight_n
    return np.repeat(np.repeat(row_G, count_G), NODES), t_PN.ravel(), dt_PN.ravel()


def _stretches(
    mean_BKC: Float, sd_BKC: Float, weight_BKC: Float
) -> tuple[Int, Float, Float, Float]:
    """Stretches of similar finest scale: row, left end, right end, 1 / smallest active sd; those of no density left out."""
    edge_BE, rate_BE = _cells(mean_BKC, sd_BKC, weight_BKC)
    row_F, cell_F = np.nonzero((np.diff(edge_BE, axis=1) > 0) & (rate_BE > 0))
    left_F, right_F, rate_F = (
        edge_BE[row_F, cell_F],
        edge_BE[row_F, cell_F + 1],
        rate_BE[row_F, cell_F],
    )
    octave_F = np.floor(2 * np.log2(rate_F))
    joined_F = (
        (row_F[1:] == row_F[:-1]) & (left_F[1:] == right_F[:-1]) & (octave_F[1:] == octave_F[:-1])
    )
    first_G = np.flatnonzero(np.append(True, ~joined_F))
    last_G = np.append(first_G[1:], len(row_F)) - 1
    return row_F[first_G], left_F[first_G], right_F[last_G], np.maximum.reduceat(rate_F, first_G)


def _cells(mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> tuple[Float, Float]:
    """Sorted ends of all supports (B, 2J), cut to where the maximum can lie, and each cell's finest rate (B, 2J - 1)."""
    rows, live_BKC = len(mean_BKC), weight_BKC > 1e-12
    start_BKC = np.where(live_BKC, mean_BKC - REACH * sd_BKC, np.inf)
    stop_BKC = np.where(live_BKC, mean_BKC + REACH * sd_BKC, -np.inf)
    low_B, high_B = start_BKC.min(axis=2).max(axis=1), stop_BKC.max(axis=(1, 2))
    start_BJ, stop_BJ = start_BKC.reshape(rows, -1), stop_BKC.reshape(rows, -1)
    edge_BE = np.concatenate([start_BJ, stop_BJ], axis=1)
    edge_BE = np.sort(np.clip(edge_BE, low_B[:, None], high_B[:, None]), axis=1)
    middle_BE = (edge_BE[:, :-1] + edge_BE[:, 1:]) / 2
    rate_BE, rate_BJ = np.zeros_like(middle_BE), 1 / sd_BKC.reshape(rows, -1)
    for j in range(rate_BJ.shape[1]):  # over components: keeps memory at B x 2J
        inside_BE = (middle_BE > start_BJ[:, j, None]) & (middle_BE < stop_BJ[:, j, None])
        np.maximum(rate_BE, inside_BE * rate_BJ[:, j, None], out=rate_BE)
    return edge_BE, rate_BE


def _shares(t_M: Float, mean_MKC: Float, sd_MKC: Float, weight_MKC: Float) -> Float:
    """f_k(t) prod_{j != k} F_j(t) at each node: (M, K)."""
    from scipy.special import ndtr

    z_MKC = (t_M[:, None, None] - mean_MKC) / sd_MKC
    density_MK = (weight_MKC * np.exp(-0.5 * z_MKC**2) / sd_MKC).sum(axis=2) / np.sqrt(2 * np.pi)
    below_MK = (weight_MKC * ndtr(np.maximum(z_MKC, -37.0))).sum(axis=2)
    return np.asarray(density_MK / below_MK * below_MK.prod(axis=1, keepdims=True))
