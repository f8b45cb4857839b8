"""One fit: labelled margins in, an order of arms with weights and stopping bounds out. Pure functions; nothing is gated here.

Steps (the prototype's numbering): calibrate (1), moments and shrinkage chosen by grouped cross-validation (2), category means behind a
one-standard-error gate (3), greedy order and non-negative weights (4), temperatures (5) and increments (6) from out-of-fold paths.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.budget import PricePacer
from reward_router.committee.calibrate import Calibrator
from reward_router.committee.labelled import Labelled, assign_folds
from reward_router.committee.lda import (
    Moments,
    category_means,
    greedy_order,
    moments,
    prefix_log_odds,
    prefix_weights,
    shrink_correlation,
)
from reward_router.committee.stop import PRICES, at_price, boundaries, log_loss, temperatures
from reward_router.types import Float, Int

INNER_FOLDS = 4
INTENSITIES = (0.3, 1.0)
EARLY = 4  # prefixes whose tempered log-loss chooses the intensity: few rows go further


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fit learned: row 0 of the G axis is for everybody, row 1 + c for category c where categories are used."""

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

    def rows(self, category_P: Int) -> Int:
        """The G row of each pair: 1 + category where categories are used and the category was seen, else 0."""
        if not self.by_category:
            return np.zeros_like(category_P)
        known = (category_P >= 0) & (category_P < len(self.z_GK) - 1)
        return np.where(known, category_P + 1, 0)


def fit_plan(data: Labelled, cost_K: Float, max_calls: int, seed: int, prices_L: Float = PRICES) -> Plan:
    """Fit everything a committee needs from labelled rows. O(folds (P K^2 + intensities T K^2)) + the dynamic program."""
    length = min(max_calls, data.margins_PK.shape[1])
    random = data.take(data.random_P)
    folds = [_FoldFit(data, random, fold, cost_K, length) for fold in _fold_masks(data, seed)]
    sign = random.sign_P
    paths = _assemble([f.paths(INTENSITIES) for f in folds], folds, len(sign))
    losses = [early_loss(path, sign) for path in paths]
    best = int(np.argmin([loss.mean() for loss in losses]))
    by_category = _assemble([f.category_paths(INTENSITIES[best]) for f in folds], folds, len(sign))[0]
    gain = losses[best] - early_loss(by_category, sign)
    use = bool(gain.mean() > gain.std() / np.sqrt(len(gain))) and data.category_P.max(initial=-1) > 0
    path = by_category if use else paths[best]
    return _final(data, random, path, sign, INTENSITIES[best], use, cost_K, length, prices_L)


def early_loss(path_PT: Float, sign_P: Float) -> Float:
    """(P,) log-loss after tempering, averaged over the first prefixes."""
    scaled = (path_PT * temperatures(path_PT, sign_P))[:, :EARLY]
    return np.asarray(log_loss(scaled, sign_P).mean(axis=1))


def _fold_masks(data: Labelled, seed: int) -> list[NDArray[np.bool_]]:
    fold = assign_folds(data.group_P, INNER_FOLDS, seed)
    return [fold == f for f in range(INNER_FOLDS) if (fold == f).any() and (fold != f).any()]


class _FoldFit:
    """Curves and moments without one fold, and that fold's calibrated verdicts."""

    def __init__(self, data: Labelled, random: Labelled, held: NDArray[np.bool_], cost_K: Float, length: int) -> None:
        self.cost_K, self.length = cost_K, length
        train = data.take(~held)
        self.held_random = held[data.random_P]
        fit_rows = train.take(train.random_P)
        calibrator = Calibrator(data.margins_PK.shape[1]).fit(fit_rows.margins_PK, fit_rows.label_P)
        self.v_PK = calibrator.log_odds(train.margins_PK) * train.sign_P[:, None]
        self.moment = moments(self.v_PK, train.weight_P)
        self.category_P = train.category_P
        test = random.take(self.held_random)
        self.x_PK, self.test_category_P = calibrator.log_odds(test.margins_PK), test.category_P

    def paths(self, intensities: tuple[float, ...]) -> Float:
        """(I, P, T) held-out log-odds after 1..T arms for each intensity."""
        corr = np.stack([shrink_correlation(self.moment, i) for i in intensities])
        z = np.repeat(self.moment.z_K[None], len(corr), axis=0)
        order = greedy_order(z, corr, self.cost_K, self.length)
        weight = prefix_weights(z, corr, order, self.moment.sd_K)
        return np.stack([prefix_log_odds(self.x_PK, o, w) for o, w in zip(order, weight, strict=True)])

    def category_paths(self, intensity: float) -> Float:
        """(1, P, T) held-out log-odds with one order a category; unseen categories take the global one."""
        z, order, weight = discriminants(
            self.v_PK, self.category_P, self.moment, intensity, True, self.cost_K, self.length
        )
        row = np.where((self.test_category_P >= 0) & (self.test_category_P < len(z) - 1), self.test_category_P + 1, 0)
        return path_of_rows(self.x_PK, row, order, weight)[None]


def _assemble(parts: list[Float], folds: list["_FoldFit"], n_rows: int) -> Float:
    out = np.zeros((parts[0].shape[0], n_rows, parts[0].shape[2]))
    for part, fold in zip(parts, folds, strict=True):
        out[:, fold.held_random] = part
    return out


