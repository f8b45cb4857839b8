"""Arms in the primal form side by side in memory, so that one row or a batch is read for all of them together.

A copy of nothing: the arms keep their own arrays as views into these. Reads only; which product serves a read depends on shapes
alone, and what the arms store never depends on it:

* few arms, whose matrices stay in cache: half of each matrix through ``symv``, kept for the payoff that often follows;
* more (``WIDE`` bytes): x'Ax = <A, xx'>, one product of the K x D^2 stack with the outer product. It streams memory at the
  machine's bandwidth, where K short triangular products reach a half of it or less; the upper triangles it reads too are
  mirrored after an arm's fold, at the next read.
"""

from collections.abc import Sequence

import numpy as np

from reward_router.routers.blas import Array, mirror, quadratic_rows, symmetric_vectors
from reward_router.routers.gaussian import ArmPosterior
from reward_router.types import Float

WIDE = 20_000_000


class Stack:
    """The arrays of K primal arms of one dimension below 1024, adopted one by one so that memory never doubles."""

    def __init__(self, arms: Sequence[ArmPosterior]) -> None:
        """Adopt the arms' arrays. O(K D^2) once."""
        self.arms, first = list(arms), arms[0]
        k, (columns, dim), size = len(arms), first.theta_CD.shape, first.size
        self.base_KDD = np.empty((k, dim, dim), first.dtype)
        self.factor_KND = np.zeros((k, size, dim), first.dtype)
        self.theta_KCD, self.surprise_KNC = np.empty((k, columns, dim)), np.zeros((k, size, columns))
        self.wide = self.base_KDD.nbytes >= WIDE
        for each, arm in enumerate(arms):
            arm.adopted(self.base_KDD[each], self.factor_KND[each], self.theta_KCD[each], self.surprise_KNC[each])

    def one(self, x_D: Array) -> tuple[Float, Float]:
        """Means (K, C) and variances (K,) at one row."""
        for arm in self.arms:
            arm.catch_up()
        k, size, dim = self.factor_KND.shape
        z_KN = (self.factor_KND.reshape(-1, dim) @ x_D).reshape(k, size)
        var_K = self._quadratic(x_D) - np.einsum("kn,kn->k", z_KN, z_KN)
        mean_KC = (self.theta_KCD.reshape(-1, dim) @ x_D).reshape(k, -1)
        mean_KC += np.einsum("kn,knc->kc", z_KN, self.surprise_KNC)
        return mean_KC, np.maximum(var_K, 0.0).astype(np.float64)

    def rows(self, x_BD: Array) -> tuple[Float, Float]:
        """Means (B, K, C) and variances (B, K)."""
        k, columns, dim = self.theta_KCD.shape
        mean_BKC = (x_BD @ self.theta_KCD.reshape(-1, dim).T).reshape(len(x_BD), k, columns)
        square_BD, var_BK = x_BD * x_BD, np.empty((len(x_BD), k))
        for each, arm in enumerate(self.arms):
            arm.catch_up()  # brings this arm's matrix close
            prior_B = quadratic_rows(self.base_KDD[each].T, x_BD, square_BD)
            z_BN = x_BD @ self.factor_KND[each, : arm.tail].T
            var_BK[:, each] = prior_B - np.einsum("bn,bn->b", z_BN, z_BN)
            mean_BKC[:, each] += z_BN @ self.surprise_KNC[each, : arm.tail]
        return mean_BKC, np.maximum(var_BK, 0.0)

    def _quadratic(self, x_D: Array) -> Array:
        if not self.wide:
            product_KD, key = symmetric_vectors(self.base_KDD, x_D), x_D.tobytes()
            for arm, product_D in zip(self.arms, product_KD, strict=True):
                arm.keep(key, product_D)
            return np.asarray(product_KD @ x_D)
        for arm, base_DD in zip(self.arms, self.base_KDD, strict=True):
            if not arm.mirrored:
                mirror(base_DD)
                arm.mirrored = True
        return np.asarray(self.base_KDD.reshape(len(self.arms), -1) @ np.multiply.outer(x_D, x_D).ravel())
