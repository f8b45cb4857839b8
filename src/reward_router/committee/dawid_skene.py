"""How good is each arm when nobody has labelled anything?

A guess from agreement alone, and the audit that may throw it away.

One-coin Dawid-Skene by EM on verdicts (the sign of the margin; ties and missing are silent).
Excellent where judges err independently, catastrophic where most share one bias (LLMBar), and just
as confident there: so it is a prior only, worth a few pseudo-labels, and `audit` drops it where
random labels contradict it. Leaves out: class-dependent errors (sides are a coin).
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.committee.labelled import check_labels, check_margins
from reward_router.committee.stop import sigmoid
from reward_router.errors import InputError
from reward_router.types import Float, State

STEPS = 100
SHORTFALL = 0.10  # accuracy by which the vote may fall behind the best labelled arm
FLOOR = 0.55  # accuracy that the vote must have


class DawidSkene:
    """Label-free accuracy of each arm: a prior that random labels confirm or drop.

    ``status`` is "untested", "confirmed" or "dropped"; see ``audit``. Fit: O(P K) a step, 100 steps
    at most.

    Args:
        n_arms: K, the number of arms.
        prior: pseudo-verdicts of each arm, half of them right.
        min_labels: random labels that an audit needs.

    >>> rng = np.random.default_rng(1)
    >>> truth = rng.choice([-1.0, 1.0], 500)
    >>> margins = truth[:, None] * np.where(rng.random((500, 3)) < [0.9, 0.7, 0.6], 1.0, -1.0)
    >>> model = DawidSkene(3).fit(margins)
    >>> model.accuracy_K.argmax().item(), model.status
    (0, 'untested')
    >>> model.audit(margins, truth > 0), model.audit(margins, truth < 0)
    ('confirmed', 'dropped')
    """

    def __init__(self, n_arms: int, prior: float = 4.0, min_labels: int = 20) -> None:
        """InputError unless K >= 1, prior > 0 and min_labels >= 1."""
        if n_arms < 1 or prior <= 0 or min_labels < 1:
            raise InputError(
                "DawidSkene needs n_arms >= 1, prior > 0, min_labels >= 1; "
                f"got {n_arms}, {prior}, {min_labels}"
            )

        self.n_arms = n_arms
        self.prior = prior
        self.min_labels = min_labels
        self.accuracy_K = np.full(n_arms, 0.5)
        self.status = "untested"

    def fit(self, margins_PK: ArrayLike) -> Self:
        """EM from the majority's verdict; needs no labels. Resets the status."""
        verdict = np.sign(np.nan_to_num(check_margins(margins_PK, self.n_arms)))
        spoke = np.abs(verdict).sum(0)
        # The majority says which side is which: without it the mirror image fits as well.
        lean = np.sign(verdict.sum(1))
        for _ in range(STEPS):
            # M step: an arm's accuracy is the share of verdicts that agree with the lean
            agree = (spoke + verdict.T @ lean) / 2
            # Pseudo-verdicts keep the log-odds of an arm that always agrees finite.
            accuracy = (agree + self.prior / 2) / (spoke + self.prior)
            moved = np.abs(accuracy - self.accuracy_K).max()
            self.accuracy_K = accuracy
            # E step: E[y | verdicts] = tanh(half the weighted vote)
            lean = np.tanh(verdict @ self.weights_K / 2)
            if moved < 1e-9:
                break

        self.status = "untested"
        return self

    @property
    def weights_K(self) -> Float:
        """(K,) log-odds of each arm's accuracy: the weights of its vote."""
        return np.asarray(np.log(self.accuracy_K / (1 - self.accuracy_K)))

    def posterior(self, margins_PK: ArrayLike) -> Float:
        """(P,) P(a better) by the weighted vote. Confident where it is wrong, too: see `audit`."""
        verdict = np.sign(np.nan_to_num(check_margins(margins_PK, self.n_arms)))
        return sigmoid(verdict @ self.weights_K)

    def audit(self, margins_PK: ArrayLike, labels_P: ArrayLike) -> str:
        """Test against randomly chosen labels scored by all arms; returns the status.

        Fewer than ``min_labels`` decide nothing. The guess is dropped where the weighted vote is
        right on less than 55 %, or 10 percentage points less often than the best labelled arm.
        """
        margins = check_margins(margins_PK, self.n_arms)
        label = check_labels(labels_P, len(margins))
        if len(label) < self.min_labels:
            return self.status

        # 1 where right, 0 where wrong, 1/2 for a tie.
        sign = np.where(label, 1.0, -1.0)
        vote_side_P = np.sign(self.posterior(margins) - 0.5)
        arm_side_PK = np.sign(np.nan_to_num(margins))
        vote_P = 0.5 + 0.5 * vote_side_P * sign
        right_PK = 0.5 + 0.5 * arm_side_PK * sign[:, None]

        vote = float(vote_P.mean())
        best = float(right_PK.mean(0).max())
        # as confident where it is wrong as where it is right: only labels can tell
        least = max(FLOOR, best - SHORTFALL)
        self.status = "dropped" if vote < least else "confirmed"
        return self.status

    def state_dict(self) -> State:
        """Arrays only."""
        return {"accuracy_K": self.accuracy_K.copy(), "status": np.array(self.status)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the number of arms differs."""
        shape = state["accuracy_K"].shape
        if shape != (self.n_arms,):
            raise InputError(f"state of {len(state['accuracy_K'])} arms does not fit {self.n_arms}")
        accuracy_K = np.array(state["accuracy_K"], dtype=np.float64)
        status = str(state["status"])
        # Set together, after everything was read.
        self.status = status
        self.accuracy_K = accuracy_K
