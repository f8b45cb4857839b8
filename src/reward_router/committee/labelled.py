"""The rows a fit learns from, checked once at the border, and their grouped folds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router import keyed
from reward_router.errors import InputError
from reward_router.types import Float, Int


class LabelledRows(NamedTuple):
    """The rows of one fit.

    ``random_P`` marks labels drawn at random (others enter the moments only, by ``weight_P``).
    """

    margins_PK: Float
    label_P: NDArray[np.bool_]
    group_P: Int
    category_P: Int
    random_P: NDArray[np.bool_]
    weight_P: Float

    def take(self, rows: NDArray[np.bool_]) -> "LabelledRows":
        """The rows where the mask is true."""
        return LabelledRows(
            self.margins_PK[rows],
            self.label_P[rows],
            self.group_P[rows],
            self.category_P[rows],
            self.random_P[rows],
            self.weight_P[rows],
        )

    @property
    def sign_P(self) -> Float:
        """+1 where a is better, else -1."""
        return np.where(self.label_P, 1.0, -1.0)


def check_margins(margins_PK: ArrayLike, n_arms: int | None = None) -> Float:
    """(P, K) float64 margins, NaN where an arm is missing.

    InputError on another shape or an infinite value.
    """
    margins = np.asarray(margins_PK, dtype=np.float64)
    if margins.ndim != 2:
        raise InputError(f"margins must be (pairs, arms), got shape {margins.shape}")
    if n_arms is not None and margins.shape[1] != n_arms:
        raise InputError(
            f"margins have {margins.shape[1]} columns for {n_arms} arms: "
            "one column an arm, NaN where missing"
        )

    if np.isinf(margins).any():
        infinite = int(np.isinf(margins).sum())
        raise InputError(f"margins hold {infinite} infinite values: use NaN for a missing score")

    return margins


def check_labels(labels_P: ArrayLike, n_rows: int) -> NDArray[np.bool_]:
    """(P,) booleans, true = a is better; InputError on anything but 0 and 1."""
    labels = np.asarray(labels_P)
    if labels.shape != (n_rows,):
        raise InputError(
            f"labels must be ({n_rows},), one a row of margins, got shape {labels.shape}"
        )
    if labels.dtype != np.bool_ and not np.isin(labels, (0, 1)).all():
        raise InputError(
            "labels must be true (a is better) or false; drop rows without a label before fitting"
        )

    return labels.astype(np.bool_)


def check_sides(label_P: NDArray[np.bool_]) -> None:
    """InputError where every label names the same side.

    Then a judge that always says a would look perfect.
    """
    if len(label_P) and (label_P.all() or not label_P.any()):
        raise InputError(
            f"all {len(label_P)} labels name the same side: "
            "draw at random which response is a, or half the evidence is missing"
        )


def labelled_rows(
    margins_PK: Float,
    label_P: NDArray[np.bool_],
    groups: ArrayLike | None,
    category_P: Int,
    weights: ArrayLike | None,
    random: ArrayLike | None,
) -> LabelledRows:
    """Fill the defaults, and check lengths and weights.

    By default every row is its own group, has weight 1 and was drawn at random.
    """
    n = len(label_P)
    if groups is None:
        group = np.arange(n)
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)

    weight = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    drawn = np.ones(n, dtype=bool) if random is None else np.asarray(random, dtype=bool)
    for name, column in (("groups", group), ("weights", weight), ("random", drawn)):
        if column.shape != (n,):
            raise InputError(
                f"{name} must be ({n},), one a row of margins, got shape {column.shape}"
            )

    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise InputError("weights must be finite and >= 0: they are inverse propensities")

    return LabelledRows(margins_PK, label_P, np.asarray(group), category_P, drawn, weight)


def encode(categories: Sequence[str] | None, names: tuple[str, ...], n_rows: int) -> Int:
    """(P,) index of each category in ``names``; -1 where it is none of them."""
    if categories is None:
        return np.full(n_rows, -1)
    if len(categories) != n_rows:
        raise InputError(
            f"categories or sources must name all {n_rows} rows, got {len(categories)}"
        )

    code = {name: c for c, name in enumerate(names)}
    return np.array([code.get(str(name), -1) for name in categories], dtype=np.int64)


def assign_folds(group_P: Int, n_folds: int, seed: int) -> Int:
    """(P,) fold of each row, whole groups together, folds balanced in groups; keyed by the seed."""
    # folds are drawn by group, so that rows of one prompt stay together
    _, index = np.unique(group_P, return_inverse=True)
    n_groups = int(index.max()) + 1
    fold_G = np.arange(n_groups) % n_folds

    # keyed, so that a fit is the same whenever it is made
    draw = keyed.rng(seed, "data", n_folds, "folds")
    draw.shuffle(fold_G)
    return np.asarray(fold_G[index])
