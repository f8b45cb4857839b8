"""The routers that do not learn: uniform, fixed order, one arm.

They are the baselines and the fallbacks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.kinds import RouterKind
from reward_router.routers.per_arm import PerArm
from reward_router.routers.sequential import Sequential
from reward_router.types import Float, Int, Router


class Uniform(PerArm):
    """Every arm with probability 1 / K, whatever happens (LASER's baseline "random").

    Args:
        n_arms: K, the number of arms, in [1, 100000].

    >>> Uniform(4).probs(np.zeros((1, 2)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    reads_contexts = False

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        shape_BK = (len(x_BD), self.n_arms)
        return np.full(shape_BK, 1.0 / self.n_arms)


class RoundRobin(PerArm):
    """The arms in a fixed order, one a row (LASER's baseline "sequential").

    The order goes on with every applied payoff. Reads never move the position: rows 0..B-1 of a
    call get the arms after the last one that was updated, and asking again before the payoffs
    arrive gives the same arms.

    Args:
        n_arms: K, the number of arms, in [1, 100000].

    >>> RoundRobin(2).probs(np.zeros((3, 1))).argmax(1)
    array([0, 1, 0])
    """

    reads_contexts = False
    counts = ("updates",)

    def __init__(self, n_arms: int) -> None:
        """K in [1, 100000]."""
        super().__init__(n_arms)
        self.updates = 0

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        n_rows = len(x_BD)
        row_B = np.arange(n_rows)
        # Counted from the payoffs and not from the reads, so that a crash between the two does
        # not skip an arm.
        turn_B = (self.updates + row_B) % self.n_arms
        p_BK = np.zeros((n_rows, self.n_arms))
        p_BK[row_B, turn_B] = 1.0
        return p_BK

    def _learn(
        self, x_BD: NDArray[Any], arm_B: Int, payoff_B: Float, propensity_B: Float | None
    ) -> None:
        self.updates += len(arm_B)


class Fixed(PerArm):
    """Always the same arm: each single reward model as a baseline, and "best RM".

    Args:
        n_arms: K, the number of arms, in [1, 100000].
        arm: index of the arm, in [0, K).

    >>> Fixed(3, 1).probs(np.zeros((1, 1)))
    array([[0., 1., 0.]])
    """

    reads_contexts = False
    counts = ("arm",)

    def __init__(self, n_arms: int, arm: int) -> None:
        """K in [1, 100000] and the arm in [0, K)."""
        super().__init__(n_arms)
        self.arm = checks.whole("arm", arm, 0, self.n_arms - 1)

    def _chosen(self, x_BD: NDArray[Any]) -> Float:
        p_BK = np.zeros((len(x_BD), self.n_arms))
        p_BK[:, self.arm] = 1.0
        return p_BK

    def remove_arm(self, index: int) -> None:
        """Drop an arm; InputError where it is the fixed one, or the last."""
        if index == self.arm and self.n_arms > 1:
            raise InputError(f"arm {index} is the fixed arm and cannot be removed")
        super().remove_arm(index)
        # The arms behind the removed one move up by a place.
        if index < self.arm:
            self.arm -= 1

    def _check_state(self, values: Mapping[str, Any]) -> None:
        checks.whole("arm", values["arm"], 0, values["n_arms"] - 1)


def in_turn(n_arms: int, per: Literal["decision", "iteration"] = "decision") -> Router:
    """The arms in turn; ``per`` says when the turn moves on."""
    return Sequential(n_arms) if per == "iteration" else RoundRobin(n_arms)


def the_arm(arms: Sequence[str], arm: str) -> Fixed:
    """Always the arm of this name."""
    if arm not in arms:
        raise InputError(f"arm={arm!r} is none of the arms {', '.join(arms)}")
    place = list(arms).index(arm)
    return Fixed(len(arms), place)


def _names_an_arm(options: Mapping[str, Any]) -> None:
    if "arm" not in options:
        raise InputError("arm names the one arm of name: fixed, and belongs to it alone")


KINDS = (
    RouterKind("uniform", Uniform, "draws every arm alike often and learns nothing", learns=False),
    RouterKind("round_robin", in_turn, "takes the arms in turn and learns nothing", learns=False),
    RouterKind(
        "fixed",
        the_arm,
        "always takes the one arm that `arm` names",
        learns=False,
        check=_names_an_arm,
    ),
)
