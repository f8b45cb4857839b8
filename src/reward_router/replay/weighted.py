"""The paper's simple rival: offline strength and online score, weighted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.posterior.win_probability import win_probability
from reward_router.routers import LinearThompson
from reward_router.types import AnyFloat, Float, Int, State


def best_of_scores(score_TK: Float) -> Float:
    """(T, K): all mass on the highest score, ties (1e-12) split evenly."""
    best_TK = (score_TK >= score_TK.max(axis=1, keepdims=True) - 1e-12).astype(np.float64)
    return np.asarray(best_TK / best_TK.sum(axis=1, keepdims=True))


class WeightedScore:
    """A weighted sum of offline strength and online score, sampled; it learns as Thompson does.

    The probability of an arm is P(it has the highest a x offline strength + (1 - a) x draw of its
    zero-prior posterior).
    """

    def __init__(self, online: LinearThompson, offline_KD: Float, a: float) -> None:
        """A router of two parts.

        Args:
            online: learns from payoffs.
            offline_KD: rows whose products with a context are the offline strengths in payoff
                units.
            a: weight of the offline part, in [0, 1].
        """
        self.online = online
        self.offline_KD = offline_KD
        self.a = a

    takes_penalty = True
    warmup = 0

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self.online.n_arms

    @property
    def dim(self) -> int | None:
        """D, the features of a context."""
        return self.online.dim

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None) -> Float:
        """(B, K): exact, as for Thompson; at a = 1 the argmax of the strengths.

        ``penalty_K`` is taken off the scores.
        """
        offline_BK = np.asarray(context_BD @ self.offline_KD.T)
        penalty = 0.0 if penalty_K is None else penalty_K
        # At the ends one of the two counts alone, and a = 1 has no spread to draw from.
        if self.a == 1:
            return best_of_scores(offline_BK - penalty)
        if self.a == 0:
            return self.online.probs(context_BD, penalty_K)

        mean_BK, sd_BK = self.online.posterior(context_BD)
        weighted_BK = self.a * offline_BK + (1 - self.a) * mean_BK - penalty
        return win_probability(weighted_BK, (1 - self.a) * sd_BK)

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """The online part learns."""
        self.online.update(context_BD, arm_B, payoff_B, propensity_B)

    def state_dict(self) -> State:
        """The online part's."""
        return self.online.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """The online part's."""
        self.online.load_state_dict(state)
