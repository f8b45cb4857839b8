"""A conservative guard: payoffs stay above what one safe arm would have brought, less a margin.

Conservative linear bandits (arXiv:1611.06426): an arm other than the safe one may be played at x
only if, at 95 %,

    payoffs received on other arms + lower bound of this arm at x + margin
        >= upper bound of the safe arm on the same contexts.

Rounds on the safe arm cancel. The safe arm's total on the contexts s = sum x is one linear
functional s'theta, so its bound is s'theta + z sd(s), not a sum of bounds. z grows with the rounds
(union bound), so the statement holds at all times together. Payoffs that have not arrived are
unknown to it: with delays the margin must cover the decisions under way.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.types import Float, Int, State

if TYPE_CHECKING:
    from reward_router.posterior.model import LinearModel

LEVEL = 0.05


class Guard:
    """Moves the mass of arms that might cost too much to the safe arm.

    O(B K) beside one more read of the safe arm.
    """

    def __init__(self, safe: int, margin: float, n_arms: int, width: int) -> None:
        """InputError names the argument that is out of range.

        ``safe`` lies in [0, K); ``margin`` is at least 0, in summed payoff; ``width`` is the number
        of features of the model's rows.
        """
        self.safe = checks.whole("safe", safe, 0, n_arms - 1)
        self.margin = checks.real("margin", margin, 0.0, 1e12)
        self.sum_D = np.zeros(width)
        self.gain = 0.0
        self.rounds = 0

    def restrict(self, p_BK: Float, x_BD: NDArray[Any], model: "LinearModel") -> Float:
        """The distribution without the arms that are not yet affordable at its rows.

        Their share goes to the safe arm. Rows are taken in order; each counts the rows before it as
        if the least favourable allowed arm had been played.
        """
        # an empty batch has no rounds, and the bound of z none to be for
        if not len(p_BK):
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
