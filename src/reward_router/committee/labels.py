"""Which labels may teach what.

A label is drawn at random, asked for by its value, or there because a verifier applied.

Curves, gates and the Dawid-Skene audit use random labels scored by all K arms only. A label that
was asked for by value enters the moments with weight 1 / propensity; one of unknown propensity (a
verifier that applies to some rows only) does not enter at all. A label lets one score all K arms on
that row afterwards: that is full information, bought within a stated budget of extra cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router import keyed
from reward_router.committee.committee import Committee
from reward_router.committee.labelled import check_margins
from reward_router.errors import InputError
from reward_router.types import Float, State

SCHEDULE = (10, 20, 30, 45, 65, 95, 140, 200, 300, 450)
GROWTH = 1.5
LARGEST_WEIGHT = 20.0


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How many decisions are labelled at random, and how many of those are scored by every arm.

    ``share``: of decisions, keyed-random. ``full``: that many labels are scored by all arms,
    afterwards a keyed-random ``full_share`` of them; ``extra_cost``: what this may cost in all
    beyond the decisions themselves (infinite by default, counted always).
    """

    share: float = 0.1
    full: int = 400
    full_share: float = 0.1
    extra_cost: float = float("inf")
    seed: int = 0

    def __post_init__(self) -> None:
        """InputError on shares outside [0, 1] or negative numbers."""
        shares_fit = 0 <= self.share <= 1 and 0 <= self.full_share <= 1
        if not (shares_fit and self.full >= 0 and self.extra_cost >= 0):
            raise InputError(f"shares must be in [0, 1], full and extra_cost >= 0, got {self}")

    def draws(self, unit: str, step: int) -> bool:
        """Whether this decision's label is drawn; its propensity is ``share``."""
        return keyed.uniform(self.seed, "label", step, unit) < self.share

    def scores_all(self, unit: str, step: int, n_labels: int, spent: float, cost: float) -> bool:
        """Whether every arm scores this labelled row.

        ``n_labels`` labels were drawn so far, ``spent`` is the extra cost so far, and ``cost`` what
        this would add.
        """
        # the budget comes before the schedule
        if spent + cost > self.extra_cost:
            return False
        if n_labels < self.full:
            return True
        return keyed.uniform(self.seed, "audit", step, unit) < self.full_share