def discriminants(
    v_PK: Float, category_P: Int, moment: Moments, intensity: float, by_category: bool, cost_K: Float, length: int
) -> tuple[Float, Int, Float]:
    """z, order and weights, one row for everybody and one a category where asked for (the global one where no arm beats a coin)."""
    z = moment.z_K[None]
    if by_category and category_P.max(initial=-1) >= 0:
        seen = category_P >= 0
        own = category_means(v_PK[seen], category_P[seen], int(category_P.max()) + 1, moment)
        z = np.vstack([z, np.where((own > 0).any(axis=1, keepdims=True), own, z)])
    corr = shrink_correlation(moment, intensity)[None]
    order = greedy_order(z, np.repeat(corr, len(z), axis=0), cost_K, length)
    return z, order, prefix_weights(z, corr, order, moment.sd_K)


def path_of_rows(x_PK: Float, row_P: Int, order_GT: Int, weight_GTT: Float) -> Float:
    """(P, T) log-odds of every row along its own order."""
    out = np.zeros((len(x_PK), order_GT.shape[1]))
    for g in np.unique(row_P):
        mine = row_P == g
        out[mine] = prefix_log_odds(x_PK[mine], order_GT[g], weight_GTT[g])
    return out


def _final(
    data: Labelled,
    random: Labelled,
    path_PT: Float,
    sign_P: Float,
    intensity: float,
    use: bool,
    cost_K: Float,
    length: int,
    prices_L: Float,
) -> Plan:
    temperature = temperatures(path_PT, sign_P)
    scaled = path_PT * temperature
    steps = np.diff(scaled, axis=1, prepend=0.0) * sign_P[:, None]
    calibrator = Calibrator(data.margins_PK.shape[1]).fit(random.margins_PK, random.label_P)
    v_PK = calibrator.log_odds(data.margins_PK) * data.sign_P[:, None]
    moment = moments(v_PK, data.weight_P)
    z, order, weight = discriminants(v_PK, data.category_P, moment, intensity, use, cost_K, length)
    along = np.where(order[0] >= 0, cost_K[np.maximum(order[0], 0)], 0.0)
    bound = boundaries(steps, along, prices_L)
    cost = np.array([_mean_cost(scaled, bound[:, i], along) for i in range(len(prices_L))])
    corr = shrink_correlation(moment, intensity)
    weight = weight * temperature[None, :, None]
    return Plan(calibrator, z, corr, moment.sd_K, order, weight, temperature, bound, prices_L, cost, intensity, use)


def _mean_cost(path_PT: Float, bound_T: Float, cost_T: Float) -> float:
    """What the rows out of fold would have cost under one price's bounds."""
    stop = np.abs(path_PT) >= bound_T
    stop[:, -1] = True
    return float(np.cumsum(cost_T)[np.argmax(stop, axis=1)].mean())


def walk(plan: Plan, margins_PK: Float, category_P: Int, price: float) -> tuple[Float, NDArray[np.bool_]]:
    """Ask row by row until the bound is met: (P,) final log-odds and (P, K) which arms were asked. O(P T^2)."""
    row, path, end = _rows_and_paths(plan, margins_PK, category_P)
    stop = np.abs(path) >= at_price(plan.bound_TL, price, plan.prices_L)
    last = np.minimum(np.where(stop.any(axis=1), np.argmax(stop, axis=1), end), end)
    return path[np.arange(len(path)), last], _asked(plan, row, last, margins_PK.shape[1])


def paced_walk(
    plan: Plan, margins_PK: Float, category_P: Int, pacer: PricePacer, cost_K: Float, unit: float
) -> tuple[Float, NDArray[np.bool_]]:
    """`walk` over a stream: each row is decided at the pacer's price, which then learns what it cost. O(P (T^2 + L))."""
    row, path, end = _rows_and_paths(plan, margins_PK, category_P)
    spent_GT = np.cumsum(np.where(plan.order_GT >= 0, cost_K[plan.order_GT], 0.0), axis=1)
    last = np.zeros(len(path), dtype=np.int64)
    for p, path_T in enumerate(np.abs(path)):
        stop = path_T >= at_price(plan.bound_TL, pacer.price * unit, plan.prices_L)
        last[p] = min(int(np.argmax(stop)), end[p]) if stop.any() else end[p]
        pacer.record(spent_GT[row[p], last[p]])
    return path[np.arange(len(path)), last], _asked(plan, row, last, margins_PK.shape[1])


def _rows_and_paths(plan: Plan, margins_PK: Float, category_P: Int) -> tuple[Int, Float, Int]:
    row = plan.rows(category_P)
    path = path_of_rows(plan.calibrator.log_odds(margins_PK), row, plan.order_GT, plan.weight_GTT)
    return row, path, np.maximum((plan.order_GT >= 0).sum(1), 1)[row] - 1


def _asked(plan: Plan, row_P: Int, last_P: Int, n_arms: int) -> NDArray[np.bool_]:
    asked = np.zeros((len(row_P), n_arms), dtype=bool)
    for t in range(plan.order_GT.shape[1]):
        arm = plan.order_GT[row_P, t]
        going = (t <= last_P) & (arm >= 0)
        asked[np.flatnonzero(going), arm[going]] = True
    return asked
