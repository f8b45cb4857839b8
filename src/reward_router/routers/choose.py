"""Drawing the arm: one function, from exactly the numbers the router returned."""

import numpy as np

from reward_router.errors import InputError
from reward_router.types import AnyFloat, Float, Int


def choose(probs_BK: AnyFloat, uniform_B: AnyFloat) -> tuple[Int, Float]:
    """Draw one arm a row by inverting its cumulative probabilities at a number in [0, 1).

    The recorded propensity is the very number in ``probs_BK``, and an arm of probability 0 is never
    drawn. Raises InputError on NaN, negative or empty rows and on a number outside [0, 1). O(B K).

    Args:
        probs_BK: (B, K) numbers of at least 0, each row of positive sum.
        uniform_B: (B,) random numbers in [0, 1), one a row.

    Returns:
        The arms (B,), and the probabilities (B,) they were drawn with.

    >>> choose(np.array([[0.25, 0.0, 0.75]]), np.array([0.25]))
    (array([2]), array([0.75]))
    """
    p_BK = np.asarray(probs_BK, np.float64)
    u_B = np.asarray(uniform_B, np.float64)
    if p_BK.ndim != 2 or u_B.shape != p_BK.shape[:1]:
        raise InputError(
            f"choose takes probs (B, K) and one number a row (B,), got {p_BK.shape} and {u_B.shape}"
        )
    if not (np.isfinite(p_BK).all() and (p_BK >= 0).all()):
        raise InputError("choose: probabilities must be finite and at least 0")
    if not ((u_B >= 0) & (u_B < 1)).all():
        raise InputError("choose: the random numbers must lie in [0, 1)")
    # the functions below need at least one row
    if not p_BK.shape[0]:
        return np.zeros(0, np.int64), np.zeros(0)

    return _invert(p_BK, u_B)


def _invert(p_BK: Float, u_B: Float) -> tuple[Int, Float]:
    cumulative_BK = np.cumsum(p_BK, axis=1)
    total_B = cumulative_BK[:, -1:]
    if not (total_B > 0).all():
        raise InputError("choose: a row of probabilities sums to 0, so no arm can be drawn")

    # Scaled by the sum, which rounding may leave a little off 1.
    target_B = u_B[:, None] * total_B
    passed_B = (cumulative_BK <= target_B).sum(axis=1)

    # u * total may round up to total: stay on the last arm of positive probability
    last_arm = p_BK.shape[1] - 1
    last_B = last_arm - np.argmax(p_BK[:, ::-1] > 0, axis=1)
    arm_B = np.minimum(passed_B, last_B).astype(np.int64)
    propensity_B = p_BK[np.arange(len(arm_B)), arm_B]
    return arm_B, propensity_B
