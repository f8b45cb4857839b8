"""Arms in the primal form side by side in memory, read for all of them together.

A copy of nothing: the arms keep their own arrays as views into these. Reads only; which product
serves a read depends on shapes alone, and what the arms store never depends on it:

* few arms, whose matrices stay in cache: half of each matrix through ``symv``, kept for the payoff
  that often follows;
* more (``WIDE`` bytes, fewer than ``LONG`` features): copies of the halves, made after an arm's
  fold at the next read of one row (see ``Halves``). They stream memory at the machine's bandwidth,
  which K triangular products do not.

Who only wants the best of the arms asks for ``bounds``, which come from float32 (see ``Screen``).
"""

from collections.abc import Sequence

import numpy as np

from reward_router.posterior.blas import Array, quadratic_rows, symmetric_vectors
from reward_router.posterior.gaussian import ArmPosterior
from reward_router.posterior.halves import Halves
from reward_router.posterior.screen import Screen
from reward_router.types import Float

CACHED = 6_000_000
WIDE = 10_000_000
LONG = 2048


class Stack:
    """The arrays of K primal arms of one dimension.

    They are adopted one by one, so that memory never doubles.
    """

    def __init__(self, arms: Sequence[ArmPosterior]) -> None:
        """Adopt the arms' arrays. O(K D^2) once."""
        self.arms = list(arms)
        first = arms[0]
        k = len(arms)
        columns, dim = first.theta_CD.shape
        size = first.size
        self.base_KDD = np.empty((k, dim, dim), first.dtype)
        self.factor_KND = np.zeros((k, size, dim), first.dtype)
        # Means stay in float64: they are small, and what they lose is never learned again.
        self.theta_KCD = np.empty((k, columns, dim))
        self.surprise_KNC = np.zeros((k, size, columns))
        # beyond the cache, streaming copies beats K triangular products
        self.wide = self.base_KDD.nbytes >= WIDE and dim < LONG
        self.halves: Halves | None = None
        self.screen: Screen | None = None

        for each, arm in enumerate(arms):
            # From here on the arm writes into these arrays; its own memory is freed.
            arm.adopted(
                self.base_KDD[each],
                self.factor_KND[each],
                self.theta_KCD[each],
                self.surprise_KNC[each],
            )

    def one(self, x_D: Array) -> tuple[Float, Float]:
        """Means (K, C) and variances (K,) at one row."""
        # A variance that rounding has pushed below 0 is 0.
        mean_1KC, less_1K = self._tails(x_D[None])
        return mean_1KC[0], np.maximum(self._quadratic(x_D) - less_1K[0], 0.0).astype(np.float64)

    def rows(self, x_BD: Array) -> tuple[Float, Float]:
        """Means (B, K, C) and variances (B, K)."""
        # The diagonal's share needs x^2 of every row, the same for all arms.
        square_BD = x_BD * x_BD
        base_BK = np.empty((len(x_BD), len(self.arms)))
        for each, arm in enumerate(self.arms):
            arm.catch_up()  # brings this arm's matrix close
            base_BK[:, each] = quadratic_rows(self.base_KDD[each].T, x_BD, square_BD)

        mean_BKC, less_BK = self._tails(x_BD)
        return mean_BKC, np.maximum(base_BK - less_BK, 0.0)

    def screens(self, rows: int) -> bool:
        """Whether ``bounds`` of so many rows costs less than the numbers themselves."""
        return rows > 1 or (rows == 1 and self.base_KDD.nbytes >= CACHED)

    def bounds(self, x_BD: Array) -> tuple[Float, Float, Float]:
        """Means (B, K, C), and lower and upper bounds of the variances (B, K).

        An upper bound may be NaN, which says that it is unknown.
        """
        # Made at the first read that wants it: many runs never read more than one row.
        self.screen = self.screen or Screen(self.arms, self.base_KDD.shape[1])
        mean_BKC, less_BK = self._tails(x_BD)
        base_BK, error_BK = self.screen.quadratic(x_BD)

        var_BK = base_BK - less_BK
        # fmax and not maximum: an unknown error (NaN) leaves 0, the bound that always holds.
        low_BK = np.fmax(var_BK - error_BK, 0.0)
        return mean_BKC, low_BK, var_BK + error_BK

    def _tails(self, x_BD: Array) -> tuple[Float, Float]:
        """Means (B, K, C), and what the rows not folded in yet take off the variances (B, K)."""
        for arm in self.arms:
            arm.catch_up()

        k, columns, dim = self.theta_KCD.shape
        # Rows beyond an arm's own tail are 0 and take nothing off.
        most = max(arm.tail for arm in self.arms)
        z_KBN = np.matmul(x_BD, self.factor_KND[:, :most].transpose(0, 2, 1))
        # One product for the means of all arms and columns.
        mean_BKC = (x_BD @ self.theta_KCD.reshape(-1, dim).T).reshape(len(x_BD), k, columns)
        mean_BKC += np.matmul(z_KBN, self.surprise_KNC[:, :most]).transpose(1, 0, 2)

        return mean_BKC, np.einsum("kbn,kbn->bk", z_KBN, z_KBN)

    def _quadratic(self, x_D: Array) -> Array:
        if not self.wide:
            product_KD = symmetric_vectors(self.base_KDD, x_D)
            # The bytes of the context are the key: a payoff comes with the same context.
            key = x_D.tobytes()
            for arm, product_D in zip(self.arms, product_KD, strict=True):
                # the payoff that often follows needs the same product
                arm.keep(key, product_D)
            return np.asarray(product_KD @ x_D)

        self.halves = self.halves or Halves(self.arms, self.base_KDD.shape[1], self.base_KDD.dtype)
        self.halves.renew()
        return self.halves.one(x_D)
