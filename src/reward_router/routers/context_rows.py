"""What one arm was paid, and where: statistics from which a linear model can be made anew.

Rows z = (1, x) with payoffs y are kept as they came while they are few, then as sums of z z' and z
y; so the precision of a model can be changed later, exactly. Older rows may count for less: weight
discount^age, age counted in payoffs of all arms. Rows of one context that follow each other (the
pairs of one prompt) share what is peculiar to it: they are one witness, with the mean of their
payoffs.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.types import Float, State

TAIL = 32  # rows folded into the sums at a time


class ArmRows:
    """Rows of one arm.

    ``add`` O(D) a row plus O(D^2) amortised once they are sums; memory O(min(rows, D) D).
    """

    names = ("rows_TZ", "payoff_T", "stamp_T", "gram_ZZ", "sum_Z", "folded")

    def __init__(self, width: int, discount: float) -> None:
        """``width``: D + 1."""
        self.width = width
        self.discount = discount
        # rows are cheaper than sums while they are fewer than features
        self.young_limit = max(TAIL, 3 * width // 4)
        self.count = 0
        self.gram_ZZ = np.zeros((0, 0))
        self.rows_TZ = np.zeros((TAIL, width))
        self.payoff_T = np.zeros(TAIL)
        self.stamp_T = np.zeros(TAIL, np.int64)
        self.sum_Z = np.zeros(width)
        self.folded_at = 0
        self.merged = 0  # payoffs in the last row

    @property
    def summed(self) -> bool:
        """Whether rows are held as sums."""
        return len(self.gram_ZZ) > 0

    def add(self, z_Z: Float, payoff: float, stamp: int, run_start: int) -> None:
        """One more row, the ``stamp``-th payoff of all arms.

        All payoffs since the ``run_start``-th had this context: where this arm has a row among
        them, the payoff joins it.
        """
        last = self.count - 1
        if self.count and self.stamp_T[last] >= run_start:
            self.merged += 1
            self.payoff_T[last] += (payoff - self.payoff_T[last]) / self.merged
            return

        # room is doubled, so that adding a row is O(D) amortised
        if self.count == len(self.payoff_T):
            self._grow()

        self.rows_TZ[self.count] = z_Z
        self.payoff_T[self.count] = payoff
        self.stamp_T[self.count] = stamp
        self.count += 1
        self.merged = 1
        if self.count >= (TAIL if self.summed else self.young_limit):
            self._fold(stamp)

    def _grow(self) -> None:
        have = len(self.payoff_T)
        # Twice as many: then the copies cost O(1) a row on average.
        more = min(have, self.young_limit - have)
        new_rows_TZ = np.zeros((more, self.width))
        new_payoff_T = np.zeros(more)
        new_stamp_T = np.zeros(more, np.int64)

        self.rows_TZ = np.concatenate([self.rows_TZ, new_rows_TZ])
        self.payoff_T = np.concatenate([self.payoff_T, new_payoff_T])
        self.stamp_T = np.concatenate([self.stamp_T, new_stamp_T])

    def _fold(self, stamp: int) -> None:
        """Add the rows to the sums, as of the ``stamp``-th payoff."""
        self.gram_ZZ, self.sum_Z = self.sums(stamp)
        self.folded_at = stamp
        self.count = 0
        self.rows_TZ = self.rows_TZ[:TAIL]
        self.payoff_T = self.payoff_T[:TAIL]
        self.stamp_T = self.stamp_T[:TAIL]

    def weighed(self, now: int) -> tuple[Float, Float]:
        """The rows that are not in the sums, and their payoffs.

        Both are multiplied by the root of the row's weight.
        """
        z_TZ = self.rows_TZ[: self.count]
        y_T = self.payoff_T[: self.count]
        if self.discount == 1:
            return z_TZ, y_T

        # the root, since a row enters the sums by its square
        root_T = self.discount ** ((now - self.stamp_T[: self.count]) / 2)
        return z_TZ * root_T[:, None], y_T * root_T

    def sums(self, now: int) -> tuple[Float, Float]:
        """Weighted sums of z z' and z y over all rows."""
        z_TZ, y_T = self.weighed(now)
        gram_ZZ = z_TZ.T @ z_TZ
        sum_Z = z_TZ.T @ y_T
        if not self.summed:
            return gram_ZZ, sum_Z

        # the sums are as of the last fold, and have aged since
        kept = self.discount ** (now - self.folded_at)
        return gram_ZZ + kept * self.gram_ZZ, sum_Z + kept * self.sum_Z

    def state(self) -> State:
        """Copies of what is held."""
        return {
            "rows_TZ": self.rows_TZ[: self.count].copy(),
            "payoff_T": self.payoff_T[: self.count].copy(),
            "stamp_T": self.stamp_T[: self.count].copy(),
            "gram_ZZ": self.gram_ZZ.copy(),
            "sum_Z": self.sum_Z.copy(),
            "folded": np.array([self.folded_at, self.merged], np.int64),
        }

    def load(self, state: Mapping[str, NDArray[Any]], prefix: str) -> None:
        """Restore; InputError where something does not fit."""
        take = partial(checks.stored, state, prefix)
        rows_TZ = take("rows_TZ", np.float64, (None, self.width))

        # An arm without sums has an empty matrix; one with sums has a whole one.
        gram_ZZ = take("gram_ZZ", np.float64, (None, None))
        side = checks.whole("side of a state's gram_ZZ", len(gram_ZZ), 0, self.width)
        shape = (self.width, self.width) if side else (0, 0)
        self.gram_ZZ = take("gram_ZZ", np.float64, shape)

        most = TAIL - 1 if self.summed else self.young_limit - 1
        self.count = checks.whole(f"rows of {prefix}rows_TZ", len(rows_TZ), 0, most)

        # Room for further rows behind those of the state.
        room = max(TAIL, self.count)
        self.rows_TZ = np.zeros((room, self.width))
        self.payoff_T = np.zeros(room)
        self.stamp_T = np.zeros(room, np.int64)
        self.rows_TZ[: self.count] = rows_TZ
        self.payoff_T[: self.count] = take("payoff_T", np.float64, (self.count,))
        self.stamp_T[: self.count] = take("stamp_T", np.int64, (self.count,))

        self.sum_Z = take("sum_Z", np.float64, (self.width,))
        self.folded_at, self.merged = take("folded", np.int64, (2,)).tolist()
