"""Costs in the choice: a fixed weight on each arm's price, and a pacer that holds a budget.

The pacer finds the weight at which the average cost lands on the budget.

utility_k = payoff_k - (cost_weight + lambda) cost_k. The pacer is dual ascent on the budget
constraint (as in ParetoBandit, arXiv:2604.00136): lambda <- clip(lambda + step (cost - budget) /
largest cost, 0, limit) after each applied payoff, so after T payoffs the average cost is at most
budget + largest cost x limit / (step T), whatever the arms' payoffs.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.types import (
    AnyFloat,
    Float,
    Forced,
    Int,
    Penalised,
    Resizable,
    Router,
    State,
    reads_contexts,
)


class ByUtility(Router, Resizable, Protocol):
    """A router that can be priced: LinUCB, DiscountedLinUCB, LinearThompson, Exp3."""

    takes_penalty: bool

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) probabilities where ``penalty_K`` is taken from the arms' utilities."""
        ...


class Priced:
    """A router that pays for its arms, and with a ``budget`` paces what it pays.

    It subtracts (``cost_weight`` + lambda) ``costs_K`` from the utilities; a ``budget`` moves
    lambda. Forced pulls and the uniform floor of the router inside are not priced. O(K) beside the
    router.

    Args:
        router: the router inside; it must choose by utility.
        costs_K: (K,) costs of at least 0 in any unit (calls, seconds, money).
        cost_weight: payoff that one unit of cost must bring, at least 0.
        budget: average cost that a payoff may have, at least the cheapest arm's; None: no limit.
        step: how fast lambda moves, in payoff per largest cost.
        limit: how far lambda moves, in payoff per largest cost.

    >>> from reward_router.routers import LinUCB
    >>> router = Priced(LinUCB(2, 1, warmup=0), np.array([1.0, 0.0]), cost_weight=0.5)
    >>> router.probs(np.ones((1, 1)))
    array([[0., 1.]])
    """

    takes_penalty = True
    takes_forced = True

    def __init__(
        self,
        router: ByUtility,
        costs_K: AnyFloat,
        cost_weight: float = 0.0,
        budget: float | None = None,
        step: float = 0.05,
        limit: float = 10.0,
    ) -> None:
        """InputError where a number is out of range, or where the router cannot be priced.

        A cost may not be negative, and the budget not be under every cost.
        """
        by_utility = isinstance(router, Penalised) and isinstance(router, Forced)
        if isinstance(router, Priced) or not by_utility:
            raise InputError(
                f"{type(router).__name__} does not choose by utility, "
                "so costs cannot enter its choice"
            )

        self.router = router
        self.costs_K = _checked_costs(costs_K, router.n_arms)
        self.cost_weight = checks.real("cost_weight", cost_weight, 0.0, 1e12)
        self.step = checks.real("step", step, 0.0, 1e3, above=True)
        self.limit = checks.real("limit", limit, 0.0, 1e6)
        self.budget = None
        if budget is not None:
            self.budget = checks.real("budget", budget, float(self.costs_K.min()), 1e12)

        self.price = 0.0
        self.spent = 0.0
        self.payoffs = 0

    @property
    def n_arms(self) -> int:
        """Number of arms now."""
        return self.router.n_arms

    @property
    def warmup(self) -> int:
        """Forced pulls of the router inside."""
        return self.router.warmup

    @property
    def reads_contexts(self) -> bool:
        """Whether the router inside learns from contexts."""
        return reads_contexts(self.router)

    @property
    def dim(self) -> int | None:
        """D of the router inside; None where it reads no contexts."""
        return self.router.dim

    def _scale(self) -> float:
        return max(float(self.costs_K.max()), 1e-300)

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) of the router inside at the present price and a further penalty.

        ``forced`` says whether its forced pulls are made.
        """
        weight = self.cost_weight + self.price / self._scale()
        total_K = weight * self.costs_K
        if penalty_K is not None:
            total_K = total_K + penalty_K

        return self.router.probs(context_BD, total_K, forced=forced)

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Let the router learn, then charge each row's arm in order."""
        self.router.update(context_BD, arm_B, payoff_B, propensity_B)
        for arm in np.asarray(arm_B).tolist():
            cost = float(self.costs_K[arm])
            self.spent += cost
            self.payoffs += 1
            if self.budget is not None:
                # lambda <- clip(lambda + step (cost - budget) / largest cost, 0, limit)
                overspent = cost - self.budget
                moved = self.price + self.step * overspent / self._scale()
                self.price = min(max(moved, 0.0), self.limit)

    def add_arm(self, cost: float) -> int:
        """A new arm at this cost; returns its index."""
        checked = checks.real("cost", cost, 0.0, 1e12)
        index = self.router.add_arm()
        self.costs_K = np.append(self.costs_K, checked)
        return index

    def remove_arm(self, index: int) -> None:
        """Drop an arm and its cost."""
        self.router.remove_arm(index)
        self.costs_K = np.delete(self.costs_K, index)

    def state_dict(self) -> State:
        """The router's state, the costs and the pacer's price and account."""
        inner = {f"inner/{name}": value for name, value in self.router.state_dict().items()}
        account = np.array([self.price, self.spent, float(self.payoffs)])
        return {
            "kind": np.array("Priced"),
            "costs_K": self.costs_K.copy(),
            "account": account,
            **inner,
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the state does not fit."""
        checks.same_kind(state, "Priced")
        costs_K = checks.stored(state, "", "costs_K", np.float64, (None,))
        price, spent, payoffs = checks.stored(state, "", "account", np.float64, (3,)).tolist()
        inner = {
            name.removeprefix("inner/"): value
            for name, value in state.items()
            if name.startswith("inner/")
        }
        # its number of arms is known only after loading, so that has to be undone
        before = self.router.state_dict()
        self.router.load_state_dict(inner)

        if len(costs_K) != self.router.n_arms:
            # nothing may have changed where the state does not fit
            self.router.load_state_dict(before)
            raise InputError(
                f"state has {len(costs_K)} costs for a router of {self.router.n_arms} arms"
            )

        self.costs_K = costs_K
        self.price = price
        self.spent = spent
        self.payoffs = int(payoffs)


def _checked_costs(costs_K: AnyFloat, n_arms: int) -> Float:
    cost_K: NDArray[Any] = np.asarray(costs_K)
    if cost_K.shape != (n_arms,) or cost_K.dtype.kind not in "fiu":
        raise InputError(
            f"one cost an arm is needed: {n_arms} arms, got {cost_K.dtype} of shape {cost_K.shape}"
        )
    if not (np.isfinite(cost_K).all() and bool((cost_K.astype(np.float64) >= 0).all())):
        raise InputError("costs must be finite and at least 0")

    return cost_K.astype(np.float64)
