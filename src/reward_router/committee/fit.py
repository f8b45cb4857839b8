"""One fit: labelled margins in, an order of arms with weights and stopping bounds out.

Steps (the prototype's numbering): calibrate (1), moments and shrinkage chosen by grouped
cross-validation (2), category means behind a one-standard-error gate (3), greedy order and
non-negative weights (4), temperatures (5) and increments (6) from out-of-fold paths. Deviations:
slopes are >= 0; families of near-duplicates; the intensity is one of two, chosen by the prefixes
most rows stop at.

``weights`` says what an arm's verdict may weigh: "safe" (a non-negative discriminant), "signed" (of
either sign), "vote" (log-odds of its accuracy, on sides alone), "mean" (the same for all, on
margins of unit scale). The last two learn little, so they need few labels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.calibrate import Calibrator
from reward_router.committee.labelled import LabelledRows, assign_folds
from reward_router.committee.lda import (
    Moments,
    category_means,
    greedy_order,
    mean_moments,
    moments,
    prefix_log_odds,
    prefix_weights,
    shrink_correlation,
    vote_moments,
)
from reward_router.committee.plan import CommitteePlan, path_of_rows
from reward_router.committee.stop import PRICE_GRID, boundaries, log_loss, temperatures
from reward_router.types import Float, Int

INNER_FOLDS = 4
INTENSITIES = (0.3, 1.0)
EARLY = 4  # prefixes whose tempered log-loss chooses the intensity: few rows go further
WEIGHTS = ("safe", "signed", "mean", "vote")
# of the log-odds of "mean", whose unit is arbitrary; the others may grow 1.5-fold
LARGEST_SCALE = 4.0


class FitShape(NamedTuple):
    """What a fit may use: relative costs, the longest order, and what a verdict may weigh."""

    cost_K: Float
    length: int
    weights: str

    @property
    def signed(self) -> bool:
        """Whether an arm may count against its own verdict."""
        return self.weights == "signed"

    @property
    def learns_little(self) -> bool:
        """Whether neither correlations nor categories are learned."""
        return self.weights in ("mean", "vote")

    @property
    def limit(self) -> float:
        """The largest temperature."""
        return LARGEST_SCALE if self.weights == "mean" else 1.5

    def calibrator(self, rows: LabelledRows) -> Calibrator:
        """Curves of the labelled rows; ranks, scales or sides alone where the weights say so."""
        blank = Calibrator(rows.margins_PK.shape[1])
        if self.weights == "safe":
            # Only these curves read labels, so only they can overfit them.
            return blank.fit(rows.margins_PK, rows.label_P)

        without_labels = {
            "signed": blank.fit_signed,
            "mean": blank.fit_scaled,
            "vote": blank.fit_sides,
        }

        return without_labels[self.weights](rows.margins_PK)

    def moments(self, v_PK: Float, weight_P: Float) -> Moments:
        """Moments of v = y x that lead to these weights."""
        special = {"mean": mean_moments, "vote": vote_moments}
        return special.get(self.weights, moments)(v_PK, weight_P)

    def order_and_weights(self, z_GK: Float, corr_GKK: Float, sd_K: Float) -> tuple[Int, Float]:
        """(G, T) arms in the order they are asked and (G, T, T) their weights after each."""
        order = greedy_order(z_GK, corr_GKK, self.cost_K, self.length, self.signed)
        return order, prefix_weights(z_GK, corr_GKK, order, sd_K, self.signed)


class ValidatedOptions(NamedTuple):
    """What cross-validation chose: the correlations' intensity, and whether categories are used.

    ``path_PT`` holds the log-odds out of fold after 1..T arms.
    """

    path_PT: Float
    intensity: float
    by_category: bool


def fit_plan(
    data: LabelledRows, shape: FitShape, seed: int, prices_L: Float = PRICE_GRID
) -> CommitteePlan:
    """Fit everything a committee needs from labelled rows.

    O(folds (P K^2 + intensities T K^2)) + the dynamic program.
    """
    random = data.take(data.random_P)
    sign = random.sign_P
    # Whole prompts are held out: rows of one prompt are alike.
    folds = [_FoldFit(data, random, held, shape) for held in _fold_masks(data, seed)]

    # neither correlations nor categories to choose between
    if shape.learns_little:
        paths_F = [fold.paths((1.0,)) for fold in folds]
        path = _assemble(paths_F, folds, len(sign))[0]
        return _final(data, random, ValidatedOptions(path, 1.0, False), shape, prices_L)

    # First the intensity of the correlations, without categories.
    paths_F = [fold.paths(INTENSITIES) for fold in folds]
    paths = _assemble(paths_F, folds, len(sign))
    losses = [early_loss(path, sign) for path in paths]
    # By what most rows see: few go beyond the first prefixes.
    best = int(np.argmin([loss.mean() for loss in losses]))
    intensity = INTENSITIES[best]

    # Then whether categories help at that intensity.
    category_paths_F = [fold.category_paths(intensity) for fold in folds]
    by_category = _assemble(category_paths_F, folds, len(sign))[0]
    gain = losses[best] - early_loss(by_category, sign)
    # categories must gain more than one standard error
    standard_error = gain.std() / np.sqrt(len(gain))
    clear = bool(gain.mean() > standard_error)
    use = clear and data.category_P.max(initial=-1) > 0
    path = by_category if use else paths[best]

    return _final(data, random, ValidatedOptions(path, intensity, use), shape, prices_L)


def early_loss(path_PT: Float, sign_P: Float) -> Float:
    """(P,) log-loss after tempering, averaged over the first prefixes."""
    # Tempered, so that an intensity is not chosen for being less sure of itself.
    scaled = (path_PT * temperatures(path_PT, sign_P))[:, :EARLY]
    return np.asarray(log_loss(scaled, sign_P).mean(axis=1))


def _fold_masks(data: LabelledRows, seed: int) -> list[NDArray[np.bool_]]:
    group_P = data.group_P
    if len(np.unique(group_P)) < 2:
        # Rows of one prompt alone: a row is all that can be held out.
        group_P = np.arange(len(group_P))
    fold = assign_folds(group_P, INNER_FOLDS, seed)
    return [fold == f for f in range(INNER_FOLDS) if (fold == f).any() and (fold != f).any()]


class _FoldFit:
    """Curves and moments without one fold, and that fold's calibrated verdicts."""

    def __init__(
        self, data: LabelledRows, random: LabelledRows, held: NDArray[np.bool_], shape: FitShape
    ) -> None:
        self.shape = shape

        # What is learned, from the other folds.
        train = data.take(~held)
        calibrator = shape.calibrator(train.take(train.random_P))
        log_odds_PK = calibrator.log_odds(train.margins_PK)
        # Turned so that + is right: then the moments need no label.
        self.v_PK = log_odds_PK * train.sign_P[:, None]
        self.moment = shape.moments(self.v_PK, train.weight_P)
        self.category_P = train.category_P

        # What is predicted: this fold's rows, and only those that were labelled at random.
        self.held_random = held[data.random_P]
        test = random.take(self.held_random)
        self.x_PK = calibrator.log_odds(test.margins_PK)
        self.test_category_P = test.category_P

    def paths(self, intensities: tuple[float, ...]) -> Float:
        """(I, P, T) held-out log-odds after 1..T arms for each intensity."""
        # All intensities go through one batched call.
        corr = np.stack([shrink_correlation(self.moment, intensity) for intensity in intensities])
        z = np.repeat(self.moment.z_K[None], len(corr), axis=0)
        order, weight = self.shape.order_and_weights(z, corr, self.moment.sd_K)

        paths = []
        for order_T, weight_TT in zip(order, weight, strict=True):
            path_PT = prefix_log_odds(self.x_PK, order_T, weight_TT)
            paths.append(path_PT)
        return np.stack(paths)

    def category_paths(self, intensity: float) -> Float:
        """(1, P, T) held-out log-odds with one order a category.

        Unseen categories take the global order.
        """
        z, order, weight = discriminants(
            self.v_PK, self.category_P, self.moment, intensity, True, self.shape
        )
        # Row 0 is the global order, and each category's follows.
        n_categories = len(z) - 1
        category_P = self.test_category_P
        seen = (category_P >= 0) & (category_P < n_categories)
        row = np.where(seen, category_P + 1, 0)
        return path_of_rows(self.x_PK, row, order, weight)[None]


