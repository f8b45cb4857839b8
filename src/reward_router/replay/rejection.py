"""The value of a router that learns, from another router's log.

The rows that it would have drawn are kept, and only those.
"""

import numpy as np

from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.replay.estimators import Terms, ips
from reward_router.replay.ope import FEWEST, Estimate, Log, check
from reward_router.types import Router


def rejection_replay(
    log: Log, router: Router, iid: bool, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Value of a router that LEARNS, over the first n decisions it would have made.

    Row t is kept with probability c target_k / p_k, c the smallest probability in the log; the
    router then learns from it and from nothing else (Li et al. 2011, for unequal propensities).
    Kept rows are distributed as the router's own only where contexts are i.i.d.

    ``InputError`` where they are not, or where fewer than 20 rows would be kept.

    Args:
        log: the decisions.
        router: the one to value; it is changed.
        iid: whether contexts are i.i.d.: you must say so.
        seed: of the draws that keep rows.
        level: of the interval.
    """
    rows = log.usable()
    check(rows, np.zeros(rows.probs_TK.shape))
    if not iid:
        raise InputError(
            "a learning target can be valued on i.i.d. contexts only: "
            "shuffle the stream, or freeze the target"
        )
    floor = float(rows.probs_TK.min())
    if floor * len(rows) < FEWEST:
        raise InputError(
            f"smallest logged probability {floor:.2g}: {floor * len(rows):.3g} rows would be kept, "
            f"needed {FEWEST}; log with explore > 0"
        )
    uniform_T = rng(seed, "sample", 0, "rejection").random(len(rows))
    kept: list[float] = []
    for t in range(len(rows)):
        context_1D = rows.context_TD[t : t + 1]
        arm_1 = rows.arm_T[t : t + 1]
        target_k = float(router.probs(context_1D)[0, arm_1[0]])
        if uniform_T[t] * rows.propensity_T[t] < floor * target_k:
            kept.append(float(rows.payoff_T[t]))
            router.update(context_1D, arm_1, rows.payoff_T[t : t + 1], np.array([target_k]))
    if len(kept) < FEWEST:
        raise InputError(
            f"{len(kept)} rows were kept, needed {FEWEST}: "
            "log more decisions, or with more exploration"
        )
    # Kept rows are the router's own draws, so every weight is 1.
    ones = np.ones(len(kept))
    value, low, high = (float(x) for x in ips(Terms(ones, np.array(kept), ones, ones, ones), level))
    return Estimate(
        method="rejection",
        value=value,
        low=max(low, 0.0),
        high=min(high, 1.0),
        ess=float(len(kept)),
        rows=len(kept),
        left_out=len(log) - len(kept),
    )
