"""The words of the project as types, and the axis letters every array name carries.

| letter | axis |
|---|---|
| B | rows that are routed together: the units of a router; in a ``Batch``, its prompts |
| U | units of a ``Batch``, where B counts its prompts |
| N | responses to one prompt |
| K | arms (reward models) |
| D | features of a context |
| P | preference pairs |
| T | tokens |

``scores_BN`` is therefore one row a prompt, one column a response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
AnyFloat = NDArray[np.float64] | NDArray[np.float32]
Int = NDArray[np.int64]
State = dict[str, NDArray[Any]]
Truncated = Literal["lose", "drop", "keep"]
"""What becomes of a response that the token limit cut.

It loses to every finished one, makes no pair, or counts as any other.
"""


class By(StrEnum):
    """Who decided which arms judge a unit. Only a router's decision has an arm."""

    ROUTER = "router"
    """The router drew one arm from its probabilities, and the payoff teaches it."""
    ENSEMBLE = "ensemble"
    """All arms judge together. Nothing was drawn, and the payoff teaches no router."""
    COMMITTEE = "committee"
    """The committee names the arms one after another. Nothing was drawn by a router."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The receipt of one routed unit: keep its ``id``, the payoff is given to it.

    Where ``by`` is not the router there is no arm. An arm that was removed since keeps its name.

    Args:
        id: 32 hexadecimal digits; the payoff names them.
        unit: the caller's id of what was routed: a prompt, a batch or a pair.
        step: the step it was routed in.
        arm: index into the arms present now; -1 where there is no arm, or it was removed.
        name: the arm's name; empty where there is no arm.
        propensity: the probability that the arm was drawn with; 1 where there is no arm.
        probs_K: (K,) the whole distribution; all zeros where there is no arm.
        version: payoffs that the router had applied when it decided.
        n_units: how many units the decision stands for.
        forced: whether warm-up forced it.
        by: who decided.
    """

    id: str
    unit: str
    step: int
    arm: int
    name: str
    propensity: float
    probs_K: Float = field(repr=False)
    version: int = 0
    n_units: int = 1
    forced: bool = False
    by: By = By.ROUTER


@runtime_checkable
class Router(Protocol):
    """Chooses arms from contexts and learns from payoffs; never sees text.

    The routers of this package are in ``reward_router.routers``. This is all that every router
    needs. What it may have beyond that are `Resizable`, `HasPosterior`, `Penalised`, `Forced` and
    `Costed`; a class that keeps no contexts at all says ``reads_contexts = False`` (see
    `reads_contexts`).
    """

    @property
    def n_arms(self) -> int:
        """K, the number of arms now."""
        ...

    @property
    def dim(self) -> int | None:
        """D, the features of a context; None: contexts of any width will do."""
        ...

    @property
    def warmup(self) -> int:
        """How often a dispatcher decides for every arm before it believes ``probs``; 0: never."""
        ...

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) probabilities, rows sum to 1. Reading never changes state."""
        ...

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Learn from B payoffs in [0, 1], in row order."""
        ...

    def state_dict(self) -> State:
        """Everything learned, as arrays only."""
        ...

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; ValueError (and no change) where the state does not fit."""
        ...


@runtime_checkable
class Resizable(Protocol):
    """A router whose arms may come and go.

    A new arm's index is the last; those behind a removed one move down.
    """

    def add_arm(self) -> int:
        """One arm more, at the end; returns its index."""
        ...

    def remove_arm(self, index: int) -> None:
        """Drop an arm; the others keep what they learned."""
        ...


@runtime_checkable
class Costed(Protocol):
    """A router that knows what a call of each arm costs: a new arm comes with its cost."""

    costs_K: Float

    def add_arm(self, cost: float) -> int:
        """One arm more, at this cost; returns its index."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """A router that tells the expected payoff of each arm, without a bonus for doubt."""

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K)."""
        ...


@runtime_checkable
class Penalised(Protocol):
    """A router that chooses by utility, and can be read with the utilities of some arms lowered.

    It says ``takes_penalty = True``.
    """

    takes_penalty: bool

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None) -> Float:
        """(B, K) probabilities with ``penalty_K`` (payoff units) taken off the arms' utilities."""
        ...


@runtime_checkable
class Forced(Protocol):
    """A router that makes its ``warmup`` pulls by itself, and can be read without them.

    It says ``takes_forced = True``.
    """

    takes_forced: bool

    def probs(self, context_BD: AnyFloat, *, forced: bool = True) -> Float:
        """(B, K) probabilities; with ``forced=False`` they are without forced pulls."""
        ...


def reads_contexts(router: Router) -> bool:
    """Whether a router may learn from contexts.

    Every router may whose class does not say ``reads_contexts = False``. What a class says holds
    for its own ``update``; a subclass with another one says it again, or reads them.
    """
    for kind in type(router).__mro__:
        if "reads_contexts" in vars(kind):
            return bool(router.reads_contexts)  # type: ignore[attr-defined]
        if "update" in vars(kind):
            return True

    return True


@runtime_checkable
class RewardModel(Protocol):
    """An arm: scores responses.

    Higher is better, comparable within this arm only, NaN where it abstains.
    """

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        """B prompts with N responses each -> (B, N) float64."""
        ...
