"""LASER's "Sequential" baseline where one arm judges a whole iteration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers.per_arm import PerArm
from reward_router.types import Float


class Sequential(PerArm):
    """Arm = (iteration number) mod K, the iteration being the context's first feature. O(B K).

    It learns nothing.

    >>> Sequential(3).probs(np.array([[4.0]])).argmax(1)
    array([1])
    """

    reads_contexts = False

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        if not x_BD.shape[1]:
            raise InputError(
                f"contexts of shape {x_BD.shape}; the first feature must be the iteration number"
            )

        p_BK = np.zeros((len(x_BD), self.n_arms))
        iteration_B = x_BD[:, 0] % self.n_arms
        # the second remainder is for a number just under K that was rounded up to it
        arm_B = np.floor(iteration_B).astype(np.int64) % self.n_arms
        p_BK[np.arange(len(x_BD)), arm_B] = 1.0

        return p_BK