def _assemble(parts: list[Float], folds: list["_FoldFit"], n_rows: int) -> Float:
    out = np.zeros((parts[0].shape[0], n_rows, parts[0].shape[2]))
    for part, fold in zip(parts, folds, strict=True):
        # every random row is held out once
        out[:, fold.held_random] = part
    return out


def discriminants(
    v_PK: Float,
    category_P: Int,
    moment: Moments,
    intensity: float,
    by_category: bool,
    shape: FitShape,
) -> tuple[Float, Int, Float]:
    """z, order and weights: one row for everybody, and one a category where ``by_category``.

    A category in which no arm beats a coin takes the global z.
    """
    z = moment.z_K[None]
    has_categories = category_P.max(initial=-1) >= 0
    if by_category and has_categories:
        seen = category_P >= 0
        n_categories = int(category_P.max()) + 1
        own = category_means(v_PK[seen], category_P[seen], n_categories, moment)
        # where no arm beats a coin in a category, the global order is the better guess
        some_arm = (own > 0).any(axis=1, keepdims=True)
        own_or_global = np.where(some_arm, own, z)
        z = np.vstack([z, own_or_global])

    # Correlations are of the arms and not of a category: few rows could not tell them.
    shrunk = shrink_correlation(moment, intensity)
    corr = np.repeat(shrunk[None], len(z), axis=0)
    order, weight = shape.order_and_weights(z, corr, moment.sd_K)
    return z, order, weight


