"""Balancing of wins and losses.

Bradley-Terry tuples (i, n, n') are dropped until every arm wins about as often as it loses. The
step is in the authors' data preparation and not in their text: it takes away how strong an arm is
overall and leaves what depends on the pair. Here the tuples to drop are chosen from the K x K
counts (always between the arms whose excess differs most), and which of a cell's tuples go is a
keyed draw. O(P K^2) memory in bytes.
"""

import numpy as np
from numpy.typing import NDArray

from reward_router.keyed import rng
from reward_router.types import Float, Int


def tuples(right_PK: Float) -> NDArray[np.bool_]:
    """(P, K, K): arm n is right and arm n' wrong on pair i (BayesianRouter, D_bt).

    NaN takes no part.

    >>> int(tuples(np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 1.0]])).sum())
    1
    """
    return np.asarray((right_PK == 1)[:, :, None] & (right_PK == 0)[:, None, :])


def balanced(right_PK: Float, seed: int = 0) -> NDArray[np.bool_]:
    """The tuples of `tuples` less as few as balance takes.

    Afterwards an arm's wins and losses differ by at most K. Raises nothing; where no arm ever loses
    to one it beats, all tuples go. O(P K^2 + K^2 log P).
    """
    keep_PKK = tuples(right_PK)
    count_KK = keep_PKK.sum(axis=0).astype(np.int64)
    drop_KK = _excess(count_KK)
    for n, m in np.argwhere(drop_KK > 0):
        rows = np.flatnonzero(keep_PKK[:, n, m])
        # A key for each cell: which tuples go does not depend on the other cells.
        draw = rng(seed, "data", 0, f"balance {n} {m}")
        dropped = draw.choice(rows, size=int(drop_KK[n, m]), replace=False)
        keep_PKK[dropped, n, m] = False
    return keep_PKK


def _excess(count_KK: Int) -> Int:
    """How many tuples of each cell to drop.

    Each round takes from the cell whose arms' excesses differ most.
    """
    left_KK = count_KK.copy()
    while True:
        wins_K = left_KK.sum(axis=1)
        losses_K = left_KK.sum(axis=0)
        excess_K = wins_K - losses_K

        # A tuple (n, m) is a win of n and a loss of m: to drop one closes their gap by two.
        gap_KK = excess_K[:, None] - excess_K[None, :]
        gap_KK = np.where(left_KK > 0, gap_KK, 0)
        n, m = np.unravel_index(int(gap_KK.argmax()), gap_KK.shape)
        if gap_KK[n, m] <= 1:
            return np.asarray(count_KK - left_KK)

        # A quarter of the gap: other cells may close it as well, and too much cannot be taken back.
        part = max(1, gap_KK[n, m] // 4)
        left_KK[n, m] -= min(left_KK[n, m], part)
