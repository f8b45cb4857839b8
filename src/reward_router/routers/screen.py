"""Which arms can have the best upper bound? Answered in float32 with a bound on its error, so that float64 reads only those.

Holds half of each arm's matrix once more, in float32: block rows from the diagonal to the right, block after block, all
arms of a block side by side. One choice reads a quarter of the bytes of the float64 matrices, and a batch runs at the
speed of float32 products. What a router learns, and the posterior it reports, never pass through here.

The bound is the standard one for inner products (Higham, Accuracy and Stability of Numerical Algorithms, 3.1): a sum of products
in whatever order, each number rounded before, errs by at most gamma_m |x|'|A||x| <= gamma_m |x|^2 |A|_F, gamma_m = m u / (1 - m u),
u = 2^-24, with m roundings on the longest way to the result. A stands for the arm's matrix less its mean eigenvalue, which is added back in
float64: the norm is then that of what was learned, and not of the prior.
"""

from collections.abc import Sequence

import numpy as np

from reward_router.routers.blas import Array
from reward_router.routers.gaussian import ArmPosterior
from reward_router.types import Float

BLOCK, TEMPORARY = 96, 2_000_000  # rows of a block; numbers in the largest temporary array
UNIT = 2.0**-24
SMALLEST = 1e-30  # beside it, what underflows in float32 is nothing


class Screen:
    """Float32 halves of the matrices of K primal arms of D features: 2 K D (D + BLOCK) bytes."""

    def __init__(self, arms: Sequence[ArmPosterior], dim: int) -> None:
        """Room for the copies; they are made and renewed when read."""
        self.arms, self.dim = list(arms), dim
        self.starts = range(0, dim, BLOCK)
        self.panels = [np.empty((len(self.arms), min(BLOCK, dim - i), dim - i), np.float32) for i in self.starts]
        self.norm_K, self.shift_K = np.zeros(len(self.arms)), np.zeros(len(self.arms))
        self.above_RR = np.triu(np.ones((BLOCK, BLOCK), np.float32), 1)
        roundings = BLOCK + dim + len(self.starts) + 4
        self.gamma = roundings * UNIT / (1 - roundings * UNIT)

    def quadratic(self, x_BD: Array) -> tuple[Float, Float]:
        """x'A_k x and the most it may err: (B, K) each, not finite where float32 cannot hold it. O(B K D^2 / 2)."""
        step = max(1, TEMPORARY // (len(self.arms) * self.dim))
        with np.errstate(over="ignore", invalid="ignore"):
            for each, arm in enumerate(self.arms):
                if not arm.screened:
                    self._copy(each, arm)
            parts = [self._rows(x_BD[start : start + step]) for start in range(0, len(x_BD), step)]
            square_B1 = np.einsum("bd,bd->b", x_BD, x_BD, dtype=np.float64)[:, None]
            return np.concatenate(parts) + square_B1 * self.shift_K, self.gamma * square_B1 * self.norm_K + SMALLEST

    def _rows(self, x_BD: Array) -> Float:
        x_BD = x_BD.astype(np.float32)
        twice_BD, found_KB = x_BD + x_BD, np.zeros((len(self.arms), len(x_BD)), np.float32)
        for start, panel_KRN in zip(self.starts, self.panels, strict=True):
            left_KBN = np.matmul(x_BD[:, start : start + BLOCK], panel_KRN)
            found_KB += np.vecdot(left_KBN, twice_BD[:, start:])
        return found_KB.T.astype(np.float64)

    def _copy(self, each: int, arm: ArmPosterior) -> None:
        """Renew one arm's half (half of the diagonal, nothing below it), its shift and its Frobenius norm, rounded up."""
        upper_DD = np.transpose(arm.base_DD)  # type: ignore[arg-type]
        diagonal_D = np.diagonal(upper_DD).astype(np.float64)
        self.shift_K[each] = shift = diagonal_D.mean()
        half_D = 0.5 * (diagonal_D - shift)
        square = 2 * float(half_D @ half_D)
        for start, panel_KRN in zip(self.starts, self.panels, strict=True):
            panel_RN, rows = panel_KRN[each], panel_KRN.shape[1]
            panel_RN[:] = upper_DD[start : start + rows, start:]
            corner_RR = panel_RN[:, :rows]
            corner_RR *= self.above_RR[:rows, :rows]
            corner_RR[np.diag_indices(rows)] = half_D[start : start + rows]
            square += 2 * float(np.vdot(panel_RN, panel_RN))
        self.norm_K[each], arm.screened = 1.01 * square**0.5, True