class LabelStore:
    """Labelled rows as they came. O(labels x K) memory.

    A row is margins (K), label, group, category, whether it was drawn at random, and its weight.
    """

    def __init__(self, n_arms: int) -> None:
        """An empty store for K arms."""
        self.n_arms = n_arms
        self.margins: list[Float] = []
        self.labels: list[bool] = []
        self.groups: list[str] = []
        self.categories: list[str] = []
        self.weights: list[float] = []
        self.random: list[bool] = []

    def __len__(self) -> int:
        """All stored rows."""
        return len(self.labels)

    @property
    def n_random(self) -> int:
        """Rows whose label was drawn at random."""
        return sum(self.random)

    def add(
        self,
        margins_K: ArrayLike,
        label: bool,
        group: str,
        category: str,
        random: bool,
        propensity: float,
    ) -> None:
        """Append one row scored by all arms; InputError on a propensity outside (0, 1]."""
        if not 0 < propensity <= 1:
            raise InputError(f"the propensity of a label must be in (0, 1], got {propensity}")
        row_1K = np.asarray(margins_K, dtype=np.float64)[None]
        [checked_K] = check_margins(row_1K, self.n_arms)

        weight = 1.0
        if not random:
            # a tiny propensity must not let one row decide everything
            weight = min(1 / propensity, LARGEST_WEIGHT)
        self.margins.append(checked_K)
        self.labels.append(bool(label))
        self.groups.append(group)
        self.categories.append(category)
        self.random.append(random)
        self.weights.append(weight)

    def fit(self, committee: Committee) -> bool:
        """Refit on everything stored.

        False, and nothing is changed, while every label names the same side.
        """
        if len(set(self.labels)) < 2:
            return False

        # rows without any category are fitted without categories
        named = any(self.categories)
        scale = 1.0 if all(self.random) else self._random_share()
        weight = np.array(self.weights) * scale
        committee.fit(
            np.array(self.margins),
            np.array(self.labels),
            np.array(self.groups),
            self.categories if named else None,
            weights=np.where(self.random, 1.0, weight),
            random=np.array(self.random),
            origin="stream",
        )

        return True

    def _random_share(self) -> float:
        """What inverse propensities are multiplied by.

        They sum to the number of decisions they stand for; scaled, they weigh as many rows as they
        are.
        """
        chosen = np.array(self.weights)[~np.array(self.random)]
        return float(len(chosen) / chosen.sum())

    def state_dict(self) -> State:
        """Arrays only."""
        return {
            "margins": np.array(self.margins).reshape(-1, self.n_arms),
            "labels": np.array(self.labels, dtype=bool),
            "groups": np.array(self.groups, dtype=np.str_),
            "categories": np.array(self.categories, dtype=np.str_),
            "weights": np.array(self.weights),
            "random": np.array(self.random, dtype=bool),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        self.margins = list(np.array(state["margins"]))
        self.labels = state["labels"].tolist()
        self.random = state["random"].tolist()
        self.groups = state["groups"].tolist()
        self.categories = state["categories"].tolist()
        self.weights = state["weights"].tolist()


def label_value(
    committee: Committee, margins_PK: ArrayLike, categories: list[str] | None = None
) -> Float:
    """(P,) expected information of a label: p (1 - p) (d + h), 0 before a fit.

    d = 1 where the committee and the best single arm disagree (only such rows move the gate), h =
    x' R^-1 x / K the leverage of the calibrated verdicts (how much they move the weights, to first
    order). Rows may be partly asked (NaN elsewhere).
    """
    margins = check_margins(margins_PK, committee.n_arms)
    if committee.plan is None:
        return np.zeros(len(margins))

    plan = committee.plan
    vote = margins[:, committee.voters]
    prob = committee.ungated(margins, categories)

    # h: how much the row would move the weights.
    leverage = np.zeros(len(margins))
    if plan.weights in ("safe", "signed"):  # flat weights learn next to nothing from one row
        x = plan.calibrator.log_odds(vote) / plan.sd_K
        # The ridge keeps the solve possible where two arms always agree.
        ridged = plan.corr_KK + 1e-6 * np.eye(x.shape[1])
        solved = np.linalg.solve(ridged, x.T).T  # R^-1 x
        leverage = (x * solved).mean(axis=1)

    # d: whether the row would move the gate. Rounding makes a probability of 1/2 a tie again.
    single_side = np.sign(np.nan_to_num(margins[:, committee.single]))
    committee_side = np.sign(np.round(prob - 0.5, 12))
    differ = single_side != committee_side

    # p (1 - p): nothing is to be learned where the answer is known.
    uncertainty = prob * (1 - prob)
    return np.asarray(uncertainty * (differ + leverage))


def ask_label(
    value_P: Float, units: list[str], wanted: float, step: int, seed: int = 0
) -> tuple[NDArray[np.bool_], Float]:
    """Draw about ``wanted`` of P rows by value: which ones, and each row's propensity. O(P).

    A propensity is at least a fifth of the uniform one.
    """
    if len(units) != len(value_P) or wanted < 0:
        raise InputError(
            f"need one unit a value and wanted >= 0, got {len(units)}, {len(value_P)}, {wanted}"
        )

    n = len(value_P)
    total = float(value_P.sum())
    # before a fit all values are 0: the draw is uniform
    by_value = value_P / total if total > 0 else np.full(n, 1 / max(n, 1))
    # a fifth is spread evenly, so that no propensity is near 0
    evenly = 0.2 / max(n, 1)
    propensity = np.minimum(wanted * (evenly + 0.8 * by_value), 1.0)

    u_P = np.array([keyed.uniform(seed, "probe", step, unit) for unit in units])
    drawn = u_P < propensity
    return drawn, propensity
