"""From utilities to a distribution.

Arms that are too new are pulled first, ties are split evenly, and a uniform floor is mixed in.
"""

import numpy as np

from reward_router.types import Float, Int

TIE = 1e-12


def forced_K(pulls_K: Int, warmup: int) -> Float | None:
    """(K,) even mass on the least-pulled arms with fewer than ``warmup`` payoffs.

    None where every arm has enough.

    >>> forced_K(np.array([2, 0, 0]), 2)
    array([0. , 0.5, 0.5])
    """
    fewest = pulls_K.min()
    if fewest >= warmup:
        return None
    least_K = (pulls_K == fewest).astype(np.float64)
    return np.asarray(least_K / least_K.sum())


def even_argmax(score_BK: Float) -> Float:
    """(B, K) one-hot on each row's maximum, ties split evenly.

    A score within 1e-12 of the maximum (relative) is a tie: such a difference is rounding.

    >>> even_argmax(np.array([[1.0, 3.0, 3.0]]))
    array([[0. , 0.5, 0.5]])
    """
    best_B = score_BK.max(axis=1, keepdims=True)
    # relative to the score, but not below 1: about 0 rounding is absolute
    rounding_B = TIE * np.maximum(np.abs(best_B), 1.0)
    top_BK = (score_BK >= best_B - rounding_B).astype(np.float64)

    ties_B = top_BK.sum(axis=1, keepdims=True)
    return np.asarray(top_BK / ties_B)


def with_floor(p_BK: Float, explore: float) -> Float:
    """Mix in the uniform: (1 - explore) p + explore / K."""
    return p_BK if explore == 0 else (1 - explore) * p_BK + explore / p_BK.shape[1]
