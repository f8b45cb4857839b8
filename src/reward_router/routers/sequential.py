"""LASER's "Sequential" baseline where one arm judges a whole iteration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers import checks
from reward_router.routers.simple import checked, removable
from reward_router.types import AnyFloat, Float, Int, State


class Sequential:
    """Arm = (iteration number) mod K, the iteration being the context's first feature; learns nothing. O(B K).

    >>> Sequential(3).probs(np.array([[4.0]])).argmax(1)
    array([1])
    """

    warmup = 0
    reads_contexts = False

    def __init__(self, n_arms: int) -> None:
        """K arms in [1, 100000], in the order of the configuration."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) one-hot. InputError where a context has no feature or one that is not finite."""
        x_BD = checks.contexts(context_BD, None)
        if not x_BD.shape[1]:
            raise InputError(f"contexts of shape {x_BD.shape}; the first feature must be the iteration number")
        p_BK = np.zeros((len(x_BD), self.n_arms))
        p_BK[np.arange(len(x_BD)), np.floor(x_BD[:, 0] % self.n_arms).astype(np.int64) % self.n_arms] = 1.0
        return p_BK

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Checks its input and learns nothing."""
        checked(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)

    def add_arm(self) -> int:
        """One arm more, at the end of the order; returns its index."""
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move up in the order."""
        removable(index, self.n_arms)
        self.n_arms -= 1

    def state_dict(self) -> State:
        """Kind and number of arms."""
        return {"kind": np.array("Sequential"), "n_arms": np.array(self.n_arms)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state is another router's."""
        checks.same_kind(state, "Sequential", 2)
        n_arms = int(checks.stored(state, "", "n_arms", np.int64, ()))
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
