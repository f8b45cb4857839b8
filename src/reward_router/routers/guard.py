"""What a router may lose: over all rounds together against one safe arm, and at each decision.

`Guard` keeps payoffs above what one safe arm would have brought, less a margin. `within_margin`
keeps each decision's expected payoff, by the posterior, above a reference arm's, less a margin.

Conservative linear bandits (arXiv:1611.06426): an arm other than the safe one may be played at x
only if, at 95 %,

    payoffs received on other arms + lower bound of this arm at x + margin
        >= upper bound of the safe arm on the same contexts.

Rounds on the safe arm cancel. The safe arm's total on the contexts s = sum x is one linear
functional s'theta, so its bound is s'theta + z sd(s), not a sum of bounds. z grows with the rounds
(union bound), so the statement holds at all times together. Payoffs that have not arrived are
unknown to it: with delays the margin must cover the decisions under way. A margin for each decision
needs no count of rounds, so delays do not touch it; what it promises holds as far as the posterior
does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.routers.decide import even_argmax
from reward_router.types import Float, Int, State

if TYPE_CHECKING:
    from reward_router.posterior.model import LinearModel

LEVEL = 0.05
LARGEST = 1e12  # margins, in payoff


def checked_decision_margin(decision_margin: float | None) -> float | None:
    """A margin a decision, at least 0, or None; InputError where it is out of range."""
    if decision_margin is None:
        return None
    return checks.real("decision_margin", decision_margin, 0.0, LARGEST)


def within_margin(
    p_BK: Float, utility_BK: Float, margin: float | None, safe: int | None = None
) -> Float:
    """The distribution, drawn to a reference arm as far as the margin asks.

    The reference is the safe arm, or where None is named the arm of the greatest utility. A row
    whose expected utility lies more than ``margin`` below the reference's becomes the mixture

        p' = s p + (1 - s) reference,  s = margin / (reference's utility - sum_k p_k utility_k),

    whose expected loss is the margin. Other rows, and all where there is no margin, keep their very
    numbers. O(B K).

    Args:
        p_BK: probabilities; rows sum to 1.
        utility_BK: expected payoffs by the posterior, less what the arms cost.
        margin: the expected payoff that a decision may give up, at least 0; None: any.
        safe: index of the reference; None: each row's best, ties split evenly.

    >>> p = within_margin(np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]]), margin=0.125)
    >>> p  # half of .25 is given up, so half of the exploration is left
    array([[0.75, 0.25]])
    """
    if margin is None or not len(p_BK):
        return p_BK

    if safe is None:
        reference_BK = even_argmax(utility_BK)
    else:
        reference_BK = np.zeros_like(p_BK)
        reference_BK[:, safe] = 1.0

    loss_B = ((reference_BK - p_BK) * utility_BK).sum(axis=1)
    over_B = loss_B > margin
    if not over_B.any():
        return p_BK

    out_BK = p_BK.copy()
    share_B1 = (margin / loss_B[over_B])[:, None]
    out_BK[over_B] = share_B1 * p_BK[over_B] + (1 - share_B1) * reference_BK[over_B]
    return out_BK


class Guard:
    """Moves the mass of arms that might cost too much to the safe arm.

    O(B K) beside one more read of the safe arm.
    """

    def __init__(self, safe: int, margin: float | None, n_arms: int, width: int) -> None:
        """InputError names the argument that is out of range.

        ``safe`` lies in [0, K); ``margin`` is at least 0, in summed payoff, and None where only the
        safe arm is to be known; ``width`` is the number of features of the model's rows.
        """
        self.safe = checks.whole("safe", safe, 0, n_arms - 1)
        self.margin = None if margin is None else checks.real("margin", margin, 0.0, LARGEST)
        self.sum_D = np.zeros(width)
        self.gain = 0.0
        self.rounds = 0

    def restrict(self, p_BK: Float, x_BD: NDArray[Any], model: "LinearModel") -> Float:
        """The distribution without the arms that are not yet affordable at its rows.

        Their share goes to the safe arm. Rows are taken in order; each counts the rows before it as
        if the least favourable allowed arm had been played.
        """
        # an empty batch has no rounds, and the bound of z none to be for
        if self.margin is None or not len(p_BK):
            return p_BK

        p_BK = p_BK.copy()
        mean_BK, sd_BK = model.moments(x_BD)
        # The bound of the batch's last round holds for all of its rows.
        low_BK = mean_BK - self._z(self.rounds + len(p_BK)) * model.payoff_sd * sd_BK
        sum_D = self.sum_D
        gain = self.gain
        rounds = self.rounds

        for row, x_D in enumerate(x_BD):
            safe_total = self._safe_total(sum_D + x_D, rounds + 1, model)
            spared = gain + low_BK[row] + self.margin - safe_total
            allowed_K = (spared >= 0) & (p_BK[row] > 0)
            # the safe arm is always allowed; it takes what the others lose
            allowed_K[self.safe] = False
            p_BK[row, self.safe] = max(1.0 - p_BK[row, allowed_K].sum(), 0.0)
            p_BK[row, ~allowed_K & (np.arange(p_BK.shape[1]) != self.safe)] = 0.0

            # this round may be played on another arm: count the least favourable one
            if allowed_K.any():
                gain += float(low_BK[row, allowed_K].min())
                sum_D = sum_D + x_D
                rounds = rounds + 1

        return p_BK

    def _z(self, rounds: int) -> float:
        """sqrt(2 log(1 / level_n)) with level_n = 6 LEVEL / (pi n)^2, which sum to LEVEL."""
        return float(np.sqrt(2 * np.log((np.pi * rounds) ** 2 / (6 * LEVEL))))

    def _safe_total(self, sum_D: Float, rounds: int, model: "LinearModel") -> float:
        mean, sd = model.total(self.safe, sum_D, rounds)
        return mean + self._z(rounds) * model.payoff_sd * sd

    def note(self, x_BD: NDArray[Any], arm_B: Int, payoff_B: Float) -> None:
        """Count applied payoffs of arms other than the safe one, in order."""
        for row in np.flatnonzero(arm_B != self.safe):
            self.sum_D = self.sum_D + x_BD[row]
            self.gain += float(payoff_B[row])
            self.rounds += 1

    def check_removal(self, index: int) -> None:
        """InputError where the arm is the safe one."""
        if index == self.safe:
            raise InputError(f"arm {index} is the safe arm of the guard and cannot be removed")

    def removed(self, index: int) -> None:
        """Follow the safe arm to its new index."""
        # arms behind a removed one move down
        self.safe -= index < self.safe

    def state(self) -> State:
        """Sums over the rounds on other arms."""
        return {"guard": np.concatenate([[self.safe, self.gain, self.rounds], self.sum_D])}

    def loaded(self, state: Mapping[str, NDArray[Any]], n_arms: int) -> "Guard":
        """A new guard in this state."""
        n_features = len(self.sum_D)
        # As written: safe arm, gain, rounds, then the sum of contexts.
        numbers = checks.stored(state, "", "guard", np.float64, (3 + n_features,))
        safe = int(numbers[0])

        guard = Guard(safe, self.margin, n_arms, n_features)
        guard.gain = float(numbers[1])
        guard.rounds = int(numbers[2])
        guard.sum_D = numbers[3:].copy()
        return guard
