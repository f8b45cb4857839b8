"""Routers whose state is named arrays of one row an arm.

Checks, arms that come and go, and states are written once here.

A subclass names its arrays in ``rows`` and its whole numbers in ``counts``, sets them in its
constructor, and says what it makes of them in ``_chosen`` and ``_learn``. Nobody has to inherit
from it: a class that satisfies ``reward_router.types.Router`` is a router.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.types import AnyFloat, Float, Int, State

MOST = 2**62  # of a whole number in a state


class PerArm:
    """A router of K arms in [1, 100000].

    One that makes no use of contexts says ``reads_contexts = False``.

    Class attributes a subclass may set:
        rows: names of its float64 arrays of one row an arm.
        counts: names of its whole numbers, at least 0.
        payoff_range: the payoffs it takes; another one is an InputError and nothing is learned.
    """

    warmup: int = 0
    dim: int | None = None
    rows: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[tuple[str, ...]] = ()
    payoff_range: ClassVar[tuple[float, float]] = (-checks.MAX_PAYOFF, checks.MAX_PAYOFF)

    def __init__(self, n_arms: int) -> None:
        """InputError where ``n_arms`` is out of range."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        """(B, K) probabilities at checked contexts."""
        raise NotImplementedError

    def _learn(
        self, x_BD: NDArray[Any], arm_B: Int, payoff_B: Float, propensity_B: Float | None
    ) -> None:
        """Learn checked rows in order; a router that does not learn leaves this out."""

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) probabilities, rows sum to 1."""
        return self._chosen(checks.contexts(context_BD, self.dim))

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Learn B payoffs in row order.

        InputError, and nothing is learned, where anything is wrong.
        """
        x_BD = checks.contexts(context_BD, self.dim)
        rows = len(x_BD)
        index_B = checks.arms(arm_B, rows, self.n_arms)
        low, high = self.payoff_range
        y_B = checks.payoffs(payoff_B, rows, low, high)
        p_B = None
        if propensity_B is not None:
            p_B = checks.propensities(propensity_B, rows)

        self._learn(x_BD, index_B, y_B, p_B)

    def _new_row(self, name: str) -> float:
        """What a new arm's row of the array ``name`` holds."""
        return 0.0

    def add_arm(self) -> int:
        """One arm more, at the end; returns its index."""
        for name in self.rows:
            values_K = getattr(self, name)
            longer_K = np.append(values_K, self._new_row(name))
            setattr(self, name, longer_K)
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move down by one. InputError for the last."""
        checks.removable(index, self.n_arms)
        for name in self.rows:
            values_K = getattr(self, name)
            setattr(self, name, np.delete(values_K, index))
        self.n_arms -= 1

    def state_dict(self) -> State:
        """The class's name, its arrays and its whole numbers."""
        state: State = {"kind": np.array(type(self).__name__)}
        for name in self.rows:
            state[name] = getattr(self, name).copy()

        for name in self._whole_numbers():
            state[name] = np.array(getattr(self, name))

        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the state does not fit."""
        numbers = self._whole_numbers()
        checks.same_kind(state, type(self).__name__, 1 + len(self.rows) + len(numbers))
        values: dict[str, Any] = {}
        for name in numbers:
            # a router has at least one arm, other numbers may be 0
            least = 1 if name == "n_arms" else 0
            most = checks.MAX_ARMS if name == "n_arms" else MOST
            number = int(checks.stored(state, "", name, np.int64, ()))
            values[name] = checks.whole(name, number, least, most)

        for name in self.rows:
            n_arms = values.get("n_arms")
            values[name] = checks.stored(state, "", name, np.float64, (n_arms,))
            values["n_arms"] = checks.whole("n_arms", len(values[name]), 1, checks.MAX_ARMS)

        # everything is read and checked before anything is set
        self._check_state(values)
        for name, value in values.items():
            setattr(self, name, value)

    def _check_state(self, values: Mapping[str, Any]) -> None:
        """InputError where a state's arrays and numbers do not go together."""

    def _whole_numbers(self) -> tuple[str, ...]:
        """The number of arms is among them where no array tells it."""
        return self.counts if self.rows else ("n_arms", *self.counts)
