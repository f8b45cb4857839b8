"""Score margin -> log-odds of being right, one monotone curve an arm.

It is the common scale of everything that mixes arms. An arm's raw margin ``s_a - s_b`` says nothing
beside another arm's. Its rank r among the arm's own margins does, and the share of right answers at
that rank is the same unit for all:

    logit P(right) = a + b (r - 1/2), b >= 0                                                 (1)
    x = sign(margin) max(0, a + b (r - 1/2))                                                 (2)

Ties and missing scores carry no evidence (0). Leaves out: position bias (the curve is the same for
both sides), so labels must come with sides drawn at random.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.committee.labelled import check_labels, check_margins
from reward_router.committee.stop import sigmoid
from reward_router.errors import InputError
from reward_router.types import Float, State

KNOTS = 256
MIN_DISTINCT = 5
NEWTON_STEPS = 12


def rank_knots(size_P: Float) -> tuple[Float, Float]:
    """At most KNOTS points (size, mid-rank in [0, 1]) of the non-zero ``size_P``. O(P log P)."""
    values, counts = np.unique(size_P[size_P > 0], return_counts=True)
    if values.size == 0:
        return np.ones(1), np.full(1, 0.5)

    # Mid-ranks: equal margins share the middle of the places that they take.
    rank = (np.cumsum(counts) - counts / 2) / counts.sum()
    # the state stays O(K): ranks between knots are interpolated
    if values.size > KNOTS:
        keep = np.unique(np.linspace(0, values.size - 1, KNOTS).round().astype(np.int64))
        values = values[keep]
        rank = rank[keep]

    return values, rank


def fit_curves(
    rank_PK: Float, right_PK: Float, used_PK: Float, prior: float, slope_precision: float
) -> tuple[Float, Float]:
    """The curves of equation (1) with the highest posterior, all arms at once. O(P K) a step.

    ``prior`` pseudo-counts, half of them right, sit at r = 1/2; b ~ N(0, 1 / slope_precision).
    ``used_PK`` is 1 where the row counts and 0 where it does not. The problem is convex, so where
    the free b is negative the constrained one is 0.
    """
    free_level, free_slope = _newton(rank_PK - 0.5, right_PK, used_PK, prior, slope_precision)
    allowed = free_slope >= 0
    if allowed.all():
        return free_level, free_slope

    # with b = 0 the level alone is fitted
    no_rank_PK = np.zeros_like(rank_PK)
    flat_level, _ = _newton(no_rank_PK, right_PK, used_PK, prior, slope_precision)
    # An arm whose slope was held at 0 needs the level that is best with that slope.
    level = np.where(allowed, free_level, flat_level)
    return level, np.maximum(free_slope, 0.0)


def _newton(
    u_PK: Float, right_PK: Float, used_PK: Float, prior: float, precision: float
) -> tuple[Float, Float]:
    """Newton's method on the two parameters of every arm, written out for 2 x 2 matrices."""
    right_K = (right_PK * used_PK).sum(0) + prior / 2
    used_K = used_PK.sum(0) + prior
    # The level alone has a closed form: a start from which Newton needs few steps.
    a = np.log(right_K / (used_K - right_K))
    b = np.zeros(u_PK.shape[1])

    for _ in range(NEWTON_STEPS):
        p_PK = sigmoid(a + b * u_PK)  # equation (1)
        p_0 = sigmoid(a)
        error_PK = (right_PK - p_PK) * used_PK
        curve_PK = p_PK * (1 - p_PK) * used_PK

        # gradient of the log posterior, then its negative Hessian
        grad_a = error_PK.sum(0) + prior * (0.5 - p_0)
        grad_b = (error_PK * u_PK).sum(0) - precision * b
        aa = curve_PK.sum(0) + prior * p_0 * (1 - p_0)
        ab = (curve_PK * u_PK).sum(0)
        bb = (curve_PK * u_PK**2).sum(0) + precision

        # All ranks alike make the Hessian singular.
        det = np.maximum(aa * bb - ab**2, 1e-12)
        step_a = (bb * grad_a - ab * grad_b) / det
        step_b = (aa * grad_b - ab * grad_a) / det
        # clipped, so that a start far away cannot overshoot
        a = a + np.clip(step_a, -2, 2)
        b = b + np.clip(step_b, -4, 4)

        largest_a = np.abs(step_a).max(initial=0)
        largest_b = np.abs(step_b).max(initial=0)
        if max(largest_a, largest_b) < 1e-9:
            break

    return a, b


def _without_gaps(margins_PK: Float) -> Float:
    """Finite margins with 0 where a score is missing: a tie, which carries no evidence."""
    return np.where(np.isnan(margins_PK), 0.0, margins_PK)