def _final(
    data: LabelledRows,
    random: LabelledRows,
    chosen: ValidatedOptions,
    shape: FitShape,
    prices_L: Float,
) -> CommitteePlan:
    """Fit curves, moments and bounds on all rows, with what cross-validation chose."""
    temperature = temperatures(chosen.path_PT, random.sign_P, shape.limit)
    scaled = chosen.path_PT * temperature
    # y (L_{t+1} - L_t) of equation (2) in `stop`, as it was observed out of fold.
    steps = np.diff(scaled, axis=1, prepend=0.0) * random.sign_P[:, None]
    calibrator = shape.calibrator(random)
    v_PK = calibrator.log_odds(data.margins_PK) * data.sign_P[:, None]
    moment = shape.moments(v_PK, data.weight_P)
    z, order, weight = discriminants(
        v_PK, data.category_P, moment, chosen.intensity, chosen.by_category, shape
    )
    # -1 stands where nobody adds any more: it costs nothing
    along = np.where(order[0] >= 0, shape.cost_K[np.maximum(order[0], 0)], 0.0)
    bound = boundaries(steps, along, prices_L)
    cost = [_mean_cost(scaled, bound[:, i], along) for i in range(len(prices_L))]

    return CommitteePlan(
        calibrator,
        z_GK=z,
        corr_KK=shrink_correlation(moment, chosen.intensity),
        sd_K=moment.sd_K,
        order_GT=order,
        weight_GTT=weight * temperature[None, :, None],
        temperature_T=temperature,
        bound_TL=bound,
        prices_L=prices_L,
        cost_L=np.array(cost),
        intensity=chosen.intensity,
        by_category=chosen.by_category,
        weights=shape.weights,
    )


def _mean_cost(path_PT: Float, bound_T: Float, cost_T: Float) -> float:
    """What the rows out of fold would have cost under one price's bounds."""
    stop = np.abs(path_PT) >= bound_T
    # after the last arm there is nobody to ask
    stop[:, -1] = True
    return float(np.cumsum(cost_T)[np.argmax(stop, axis=1)].mean())
