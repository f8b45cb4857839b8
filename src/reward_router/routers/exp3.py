"""Exp3: adversarial, context-free exponential weights over importance-weighted payoffs.

The payoffs are kept as sums in log space.

LASER section 3.2: p_k = (1 - gamma) softmax(eta S)_k + gamma / K;  S_k += payoff / p_k for the arm
that was pulled. Deviation from the paper's text: eta is gamma / K by default (``eta=1`` is the
paper's).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.kinds import RouterKind
from reward_router.routers.per_arm import PerArm
from reward_router.types import AnyFloat, Float, Int


class Exp3(PerArm):
    """Exponential weights for payoffs in [0, 1]; contexts are ignored.

    Nothing overflows, since only differences of the sums enter. ``probs`` costs O(B K), ``update``
    O(B) with propensities and O(B K) without.

    Args:
        n_arms: K, the number of arms.
        gamma: share of uniform exploration, in (0, 1].
        eta: learning rate, in (0, 1000]; None: gamma / K.

    >>> router = Exp3(2)
    >>> router.update(np.zeros((1, 1)), np.array([1]), np.array([1.0]), np.array([0.5]))
    >>> router.sums_K
    array([0., 2.])
    """

    reads_contexts = False
    rows = ("sums_K",)
    counts = ("updates",)
    payoff_range = (0.0, 1.0)
    takes_penalty = True
    takes_forced = True

    def __init__(self, n_arms: int, gamma: float = 0.1, eta: float | None = None) -> None:
        """K in [1, 100000], gamma in (0, 1], eta in (0, 1000] or None."""
        super().__init__(n_arms)
        self.gamma = checks.real("gamma", gamma, 0.0, 1.0, above=True)
        self.eta = None if eta is None else checks.real("eta", eta, 0.0, 1e3, above=True)
        self.sums_K = np.zeros(self.n_arms)
        self.updates = 0

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K), equal rows.

        ``penalty_K`` (payoff units a round, see ``Priced``) is charged for every round so far.

        ``forced`` changes nothing: there are no forced pulls.
        """
        rows = len(checks.contexts(context_BD, None))
        sums_K = self.sums_K
        if penalty_K is not None:
            sums_K = sums_K - self.updates * penalty_K

        return np.tile(self._mix(sums_K), (rows, 1))

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        return np.tile(self._mix(self.sums_K), (len(x_BD), 1))

    def _step(self) -> float:
        return self.gamma / self.n_arms if self.eta is None else self.eta

    def _mix(self, sums_K: Float) -> Float:
        # p_k = (1 - gamma) softmax(eta S)_k + gamma / K (LASER section 3.2)
        weight_K = np.exp(self._step() * (sums_K - sums_K.max()))
        return np.asarray((1 - self.gamma) * weight_K / weight_K.sum() + self.gamma / self.n_arms)

    def _learn(
        self, x_BD: NDArray[Any], arm_B: Int, payoff_B: Float, propensity_B: Float | None
    ) -> None:
        """Add payoff / propensity to the arm's sum, row by row.

        ``propensity_B`` is the probability recorded at the decision: with it E[increment] is the
        payoff under any delay. None takes the current probability of each row in turn.
        """
        for row, arm in enumerate(arm_B):
            if propensity_B is None:
                p = self._mix(self.sums_K)[arm]
            else:
                p = propensity_B[row]

            self.sums_K[arm] += payoff_B[row] / p  # LASER section 3.2

        self.updates += len(arm_B)

    def _new_row(self, name: str) -> float:
        """The mean weight of the others."""
        scaled_K = self._step() * (self.sums_K - self.sums_K.max())
        return float(self.sums_K.max() + np.log(np.exp(scaled_K).mean()) / self._step())


KINDS = (
    RouterKind(
        "exp3",
        Exp3,
        "draws arms by exponential weights of their payoffs, for payoffs that change without a law",
    ),
    RouterKind(
        "laser-exp3", Exp3, "Exp3 as the text of LASER has it: learning rate 1", given={"eta": 1.0}
    ),
)