class Calibrator:
    """One monotone curve an arm from margin to log-odds of being right.

    An arm counts as calibrated from ``min_labels`` labelled, non-tied margins on. Fit: O(P K) a
    Newton step; state: O(K) numbers. Source: the prototype's calibration (rank logistic), with
    b >= 0 added so that a larger margin never counts for less.

    Args:
        n_arms: K, the number of arms.
        prior: pseudo-labels, half of them right, that pull an arm with few labels to a coin.
        slope_precision: precision of the prior that pulls its slope to 0.
        min_labels: labelled margins from which on an arm counts as calibrated.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.random(400) < 0.5
    >>> margins = np.where(labels, 1.0, -1.0)[:, None] + rng.normal(size=(400, 2)) * [0.5, 5.0]
    >>> calibrator = Calibrator(2).fit(margins, labels)
    >>> x = calibrator.log_odds([[1.0, 1.0], [0.0, np.nan]])
    >>> bool(x[0, 0] > x[0, 1] > 0), x[1].tolist()
    (True, [0.0, 0.0])
    """

    def __init__(
        self, n_arms: int, prior: float = 4.0, slope_precision: float = 2.0, min_labels: int = 10
    ) -> None:
        """Check the settings; every curve starts at a coin."""
        if n_arms < 1 or prior <= 0 or slope_precision <= 0 or min_labels < 1:
            raise InputError(
                "Calibrator needs n_arms >= 1, prior > 0, slope_precision > 0, min_labels >= 1; "
                f"got {n_arms}, {prior}, {slope_precision}, {min_labels}"
            )

        self.n_arms = n_arms
        self.prior = prior
        self.slope_precision = slope_precision
        self.min_labels = min_labels
        no_knots = [rank_knots(np.zeros(0))] * n_arms
        self._set(np.zeros(n_arms), np.zeros(n_arms), np.zeros(n_arms, np.int64), no_knots)

    def _set(
        self, a_K: Float, b_K: Float, n_K: NDArray[np.int64], knots: list[tuple[Float, Float]]
    ) -> None:
        self.intercept_K = a_K
        self.slope_K = b_K
        self.n_labels_K = n_K
        self._knots = knots

    @property
    def calibrated_K(self) -> NDArray[np.bool_]:
        """(K,) which arms have seen at least ``min_labels`` labelled margins other than ties."""
        out: NDArray[np.bool_] = self.n_labels_K >= self.min_labels
        return out

    def fit(self, margins_PK: ArrayLike, labels_P: ArrayLike) -> Self:
        """Fit every arm's curve from labelled margins; NaN and 0 are left out.

        InputError on infinite margins or odd labels.
        """
        margins = check_margins(margins_PK, self.n_arms)
        label = check_labels(labels_P, len(margins))
        # a missing score becomes a margin of 0, which counts for nothing
        size = np.abs(_without_gaps(margins))
        used = (size > 0).astype(np.float64)
        # A tie is neither right nor wrong: `used` leaves it out.
        names_first = margins > 0
        right = (names_first == label[:, None]).astype(np.float64)

        # Sizes count by their rank among the arm's own: arms differ in the unit of their scores.
        knots = []
        ranks = []
        for k in range(self.n_arms):
            size_P = size[:, k]
            arm_knots = rank_knots(size_P)
            knots.append(arm_knots)
            ranks.append(np.interp(size_P, *arm_knots))
        rank = np.stack(ranks, axis=1)

        # An arm that grades in few steps, such as a verifier's 0 and 1, gets no slope:
        # a rank among fewer than MIN_DISTINCT sizes says little.
        flat = np.array([values.size < MIN_DISTINCT for values, _ in knots])
        rank[:, flat] = 0.5

        a, b = fit_curves(rank, right, used, self.prior, self.slope_precision)
        n_labels_K = used.sum(0).astype(np.int64)
        self._set(a, np.where(flat, 0.0, b), n_labels_K, knots)
        return self

    def fit_signed(self, margins_PK: ArrayLike) -> Self:
        """Ranks only, no labels: x = sign(m) (.4 + 1.2 r).

        It serves discriminants that may weigh an arm negatively.
        """
        margins = check_margins(margins_PK, self.n_arms)
        size_PK = np.abs(_without_gaps(margins))
        knots = [rank_knots(size_PK[:, k]) for k in range(self.n_arms)]
        used_K = (size_PK > 0).sum(0).astype(np.int64)

        # equation (2) with a = 1 and b = 1.2
        level_K = np.ones(self.n_arms)
        slope_K = np.full(self.n_arms, 1.2)
        self._set(level_K, slope_K, used_K, knots)
        return self

    def fit_scaled(self, margins_PK: ArrayLike) -> Self:
        """Scale only, no labels: x = margin / root mean square of the arm's non-zero margins.

        x is cut off at the largest margin seen.
        """
        margins = check_margins(margins_PK, self.n_arms)
        size = np.abs(_without_gaps(margins))
        used = (size > 0).sum(0)
        mean_square_K = (size**2).sum(0) / np.maximum(used, 1)
        # An arm that never spoke has no scale; 1 keeps the division harmless.
        scale_K = np.where(used > 0, np.sqrt(mean_square_K), 1.0)
        largest_K = np.where(used > 0, size.max(0, initial=0.0), 1.0)

        # a curve through (0, 0) and (largest, largest / scale): linear, since a + b (r - 1/2) = r
        knots = []
        for most, scale in zip(largest_K, scale_K, strict=True):
            sizes = np.array([0.0, most])
            values = np.array([0.0, most / scale])
            knots.append((sizes, values))

        half_K = np.full(self.n_arms, 0.5)
        one_K = np.ones(self.n_arms)
        self._set(half_K, one_K, used.astype(np.int64), knots)
        return self

    def fit_sides(self, margins_PK: ArrayLike) -> Self:
        """No labels, no sizes: x = sign(margin)."""
        margins = _without_gaps(check_margins(margins_PK, self.n_arms))
        used_K = (margins != 0).sum(0).astype(np.int64)
        # Without sizes there is nothing to rank.
        knots = [rank_knots(np.zeros(0))] * self.n_arms

        # equation (2) with a = 1 and b = 0
        level_K = np.ones(self.n_arms)
        slope_K = np.zeros(self.n_arms)
        self._set(level_K, slope_K, used_K, knots)
        return self

    def log_odds(self, margins_PK: ArrayLike) -> Float:
        """(P, K) signed log-odds that a is better, equation (2).

        They are 0 for ties, missing scores and arms that were not fitted.
        """
        margins = _without_gaps(check_margins(margins_PK, self.n_arms))
        size = np.abs(margins)
        rank = np.empty(size.shape)
        for k, knots in enumerate(self._knots):
            rank[:, k] = np.interp(size[:, k], *knots)

        level = self.intercept_K + self.slope_K * (rank - 0.5)  # equation (1)
        return np.asarray(np.sign(margins) * np.maximum(level, 0.0))  # equation (2)

    def curve(self, arm: int, margins: ArrayLike) -> Float:
        """Signed log-odds of one arm for margins of any shape; NaN and 0 give 0."""
        clean = np.nan_to_num(np.asarray(margins, dtype=np.float64))
        side = np.sign(clean)
        size = np.abs(clean)

        # Ranks and not sizes: arms differ in the unit of their scores.
        rank = np.interp(size, *self._knots[arm])
        a = self.intercept_K[arm]
        b = self.slope_K[arm]

        level = a + b * (rank - 0.5)  # equation (1)
        # A level below 0 would turn the arm's verdict round.
        return np.asarray(side * np.maximum(level, 0.0))  # equation (2)

    def response_values(self, scores_N: ArrayLike, arm: int) -> Float:
        """(N,) calibrated value of each response for one arm. O(N^2).

        It is the response's mean log-odds against the others. Zero-sum over the responses,
        comparable across arms; NaN where the arm abstained, 0 where nothing can be compared.
        """
        score = np.asarray(scores_N, dtype=np.float64)
        missing_N = np.isnan(score)
        odds_NN = self.curve(arm, score[:, None] - score[None, :])

        # a mean over the others that were scored
        scored = int((~missing_N).sum())
        # The response itself is no opponent: its margin against itself is 0 and adds nothing.
        others = max(scored - 1, 1)
        return np.where(missing_N, np.nan, odds_NN.sum(1) / others)

    def curves(self) -> list[tuple[list[float], list[float], float, float]]:
        """Each arm's (sizes, mid-ranks, a, b) as plain numbers, for one margin at a time."""
        pairs = zip(self._knots, self.intercept_K.tolist(), self.slope_K.tolist(), strict=True)
        return [(values.tolist(), rank.tolist(), a, b) for (values, rank), a, b in pairs]

    def state_dict(self) -> State:
        """Arrays only: curves, label counts and knots (NaN-padded)."""
        width = max(values.size for values, _ in self._knots)
        # Arms have different numbers of knots, and a state holds arrays only.
        pad = np.full((2, self.n_arms, width), np.nan)
        for k, (values, rank) in enumerate(self._knots):
            pad[0, k, : values.size] = values
            pad[1, k, : rank.size] = rank

        return {
            "intercept_K": self.intercept_K.copy(),
            "slope_K": self.slope_K.copy(),
            "n_labels_K": self.n_labels_K.copy(),
            "knots": pad,
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the number of arms differs."""
        if state["intercept_K"].shape != (self.n_arms,):
            raise InputError(
                f"state of {state['intercept_K'].shape[0]} arms "
                f"does not fit a calibrator of {self.n_arms}"
            )

        padded = np.asarray(state["knots"], dtype=np.float64)
        knots = []
        for sizes, ranks in zip(padded[0], padded[1], strict=True):
            there = ~np.isnan(sizes)
            knots.append((sizes[there], ranks[there]))

        n_K = np.asarray(state["n_labels_K"], dtype=np.int64)
        self._set(
            np.array(state["intercept_K"], float), np.array(state["slope_K"], float), n_K, knots
        )
