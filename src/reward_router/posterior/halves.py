"""Halves of K symmetric matrices, so that x'A_k x of all arms streams through memory once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from reward_router.posterior.blas import Array
from reward_router.posterior.gaussian import ArmPosterior
from reward_router.types import Float

# rows of a block, and rows of a batch that are read at once
BLOCK = 96
ROWS = 64
TEMPORARY = 2_000_000  # numbers in the largest temporary array
CACHED = 18_000_000  # bytes of all halves up to which reading them again is not bound by memory


class Halves:
    """Copies of the upper triangles of primal arms' matrices, less their mean eigenvalue.

    They hold K D (D + BLOCK) / 2 numbers: block rows from the diagonal to the right, all arms of a
    block row side by side; half of the diagonal, nothing below it. The mean eigenvalue
    (``shift_K``) is kept in float64: what is copied is what was learned, and not the prior.
    """

    def __init__(self, arms: Sequence[ArmPosterior], dim: int, dtype: DTypeLike) -> None:
        """Room for the copies; ``renew`` makes them."""
        self.arms = list(arms)
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.starts = range(0, dim, BLOCK)
        # Panels of whole rows from the diagonal to the right: reads are long and contiguous.
        self.panels = [
            np.empty((len(self.arms), min(BLOCK, dim - i), dim - i), self.dtype)
            for i in self.starts
        ]
        self.norm_K = np.zeros(len(self.arms))
        self.shift_K = np.zeros(len(self.arms))
        # Folds that each copy has seen; -1 makes the first `renew` copy everything.
        self._folds = [-1] * len(self.arms)
        self._above_RR = np.triu(np.ones((BLOCK, BLOCK), self.dtype), 1)

    def renew(self) -> None:
        """Copy the matrices that have changed. O(D^2 / 2) an arm, once for every fold."""
        for each, arm in enumerate(self.arms):
            if self._folds[each] != arm.folds:
                # The lower triangle is kept; its transpose is the upper one, without a copy.
                self._copy(each, np.transpose(arm.base_DD))  # type: ignore[arg-type]
                self._folds[each] = arm.folds

    def _copy(self, each: int, upper_DD: Array) -> None:
        """One arm's half, its shift, and the Frobenius norm of the rest, rounded up."""
        diagonal_D = np.diagonal(upper_DD).astype(np.float64)
        self.shift_K[each] = shift = diagonal_D.mean()
        # half of the diagonal, since x'Ax counts each half twice
        half_D = 0.5 * (diagonal_D - shift)
        square = 2 * float(half_D @ half_D)

        for start, panel_KRN in zip(self.starts, self.panels, strict=True):
            # The corner of a panel holds the diagonal: what is below it is counted above it.
            panel_RN = panel_KRN[each]
            rows = panel_KRN.shape[1]
            panel_RN[:] = upper_DD[start : start + rows, start:]
            corner_RR = panel_RN[:, :rows]
            corner_RR *= self._above_RR[:rows, :rows]
            corner_RR[np.diag_indices(rows)] = half_D[start : start + rows]
            # Off the diagonal each number stands for two of the matrix.
            square += 2 * float(np.vdot(panel_RN, panel_RN))

        # 1 % covers the rounding of the sum of squares itself
        self.norm_K[each] = 1.01 * square**0.5

    def one(self, x_D: Array) -> Float:
        """x'A_k x (K,).

        What does not fit in cache: each half times the outer product of x with itself, as fast as
        memory gives it.
        """
        value_K = self.shift_K * float(np.vdot(x_D, x_D))
        # what fits in cache is read faster by products than by one outer product a panel
        if sum(panel_KRN.nbytes for panel_KRN in self.panels) <= CACHED:
            return np.asarray(value_K + self.rows(x_D[None])[0])

        # 2 x: each half counts for itself and for its mirror image.
        twice_D = x_D + x_D
        for start, panel_KRN in zip(self.starts, self.panels, strict=True):
            outer_RN = np.multiply.outer(x_D[start : start + BLOCK], twice_D[start:])
            # All arms of a panel in one product, so that memory is read once and in order.
            value_K += panel_KRN.reshape(len(self.arms), -1) @ outer_RN.ravel()

        return value_K

    def rows(self, x_BD: Array) -> Float:
        """x'(A_k - shift_k I) x (B, K) in this dtype.

        No sum is longer than D + BLOCK + one for each block.
        """
        value_BK = np.empty((len(x_BD), len(self.arms)))
        # pieces bound the largest temporary array
        arms = max(1, TEMPORARY // (ROWS * self.dim))
        for row in range(0, len(x_BD), ROWS):
            few_BD = x_BD[row : row + ROWS].astype(self.dtype)
            for arm in range(0, len(self.arms), arms):
                some_KB = self._some(few_BD, slice(arm, arm + arms))
                value_BK[row : row + ROWS, arm : arm + arms] = some_KB.T

        return value_BK

    def _some(self, x_BD: Array, arms: slice) -> Array:
        twice_BD = x_BD + x_BD
        value_KB = np.zeros((len(self.arms[arms]), len(x_BD)), self.dtype)
        for start, panel_KRN in zip(self.starts, self.panels, strict=True):
            # x' times the panel, then the dot with 2 x: twice the half of the quadratic form.
            left_KBN = np.matmul(x_BD[:, start : start + BLOCK], panel_KRN[arms])
            value_KB += np.vecdot(left_KBN, twice_BD[:, start:])
        return value_KB
