"""What a fit learned, and how rows walk along it: ask, add up, stop at the bound.

Pure functions; nothing is gated here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.budget import PricePacer
from reward_router.committee.calibrate import Calibrator
from reward_router.committee.lda import prefix_log_odds
from reward_router.committee.stop import at_price
from reward_router.types import Float, Int


@dataclass(frozen=True, slots=True)
class CommitteePlan:
    """What a fit learned.

    Row 0 of the G axis is for everybody, row 1 + c for category c where categories are used.
    """

    calibrator: Calibrator
    z_GK: Float
    corr_KK: Float
    sd_K: Float
    order_GT: Int
    weight_GTT: Float
    temperature_T: Float
    bound_TL: Float
    prices_L: Float
    cost_L: Float
    intensity: float
    by_category: bool
    weights: str

    @property
    def signed(self) -> bool:
        """Whether an arm may count against its own verdict."""
        return self.weights == "signed"

    def rows(self, category_P: Int) -> Int:
        """The G row of each pair: 1 + category where it is used and was seen, else 0."""
        if not self.by_category:
            return np.zeros_like(category_P)
        # Row 0 serves pairs without a category and categories that were never seen.
        n_seen = len(self.z_GK) - 1
        seen = (category_P >= 0) & (category_P < n_seen)
        return np.where(seen, category_P + 1, 0)


def path_of_rows(x_PK: Float, row_P: Int, order_GT: Int, weight_GTT: Float) -> Float:
    """(P, T) log-odds of every row along its own order."""
    out = np.zeros((len(x_PK), order_GT.shape[1]))
    for g in np.unique(row_P):
        mine = row_P == g
        # One product a row of the plan, not one a pair.
        out[mine] = prefix_log_odds(x_PK[mine], order_GT[g], weight_GTT[g])
    return out


def walk(
    plan: CommitteePlan, margins_PK: Float, category_P: Int, price: float
) -> tuple[Float, NDArray[np.bool_]]:
    """Ask row by row until the bound is met: (P,) final log-odds and (P, K) which arms were asked.

    O(P T^2).
    """
    row, path, end = _rows_and_paths(plan, margins_PK, category_P)
    bound = at_price(plan.bound_TL, price, plan.prices_L)
    stop = np.abs(path) >= bound

    # the first arm at which the bound is met, at most the last one of the order
    first_stop = np.argmax(stop, axis=1)
    first = np.where(stop.any(axis=1), first_stop, end)
    last = np.minimum(first, end)

    n_rows = len(path)
    n_arms = margins_PK.shape[1]
    log_odds_P = path[np.arange(n_rows), last]
    return log_odds_P, _asked(plan, row, last, n_arms)


def paced_walk(
    plan: CommitteePlan,
    margins_PK: Float,
    category_P: Int,
    pacer: PricePacer,
    cost_K: Float,
    unit: float,
) -> tuple[Float, NDArray[np.bool_]]:
    """`walk` over a stream. O(P (T^2 + L)).

    Each row is decided at the pacer's price, which then learns what it cost.
    """
    row, path, end = _rows_and_paths(plan, margins_PK, category_P)
    # -1 ends an order, and would read the last arm's cost.
    cost_GT = np.where(plan.order_GT >= 0, cost_K[plan.order_GT], 0.0)
    spent_GT = np.cumsum(cost_GT, axis=1)

    last = np.zeros(len(path), dtype=np.int64)
    for p, path_T in enumerate(np.abs(path)):
        price = pacer.price * unit
        bound_T = at_price(plan.bound_TL, price, plan.prices_L)
        stop_T = path_T >= bound_T
        # the first arm at which the bound is met, at most the last one of the order
        last[p] = end[p]
        if stop_T.any():
            last[p] = min(int(np.argmax(stop_T)), end[p])
        # Row by row: the price of the next row depends on what this one cost.
        pacer.record(spent_GT[row[p], last[p]])

    log_odds_P = path[np.arange(len(path)), last]
    return log_odds_P, _asked(plan, row, last, margins_PK.shape[1])


def paths(plan: CommitteePlan, margins_PK: Float, category_P: Int) -> tuple[Float, Int]:
    """(P, T) log-odds after 1..T arms of each row's order, and (P,) the place of its last arm."""
    _, path_PT, end_P = _rows_and_paths(plan, margins_PK, category_P)
    return path_PT, end_P


def _rows_and_paths(
    plan: CommitteePlan, margins_PK: Float, category_P: Int
) -> tuple[Int, Float, Int]:
    row = plan.rows(category_P)
    log_odds = plan.calibrator.log_odds(margins_PK)
    path = path_of_rows(log_odds, row, plan.order_GT, plan.weight_GTT)

    # an order has at least one arm, even where nobody adds
    arms_GT = plan.order_GT >= 0
    length_G = np.maximum(arms_GT.sum(1), 1)
    return row, path, length_G[row] - 1


def _asked(plan: CommitteePlan, row_P: Int, last_P: Int, n_arms: int) -> NDArray[np.bool_]:
    n_rows = len(row_P)
    longest = plan.order_GT.shape[1]
    asked = np.zeros((n_rows, n_arms), dtype=bool)
    for t in range(longest):
        arm = plan.order_GT[row_P, t]
        # rows that were not decided before arm t
        going = (t <= last_P) & (arm >= 0)
        rows = np.flatnonzero(going)
        asked[rows, arm[going]] = True
    return asked
