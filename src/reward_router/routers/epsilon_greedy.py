"""Epsilon-greedy: the arm of the best mean payoff, at times any arm (Sutton and Barto, 2.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.kinds import RouterKind
from reward_router.routers.decide import even_argmax, with_floor
from reward_router.routers.per_arm import PerArm
from reward_router.types import Float, Int


class EpsilonGreedy(PerArm):
    """The best mean payoff so far with probability 1 - ``epsilon`` in [0, 1], else any arm.

    Contexts are ignored. Ties split.

    >>> EpsilonGreedy(2).probs(np.zeros((1, 1)))
    array([[0.5, 0.5]])
    """

    reads_contexts = False
    rows = ("pulls_K", "sums_K")

    def __init__(self, n_arms: int, epsilon: float = 0.1) -> None:
        """K arms, and the share of decisions that explores."""
        super().__init__(n_arms)
        self.epsilon = checks.real("epsilon", epsilon, 0.0, 1.0)
        self.pulls_K = np.zeros(n_arms)
        self.sums_K = np.zeros(n_arms)

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        # An arm without a payoff counts as the best there is, so each is tried early.
        mean_paid_K = self.sums_K / np.maximum(self.pulls_K, 1)
        mean_K = np.where(self.pulls_K > 0, mean_paid_K, 1.0)
        return np.repeat(with_floor(even_argmax(mean_K[None]), self.epsilon), len(x_BD), axis=0)

    def _learn(
        self, x_BD: NDArray[Any], arm_B: Int, payoff_B: Float, propensity_B: Float | None
    ) -> None:
        np.add.at(self.pulls_K, arm_B, 1.0)
        np.add.at(self.sums_K, arm_B, payoff_B)


KIND = RouterKind(
    "epsilon_greedy", EpsilonGreedy, "takes the arm of the best mean payoff, at times any arm"
)
