"""Always the arm of the greatest strength: BayesianRouter without its online stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.types import AnyFloat, Float, Int, State


class Strongest:
    """argmax_k x'e_k over fixed strengths e (K, D), ties split evenly (the paper's "w/o online").

    Payoffs teach it nothing. A row that is None is an arm without strengths, which is never chosen.
    InputError where all rows are None, or where they differ in length.

    >>> Strongest([[1.0, 0.0], None, [0.0, 1.0]]).probs(np.array([[0.6, 0.8]]))
    array([[0., 0., 1.]])
    """

    warmup = 0
    takes_penalty = True

    def __init__(self, strength_KD: Sequence[Any]) -> None:
        """Strengths arm by arm."""
        known = [np.asarray(row, np.float64) for row in strength_KD if row is not None]
        lengths = {row.shape for row in known}
        all_finite = all(np.isfinite(row).all() for row in known)
        if len(lengths) != 1 or not all_finite:
            raise InputError(
                "Strongest: strengths of at least one arm are needed, finite and all of one length"
            )

        self.n_arms = checks.whole("n_arms", len(strength_KD), 1, checks.MAX_ARMS)
        self.dim = len(known[0])
        self.known_K = np.array([row is not None for row in strength_KD])
        # Zeros hold the place of an arm without strengths; `known_K` keeps it from being chosen.
        no_strengths = np.zeros(self.dim)
        rows = [no_strengths if row is None else row for row in strength_KD]
        self.strength_KD = np.array(rows, np.float64)

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None) -> Float:
        """(B, K): all probability on the strongest arm, strengths less the penalty. O(B K D)."""
        x_BD = checks.contexts(context_BD, self.dim).astype(np.float64)
        strength_BK = x_BD @ self.strength_KD.T
        # an arm without strengths can never be the largest
        score_BK = np.where(self.known_K, strength_BK, -np.inf)
        if penalty_K is not None:
            score_BK = score_BK - penalty_K

        # Arms that tie share the row.
        best_B1 = score_BK.max(axis=1, keepdims=True)
        best_BK = score_BK == best_B1
        n_best_B1 = best_BK.sum(axis=1, keepdims=True)
        return np.asarray(best_BK / n_best_B1)

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Checks its input and learns nothing."""
        checks.update(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)

    def state_dict(self) -> State:
        """Kind and strengths."""
        return {
            "kind": np.array("Strongest"),
            "strength_KD": self.strength_KD.copy(),
            "known_K": self.known_K.copy(),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state is another router's or of another shape."""
        checks.same_kind(state, "Strongest", 3)
        shape = (self.n_arms, self.dim)
        known_K = checks.stored(state, "", "known_K", np.bool_, shape[:1])
        self.strength_KD = checks.stored(state, "", "strength_KD", np.float64, shape)
        self.known_K = known_K
