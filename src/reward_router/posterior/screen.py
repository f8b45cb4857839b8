"""Which arms can have the best upper bound? Answered in float32 with a bound on its error.

So float64 reads only those arms.

One choice reads a quarter of the bytes of the float64 matrices, and a batch runs at the speed of
float32 products. What a router learns, and the posterior it reports, never pass through here.

The bound is the standard one for inner products (Higham, Accuracy and Stability of Numerical
Algorithms, 3.1): a sum of products in whatever order, each number rounded before, errs by at most
gamma_m |x|'|A||x| <= gamma_m |x|^2 |A|_F, gamma_m = m u / (1 - m u), u = 2^-24, with m roundings on
the longest way to the result. A is an arm's matrix less its mean eigenvalue.
"""

from collections.abc import Sequence

import numpy as np

from reward_router.posterior.blas import Array
from reward_router.posterior.gaussian import ArmPosterior
from reward_router.posterior.halves import BLOCK, Halves
from reward_router.types import Float

UNIT = 2.0**-24
SMALLEST = 1e-30  # beside it, what underflows in float32 is nothing


class Screen:
    """Bounds of x'A_k x of K primal arms of D features, from float32 halves.

    The copies take 2 K D (D + BLOCK) bytes.
    """

    def __init__(self, arms: Sequence[ArmPosterior], dim: int) -> None:
        """Room for the copies; they are made and renewed when read."""
        self.halves = Halves(arms, dim, np.float32)
        # the longest way to a result: one product, its sum, and one addition a block
        roundings = BLOCK + dim + len(self.halves.starts) + 4
        self.gamma = roundings * UNIT / (1 - roundings * UNIT)

    def quadratic(self, x_BD: Array) -> tuple[Float, Float]:
        """x'A_k x and the most it may err: (B, K) each, not finite where float32 cannot hold it.

        O(B K D^2 / 2).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            self.halves.renew()
            square_B1 = np.einsum("bd,bd->b", x_BD, x_BD, dtype=np.float64)[:, None]
            value_BK = self.halves.rows(x_BD) + square_B1 * self.halves.shift_K
            error_BK = self.gamma * square_B1 * self.halves.norm_K + SMALLEST
            return value_BK, error_BK
