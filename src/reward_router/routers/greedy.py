"""A learned router, frozen: it takes the arm it thinks best and learns nothing more."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.types import AnyFloat, Float, HasPosterior, Int, Router, State


class Greedy:
    """The arm of the highest expected payoff under ``router``, ties split evenly.

    A router that has no expectations takes the arm of the highest probability. There is neither
    exploration nor forced pulls: this is the router at test time (LASER, section 3.3). Payoffs are
    checked and forgotten. It reads ``router`` and never changes it.

    Args:
        router: what was learned.
        dead: indices of arms that never answered while the router learned. Nothing is known of
            them, and they are not chosen. Where every arm is dead, none is left out.

    >>> from reward_router.routers.simple import Uniform
    >>> Greedy(Uniform(2)).probs(np.zeros((1, 3)))
    array([[0.5, 0.5]])
    """

    warmup = 0

    def __init__(self, router: Router, dead: Sequence[int] = ()) -> None:
        """Nothing is checked here: the router was."""
        self.router = router
        # Were all left out, no arm could be chosen at all.
        self.dead = list(dead) if len(set(dead)) < router.n_arms else []
        self.dim: int | None = router.dim

    @property
    def n_arms(self) -> int:
        """K."""
        return self.router.n_arms

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K), the whole probability on the best arm."""
        if isinstance(self.router, HasPosterior):
            mean_BK, _ = self.router.posterior(context_BD)
            value_BK = np.array(mean_BK)
        else:
            value_BK = np.array(self.router.probs(context_BD))

        # nothing is known of an arm that never answered
        value_BK[:, self.dead] = -np.inf
        best_BK = value_BK == value_BK.max(axis=1, keepdims=True)
        return np.asarray(best_BK / best_BK.sum(axis=1, keepdims=True))

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Checks its input and learns nothing."""
        checks.update(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)

    def state_dict(self) -> State:
        """The router's own."""
        return self.router.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the router's own; as it does."""
        self.router.load_state_dict(state)
