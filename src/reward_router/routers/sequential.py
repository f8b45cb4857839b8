"""LASER's "Sequential" baseline where one arm judges a whole iteration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.types import AnyFloat, Float, Int, State


class Sequential:
    """Arm = (iteration number) mod K, the iteration being the context's only feature; learns nothing.

    >>> Sequential(3).probs(np.array([[4.0]])).argmax(1)
    array([1])
    """

    warmup = 0

    def __init__(self, n_arms: int) -> None:
        """K arms, in the order of the configuration."""
        self.n_arms = n_arms

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) one-hot."""
        arm_B = np.asarray(context_BD)[:, 0].astype(np.int64) % self.n_arms
        return np.eye(self.n_arms)[arm_B]

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Nothing to learn."""

    def state_dict(self) -> State:
        """Only the number of arms."""
        return {"n_arms": np.array(self.n_arms)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Accept a state of as many arms; ValueError otherwise."""
        if int(state["n_arms"]) != self.n_arms:
            raise ValueError(f"state of {int(state['n_arms'])} arms, this router has {self.n_arms}")
