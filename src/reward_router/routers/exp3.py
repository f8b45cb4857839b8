"""Exp3: adversarial, context-free exponential weights over importance-weighted payoffs, kept as sums in log space.

LASER section 3.2: p_k = (1 - gamma) softmax(eta S)_k + gamma / K;  S_k += payoff / p_k for the arm that was pulled.
Deviation from the paper's text: eta is gamma / K by default (``eta=1`` is the paper's).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers import checks
from reward_router.types import AnyFloat, Float, Int, State


class Exp3:
    """Exponential weights for payoffs in [0, 1]; contexts are ignored.

    ``gamma`` in (0, 1] is the share of uniform exploration, ``eta`` > 0 the step (None: gamma / K). Never overflows:
    only differences of the sums enter. ``probs`` O(B K), ``update`` O(B) with propensities, O(B K) without.

    >>> router = Exp3(2)
    >>> router.update(np.zeros((1, 1)), np.array([1]), np.array([1.0]), np.array([0.5]))
    >>> router.sums_K
    array([0., 2.])
    """

    warmup = 0
    reads_contexts = False

    def __init__(self, n_arms: int, gamma: float = 0.1, eta: float | None = None) -> None:
        """K in [1, 100000], gamma in (0, 1], eta in (0, 1000] or None."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
        self.gamma = checks.real("gamma", gamma, 0.0, 1.0, above=True)
        self.eta = None if eta is None else checks.real("eta", eta, 0.0, 1e3, above=True)
        self.sums_K = np.zeros(self.n_arms)
        self.updates = 0

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True) -> Float:
        """(B, K), equal rows. ``penalty_K`` (payoff units a round, see ``Priced``) is charged for every round so far.

        ``forced`` changes nothing: there are no forced pulls.
        """
        rows = len(checks.contexts(context_BD, None))
        sums_K = self.sums_K if penalty_K is None else self.sums_K - self.updates * penalty_K
        return np.tile(self._mix(sums_K), (rows, 1))

    def _step(self) -> float:
        return self.gamma / self.n_arms if self.eta is None else self.eta

    def _mix(self, sums_K: Float) -> Float:
        weight_K = np.exp(self._step() * (sums_K - sums_K.max()))
        return np.asarray((1 - self.gamma) * weight_K / weight_K.sum() + self.gamma / self.n_arms)

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Add payoff / propensity to the arm's sum, row by row; payoffs in [0, 1].

        ``propensity_B`` is the probability recorded at the decision: with it E[increment] is the payoff under any
        delay. None takes the current probability of each row in turn.
        """
        rows = len(checks.contexts(context_BD, None))
        index_B, y_B = checks.arms(arm_B, rows, self.n_arms), checks.payoffs(payoff_B, rows, 0.0, 1.0)
        p_B = None if propensity_B is None else checks.propensities(propensity_B, rows)
        for row, arm in enumerate(index_B):
            p = self._mix(self.sums_K)[arm] if p_B is None else p_B[row]
            self.sums_K[arm] += y_B[row] / p
        self.updates += rows

    def add_arm(self) -> int:
        """One arm more, at the mean weight of the others; returns its index."""
        scaled_K = self._step() * (self.sums_K - self.sums_K.max())
        mean = self.sums_K.max() + np.log(np.exp(scaled_K).mean()) / self._step()
        self.sums_K = np.append(self.sums_K, mean)
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; its mass goes to the others in proportion, their sums are untouched."""
        checks.whole("arm", index, 0, self.n_arms - 1)
        if self.n_arms == 1:
            raise InputError("the last arm cannot be removed: a router needs at least one")
        self.sums_K = np.delete(self.sums_K, index)
        self.n_arms -= 1

    def state_dict(self) -> State:
        """Kind, sums and number of updates."""
        return {"kind": np.array("Exp3"), "sums_K": self.sums_K.copy(), "updates": np.array(self.updates)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the state does not fit."""
        checks.same_kind(state, "Exp3", 3)
        sums_K = checks.stored(state, "", "sums_K", np.float64, (None,))
        updates = checks.whole("updates", int(checks.stored(state, "", "updates", np.int64, ())), 0, 2**62)
        n_arms = checks.whole("n_arms", len(sums_K), 1, checks.MAX_ARMS)
        self.n_arms, self.sums_K, self.updates = n_arms, sums_K, updates
