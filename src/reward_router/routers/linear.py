"""What LinUCB and LinearThompson have in common.

That is a ``LinearModel``, forced pulls, a floor, a guard, arms that come and go, and states.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reward_router import checks
from reward_router.posterior.model import LinearModel
from reward_router.posterior.model_state import loaded, state_of
from reward_router.posterior.options import ModelOptions, checked_dtype, checked_prior
from reward_router.routers.decide import forced_K, with_floor
from reward_router.routers.guard import Guard, checked_decision_margin, within_margin
from reward_router.types import AnyFloat, Float, Int, State


def linear_model(
    shape: tuple[int, int],
    prior_mean: AnyFloat | None,
    precision: float,
    noise: tuple[float, float],
    dtype: DTypeLike,
    options: ModelOptions,
) -> LinearModel:
    """The checked model of ``shape`` (arms, features).

    ``noise`` holds the variance that enters the precision, and the sd of a payoff in the evidence.
    """
    n_arms = checks.whole("n_arms", shape[0], 1, checks.MAX_ARMS)
    dim = checks.whole("dim", shape[1], 1, checks.MAX_DIM)
    prior_KD = checked_prior(prior_mean, n_arms, dim, options.intercept)
    variance, payoff_sd = noise
    number_type = checked_dtype(dtype)
    return LinearModel(prior_KD, precision, variance, payoff_sd, number_type, options)


def guard_of(
    model: LinearModel, safe: int | None, margin: float, decision_margin: float | None
) -> Guard | None:
    """The guard of a model's arms; None where no arm is safe.

    A margin a decision alone leaves the sum of all rounds free.
    """
    if safe is None:
        return None
    alone = decision_margin is not None and margin == 0
    return Guard(safe, None if alone else margin, model.n_arms, model.width)


class LinearRouter(ABC):
    """A router over a ``LinearModel``.

    A subclass says in ``_decided`` what it makes of the posterior, and names its states ``kind``.
    """

    kind: str
    takes_penalty = True
    takes_forced = True

    def __init__(
        self,
        model: LinearModel,
        explore: float,
        warmup: int,
        guard: Guard | None,
        decision_margin: float | None,
    ) -> None:
        """InputError names the argument that is out of range."""
        self.model = model
        self.explore = checks.real("explore", explore, 0.0, 1.0)
        self.warmup = checks.whole("warmup", warmup, 0, 10**6)
        self.guard = guard
        self.decision_margin = checked_decision_margin(decision_margin)

    @property
    def n_arms(self) -> int:
        """Number of arms now."""
        return self.model.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.model.dim

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) probabilities; rows sum to 1.

        ``penalty_K`` (payoff units) is subtracted from the arms' utilities. ``forced=False`` leaves
        the forced pulls to the caller (a ``Dispatcher`` counts them by decisions).
        """
        x_BD = self.model.contexts(context_BD)
        if penalty_K is None:
            penalty_K = np.zeros(self.n_arms)
        first_K = None
        if forced and self.warmup:
            first_K = forced_K(self.model.pulls_K, self.warmup)

        if first_K is not None:
            p_BK = np.tile(first_K, (len(x_BD), 1))
        else:
            p_BK = self._decided(x_BD, penalty_K)

        p_BK = with_floor(p_BK, self.explore)
        if self.guard is not None:
            p_BK = self.guard.restrict(p_BK, x_BD, self.model)
        if self.decision_margin is None:
            return p_BK

        mean_BK, _ = self.model.moments(x_BD)
        # after the guard: a share that goes to the safe arm cannot break its bound
        safe = None if self.guard is None else self.guard.safe
        return within_margin(p_BK, mean_BK - penalty_K, self.decision_margin, safe)

    @abstractmethod
    def _decided(self, x_BD: NDArray[Any], penalty_K: Float) -> Float:
        """(B, K) probabilities at checked rows, before the floor and the guard."""

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of x'theta.

        sd = sqrt(x'L^-1 x) with L the precision; LinUCB's alpha is no part of it.
        """
        return self.model.moments(self.model.contexts(context_BD))

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Learn B rows in order; propensities are checked and not needed.

        Nothing is learned where anything is wrong.
        """
        rows = self.model.update(context_BD, arm_B, payoff_B, propensity_B)
        if self.guard is not None:
            self.guard.note(*rows)

    def add_arm(self, prior_mean_D: AnyFloat | None = None) -> int:
        """A new arm at its prior (zero by default), pulled ``warmup`` times first.

        Returns its index.
        """
        options = self.model.options
        prior_1D = None if prior_mean_D is None else [prior_mean_D]
        [checked_C] = checked_prior(prior_1D, 1, self.model.dim, options.intercept)
        return self.model.add_arm(checked_C)

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move down by one and keep what they learned bit for bit."""
        if self.guard is not None:
            self.guard.check_removal(index)
        self.model.remove_arm(index)
        if self.guard is not None:
            self.guard.removed(index)

    def state_dict(self) -> State:
        """Everything learned, arrays only; goes on bit for bit when restored."""
        # the guard's sums are part of what was learned
        guard = {} if self.guard is None else self.guard.state()
        return {"kind": np.array(self.kind), **state_of(self.model), **guard}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state does not fit.

        It fits a router of the same kind, features, dtype and options.
        """
        checks.same_kind(state, self.kind)
        # both parts are read before either is replaced
        model = loaded(self.model, state)
        if self.guard is not None:
            self.guard = self.guard.loaded(state, model.n_arms)
        self.model = model
