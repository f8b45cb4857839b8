"""One unit at a time: from any set of arms to its log-odds, its bound and the next arm.

A decision takes microseconds.

The greedy order depends on the set asked only, so whoever chose the first arm, the committee goes
on from there. Temperatures and bounds are those of the default order at the same length: an
approximation where another arm came first.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from reward_router.committee.lda import SPENT, prefix_solve
from reward_router.committee.plan import CommitteePlan
from reward_router.committee.stop import at_price
from reward_router.types import Float

MOST_SETS = 1 << 16


class AskedSoFar(NamedTuple):
    """What a set of arms implies: weights on their calibrated verdicts, and who would be next."""

    arms: tuple[int, ...]
    weights: tuple[float, ...]
    following: int | None


class StageReader:
    """Reads a `CommitteePlan` by sets of arms, and keeps what it computed.

    Arms are columns of the plan here, not indices.
    """

    def __init__(self, plan: CommitteePlan, cost_K: Float) -> None:
        """Keep the plan; sets are solved when they first come up."""
        self._plan = plan
        self._cost_K = cost_K
        self._curves = plan.calibrator.curves()
        self._steps: dict[tuple[int, frozenset[int]], AskedSoFar] = {}
        self._bounds: dict[float, list[float]] = {}

    def log_odds(self, asked: Mapping[int, float], row: int) -> float:
        """L = sum over the asked arms of w_k x_k."""
        step = self._step(row, frozenset(asked))
        total = 0.0
        for arm, weight in zip(step.arms, step.weights, strict=True):
            total += weight * self.verdict(arm, asked[arm])

        return total

    def following(self, asked: Mapping[int, float], row: int, price: float) -> int | None:
        """The next arm, or None where the bound is met, nobody adds or the cap is reached."""
        step = self._step(row, frozenset(asked))
        if not asked or step.following is None:
            return step.following

        # The bound at one price: an entry for each number of arms that have answered.
        bounds = self._at(price)
        if len(asked) >= len(bounds):
            return None
        sure_enough = abs(self.log_odds(asked, row)) >= bounds[len(asked) - 1]
        return None if sure_enough else step.following

    def step(self, arms: frozenset[int], row: int) -> AskedSoFar:
        """Weights of a set of arms, and who would be next."""
        return self._step(row, arms)

    def bound(self, n_asked: int, price: float) -> float:
        """|L| at which the answer stands after ``n_asked`` arms; 0 where the cap is reached."""
        bounds = self._at(price)
        return bounds[n_asked - 1] if n_asked < len(bounds) else 0.0

    def verdict(self, arm: int, margin: float) -> float:
        """The arm's signed log-odds, `Calibrator.log_odds` for one number."""
        size = abs(margin)
        # ties, and NaN, carry no evidence
        if not size > 0:
            return 0.0

        values, ranks, intercept, slope = self._curves[arm]
        right = bisect_left(values, size)
        # beyond the smallest and the largest margin seen the rank stays
        if right == 0 or right == len(values):
            rank = ranks[min(right, len(values) - 1)]
        else:
            low = values[right - 1]
            high = values[right]
            share = (ranks[right] - ranks[right - 1]) * (size - low) / (high - low)
            rank = ranks[right - 1] + share

        level = max(intercept + slope * (rank - 0.5), 0.0)
        return level if margin > 0 else -level

    def _at(self, price: float) -> list[float]:
        if price not in self._bounds:
            if len(self._bounds) > MOST_SETS:
                self._bounds.clear()

            bound_T = at_price(self._plan.bound_TL, price, self._plan.prices_L)
            self._bounds[price] = bound_T.tolist()

        return self._bounds[price]

    def _step(self, row: int, arms: frozenset[int]) -> AskedSoFar:
        key = (row, arms)
        if key not in self._steps:
            # K arms have 2^K sets: the cache is emptied rather than grown
            if len(self._steps) > MOST_SETS:
                self._steps.clear()
            self._steps[key] = self._solve(row, np.array(sorted(arms), dtype=np.int64))
        return self._steps[key]

    def _solve(self, row: int, chosen: np.ndarray) -> AskedSoFar:
        plan = self._plan
        z = plan.z_GK[row]
        if chosen.size == 0:
            return AskedSoFar((), (), self._best(z, np.diagonal(plan.corr_KK), chosen))

        block = plan.corr_KK[np.ix_(chosen, chosen)]
        cross = plan.corr_KK[:, chosen]
        # Near-duplicates make the block singular; so small a ridge changes no decision.
        ridged = block + 1e-9 * np.eye(chosen.size)
        # One factorisation serves both z and the cross-correlations.
        both = np.column_stack([z[chosen], cross.T])
        solved = np.linalg.solve(ridged, both)

        # what the others say beyond the chosen: z_k|S and R_kk|S
        left = z - cross @ solved[:, 0]
        explained = (cross * solved[:, 1:].T).sum(1)
        var = np.diagonal(plan.corr_KK) - explained
        following = self._best(left, var, chosen)

        # More arms than the plan's longest order: its last temperature holds.
        last = min(chosen.size, len(plan.temperature_T)) - 1
        scale = 2 / plan.sd_K[chosen] * plan.temperature_T[last]
        weight = prefix_solve(block, z[chosen], plan.signed) * scale
        return AskedSoFar(tuple(map(int, chosen)), tuple(weight.tolist()), following)

    def _best(self, z_K: Float, var_K: Float, chosen: np.ndarray) -> int | None:
        # better than a coin, or signed; and not explained by the chosen arms (no variance left)
        speaks = self._plan.signed | (z_K > 0)
        adds = speaks & (var_K > SPENT)
        gain = np.where(adds, z_K**2 / np.maximum(var_K, SPENT) / self._cost_K, 0.0)
        gain[chosen] = 0.0

        # the same threshold as in the fit's greedy order
        if gain.max() > 1e-12:
            return int(np.argmax(gain))
        return None
