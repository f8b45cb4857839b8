"""When is another opinion worth its price? A dynamic program over the log-odds.

    V_T(L) = max(s(L), s(-L))                                                                (1)
    V_t(L) = max{ max(s(L), s(-L)),
                  -price c_t + s(L) E V_{t+1}(L + D) + s(-L) E V_{t+1}(L - D) }              (2)

with s the sigmoid and D = y (L_{t+1} - L_t) out of fold in 41 quantiles, as it was observed
(Gaussian increments fail where verdicts tie). The answer after arm t stands where |L_t| >= b_t, the
largest |L| at which going on still wins. All prices of a grid are solved at once.
"""

import numpy as np

from reward_router.types import Float

REACH = 12.0  # largest log-odds of the grid
STEP = 0.05  # of the grid
QUANTILES = (np.arange(41) + 0.5) / 41
PRICE_GRID = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 61)])


def sigmoid(x: Float) -> Float:
    """1 / (1 + exp(-x)) without overflow."""
    # At 40 the result is 1 to the last bit of a float64. Two ufuncs: on short arrays `np.clip`
    # takes several times as long, and a fit calls this tens of thousands of times.
    clipped = np.minimum(np.maximum(x, -40.0), 40.0)
    out: Float = 1.0 / (1.0 + np.exp(-clipped))
    return out


def boundaries(increments_PT: Float, cost_T: Float, prices_L: Float = PRICE_GRID) -> Float:
    """(T, L) thresholds b_t for every price: stop after t arms iff |L_t| >= b_t; b_T = 0.

    Row t-1 belongs to prefix t. O(T G (G L + 41)), G = 481 grid points.

    Args:
        increments_PT: D of stage t in column t, the step from prefix t to prefix t + 1. Column 0,
            the first arm, is not used.
        cost_T: price of each arm in order, relative to the mean arm.
        prices_L: prices of a unit of cost.
    """
    grid = np.arange(-REACH, REACH + STEP / 2, STEP)
    n_prices = len(prices_L)
    n_stages = increments_PT.shape[1]
    now = np.maximum(sigmoid(grid), sigmoid(-grid))[:, None]  # equation (1)
    value = np.repeat(now, n_prices, axis=1)
    bound = np.zeros((n_stages, n_prices))
    # half a step beyond a grid point, so that the point itself goes on
    beyond_G1 = np.abs(grid)[:, None] + STEP / 2

    # Backwards: what going on is worth depends on what the later stages are worth.
    for t in range(n_stages - 1, 0, -1):
        step_Q = np.quantile(increments_PT[:, t], QUANTILES)
        go_on = _expectation(value, step_Q, grid) - prices_L * cost_T[t]
        # By more than rounding: where no step flips the verdict the two are equal at price 0.
        wins = go_on > now + 1e-12
        # the last grid point that wins, 0 where none does
        reach_GL = np.where(wins, beyond_G1, 0.0)
        bound[t - 1] = reach_GL.max(axis=0)
        value = np.maximum(now, go_on)  # equation (2)

    return bound


def _expectation(value_GL: Float, step_Q: Float, grid_G: Float) -> Float:
    """s(L) E V(L + D) + s(-L) E V(L - D); the second term mirrors the first because V is even.

    V is shifted on the grid, linearly between its cells.
    """
    size = len(grid_G)
    # beyond the grid the value is that of its end
    padded = np.pad(value_GL, ((size, size), (0, 0)), mode="edge")
    # A step of more than the grid's own width lands in the padding either way.
    shift_Q = np.clip(step_Q / STEP, 1 - size, size - 2)
    cell_Q = np.floor(shift_Q).astype(int) + size
    part_Q = shift_Q % 1

    ahead = np.zeros_like(value_GL)
    for low, part in zip(cell_Q, part_Q, strict=True):
        # linear between two cells
        here = padded[low : low + size]
        next_cell = padded[low + 1 : low + 1 + size]
        ahead += (1 - part) * here + part * next_cell

    ahead /= len(step_Q)
    up = sigmoid(grid_G)[:, None]
    return np.asarray(up * ahead + (1 - up) * ahead[::-1])


def at_price(bound_TL: Float, price: float, prices_L: Float = PRICE_GRID) -> Float:
    """(T,) boundaries at one price, linear in log(price) between the grid's.

    Above the grid's end its last column holds; a grid of one price is taken as it is.
    """
    if len(prices_L) == 1:
        return np.asarray(bound_TL[..., 0])

    # The grid starts at price 0, which has no logarithm.
    log_prices = np.log(np.maximum(prices_L, 1e-6))
    log_price = np.log(max(price, 1e-6))
    place = np.interp(log_price, log_prices, np.arange(len(prices_L)))

    # At the grid's end the pair of neighbours is the last two, with all weight on the second.
    low = min(int(place), len(prices_L) - 2)
    share = place - low
    below_T = bound_TL[..., low]
    above_T = bound_TL[..., low + 1]
    return np.asarray(below_T * (1 - share) + above_T * share)


def temperatures(log_odds_PT: Float, sign_P: Float, limit: float = 1.5) -> Float:
    """(T,) scale of each prefix's log-odds by out-of-fold log-loss, in [.02, limit].

    log T is smoothed over 3 prefixes. O(P T) a step.
    """
    # y L: above 0 where the prefix was right.
    agree = log_odds_PT * sign_P[:, None]
    lowest = np.log(0.02)
    highest = np.log(limit)

    log_t = np.zeros(agree.shape[1])
    for _ in range(25):
        t = np.exp(log_t)
        # The probability that was given to the wrong side.
        p = sigmoid(-t * agree)
        # first and second derivative of the log-loss in log t
        slope = -(p * agree).sum(0) * t
        curve = (p * (1 - p) * agree**2).sum(0) * t**2 + 1e-6
        # |slope| in the denominator damps the step where the curve is nearly flat.
        newton = slope / (curve + np.abs(slope))
        step = np.clip(newton, -0.5, 0.5)
        before = log_t
        log_t = np.clip(log_t - step, lowest, highest)
        # The same log t again: every further step would be the same as well.
        if (log_t == before).all():
            break

    # log T is smoothed over three prefixes
    padded = np.concatenate([log_t[:1], log_t, log_t[-1:]])
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.asarray(np.exp(smooth))


def log_loss(log_odds: Float, sign_P: Float) -> Float:
    """log(1 + exp(-y L)), elementwise along the first axis."""
    if log_odds.ndim == 1:
        side = sign_P
    else:
        side = sign_P.reshape(-1, *([1] * (log_odds.ndim - 1)))
    return np.asarray(np.logaddexp(0.0, -(log_odds * side)))
