"""The routers that do not learn: uniform, fixed order, one arm. They are the baselines and the fallbacks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers import checks
from reward_router.types import AnyFloat, Float, Int, State


class Uniform:
    """Every arm with probability 1 / K, whatever happens (LASER's baseline "random").

    >>> Uniform(4).probs(np.zeros((1, 2)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    warmup = 0
    reads_contexts = False

    def __init__(self, n_arms: int) -> None:
        """K in [1, 100000]."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K), every entry 1 / K."""
        return np.full((len(checks.contexts(context_BD, None)), self.n_arms), 1.0 / self.n_arms)

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Checks its input and learns nothing."""
        checked(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)

    def add_arm(self) -> int:
        """One arm more, at the end; returns its index."""
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move down by one."""
        removable(index, self.n_arms)
        self.n_arms -= 1

    def state_dict(self) -> State:
        """Kind and number of arms."""
        return {"kind": np.array("Uniform"), "n_arms": np.array(self.n_arms)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state is another router's."""
        checks.same_kind(state, "Uniform", 2)
        self.n_arms = checks.whole("n_arms", int(checks.stored(state, "", "n_arms", np.int64, ())), 1, checks.MAX_ARMS)


class RoundRobin:
    """The arms in a fixed order, one a row, counted by applied payoffs (LASER's baseline "sequential").

    Reads never move the position: rows 0..B-1 of a call get the arms after the last one that was updated.
    Asking again before the payoffs arrive gives the same arms.

    >>> RoundRobin(2).probs(np.zeros((3, 1))).argmax(1)
    array([0, 1, 0])
    """

    warmup = 0
    reads_contexts = False

    def __init__(self, n_arms: int) -> None:
        """K in [1, 100000]."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
        self.updates = 0

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) one-hot."""
        rows = len(checks.contexts(context_BD, None))
        p_BK = np.zeros((rows, self.n_arms))
        p_BK[np.arange(rows), (self.updates + np.arange(rows)) % self.n_arms] = 1.0
        return p_BK

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Move on by one arm a row."""
        checked(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)
        self.updates += len(np.asarray(arm_B))

    def add_arm(self) -> int:
        """One arm more, at the end of the order; returns its index."""
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move up in the order."""
        removable(index, self.n_arms)
        self.n_arms -= 1

    def state_dict(self) -> State:
        """Kind, number of arms and position."""
        return {"kind": np.array("RoundRobin"), "n_arms": np.array(self.n_arms), "updates": np.array(self.updates)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state is another router's."""
        checks.same_kind(state, "RoundRobin", 3)
        n_arms = checks.whole("n_arms", int(checks.stored(state, "", "n_arms", np.int64, ())), 1, checks.MAX_ARMS)
        updates = checks.whole("updates", int(checks.stored(state, "", "updates", np.int64, ())), 0, 2**62)
        self.n_arms, self.updates = n_arms, updates


class Fixed:
    """Always the same arm: each single reward model as a baseline, and "best RM".

    >>> Fixed(3, 1).probs(np.zeros((1, 1)))
    array([[0., 1., 0.]])
    """

    warmup = 0
    reads_contexts = False

    def __init__(self, n_arms: int, arm: int) -> None:
        """K in [1, 100000] and the arm in [0, K)."""
        self.n_arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
        self.arm = checks.whole("arm", arm, 0, self.n_arms - 1)

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) one-hot on the arm."""
        p_BK = np.zeros((len(checks.contexts(context_BD, None)), self.n_arms))
        p_BK[:, self.arm] = 1.0
        return p_BK

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Checks its input and learns nothing."""
        checked(context_BD, arm_B, payoff_B, propensity_B, self.n_arms)

    def add_arm(self) -> int:
        """One arm more that is never chosen; returns its index."""
        self.n_arms += 1
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; InputError where it is the fixed one."""
        removable(index, self.n_arms)
        if index == self.arm:
            raise InputError(f"arm {index} is the fixed arm and cannot be removed")
        self.n_arms, self.arm = self.n_arms - 1, self.arm - (index < self.arm)

    def state_dict(self) -> State:
        """Kind, number of arms and the arm."""
        return {"kind": np.array("Fixed"), "n_arms": np.array(self.n_arms), "arm": np.array(self.arm)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state is another router's."""
        checks.same_kind(state, "Fixed", 3)
        n_arms = checks.whole("n_arms", int(checks.stored(state, "", "n_arms", np.int64, ())), 1, checks.MAX_ARMS)
        arm = checks.whole("arm", int(checks.stored(state, "", "arm", np.int64, ())), 0, n_arms - 1)
        self.n_arms, self.arm = n_arms, arm


def checked(context_BD: object, arm_B: object, payoff_B: object, propensity_B: object, n_arms: int) -> None:
    """InputError where an update's rows, arms, payoffs or propensities do not fit."""
    rows = len(checks.contexts(context_BD, None))
    checks.arms(arm_B, rows, n_arms)
    checks.payoffs(payoff_B, rows)
    if propensity_B is not None:
        checks.propensities(propensity_B, rows)


def removable(index: int, n_arms: int) -> None:
    """InputError where there is no such arm, or only one."""
    checks.whole("arm", index, 0, n_arms - 1)
    if n_arms == 1:
        raise InputError("the last arm cannot be removed: a router needs at least one")
