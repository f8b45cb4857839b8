"""Forced warm-up: every arm is decided ``warmup`` times before the router is believed.

One decision a call: each round is a random order of the arms, because every forced decision is
drawn evenly from the arms that the round still lacks. Many in a call: as many rows as there are
forced decisions left, picked by key, draw from the same arms. The draw uses the unit's own key, so
a router whose cold probabilities are even gives a unit the same arm on every shard, and the
recorded propensity, 1 / (arms the round lacks), is the true probability given the state: ``forced``
rows may stay in an off-policy estimate. (A fixed order per round, counted by row, would have made a
unit's arm depend on its neighbours.)
"""

import numpy as np
from numpy.typing import NDArray

from reward_router import keyed
from reward_router.routers.binding import without_forced_pulls
from reward_router.types import AnyFloat, Float, Int, Router


def believed(router: Router, contexts_BD: AnyFloat) -> Float:
    """(B, K): the router's probabilities without the forced pulls it makes when it is used alone.

    Those count payoffs; an arm that never answers never gets one and would be forced for ever. Here
    decisions are counted.
    """
    return without_forced_pulls(router)(contexts_BD)


def force(
    probs_BK: Float, pulls_K: Int, warmup: int, seed: int, step: int, units: list[str]
) -> tuple[Float, NDArray[np.bool_]]:
    """Probabilities with the forced rows put in, and which rows those are. O(B K).

    The input is not changed.
    """
    forced_B = np.zeros(len(units), dtype=bool)
    left = int(np.maximum(warmup - pulls_K, 0).sum())
    if not left:
        return probs_BK, forced_B

    # which rows are forced is drawn by key, so that it does not depend on their order
    draws = [keyed.uniform(seed, "warmup", step, unit) for unit in units]
    rank = np.argsort(draws, kind="stable")
    forced_B[rank[:left]] = True
    # the arms that the present round still lacks
    lacking_K = pulls_K == pulls_K.min()

    return np.where(forced_B[:, None], lacking_K / lacking_K.sum(), probs_BK), forced_B
