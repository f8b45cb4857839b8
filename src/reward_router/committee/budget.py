"""Spend a budget exactly: the price of a call moves until the average cost is the budget.

The fit knows what each price costs on average (`cost_L` over `prices_L`). The pacer aims at the
budget less a hair, corrected by what was over- or underspent (repaid over ``horizon`` items) and by
the curve's own bias (an exponential mean). Where even a price of zero costs less than the budget,
asking less is optimal and the pacer does not waste the rest. A debt above .4 % of what the budget
allowed stops all second opinions until it is repaid.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.errors import InputError
from reward_router.types import State

AIM = 0.998  # share of the budget that is aimed at
HORIZON = 40.0  # items over which a debt is repaid
MEMORY_PAIRS = 300.0  # items that the curve's own bias is averaged over
SLACK = 0.004  # debt, as a share of what the budget allowed, that stops all second opinions
SETTLED = 500  # items from which on that share is of what was allowed so far


class PricePacer:
    """Online price for a budget: read ``price``, decide, ``record`` what it cost. O(L) each.

    InputError where the budget is below the cheapest policy's cost, which no price can reach.

    Args:
        budget: cost units an item.
        prices_L: prices of a unit of cost, ascending.
        cost_L: what an item costs on average at each price; made non-increasing.

    >>> pacer = PricePacer(1.5, [0.0, 0.01, 0.1], [3.0, 1.6, 1.0])
    >>> 0.01 < pacer.price < 0.1
    True
    >>> before = pacer.price
    >>> pacer.record(3.0)
    >>> pacer.price > before
    True
    """

    def __init__(self, budget: float, prices_L: ArrayLike, cost_L: ArrayLike) -> None:
        """Check the curve and start at the price that should cost the budget."""
        self.prices_L = np.asarray(prices_L, dtype=np.float64)
        # a higher price cannot cost more; a fit from few rows may say so
        self.cost_L = np.minimum.accumulate(np.asarray(cost_L, dtype=np.float64))
        shapes_fit = self.prices_L.shape == self.cost_L.shape and self.prices_L.size >= 2
        if not shapes_fit or (np.diff(self.prices_L) <= 0).any():
            raise InputError(
                "prices must ascend and cost must have one value a price, at least two"
            )
        if not budget >= self.cost_L[-1] * (1 - 1e-9):
            raise InputError(
                f"a budget of {budget} an item is below {self.cost_L[-1]:.4g}, "
                "what the first arm alone costs"
            )

        self.budget = float(budget)
        self.items = 0
        self.spent = 0.0
        self.bias = 0.0

    @property
    def average(self) -> float:
        """Cost an item so far; 0 before the first."""
        return self.spent / self.items if self.items else 0.0

    @property
    def price(self) -> float:
        """The price for the next item."""
        aim = AIM * self.budget
        # Above 0 where more was spent than aimed at.
        debt = self.spent - aim * self.items
        # a debt this large is repaid at once, by the highest price
        allowed = SLACK * self.budget * max(self.items, SETTLED)
        if debt > allowed:
            return float(self.prices_L[-1])

        return self._price_of(aim - self.bias - debt / HORIZON)

    def record(self, cost: float) -> None:
        """Count one item that was decided at `price` and cost ``cost``."""
        expected = float(np.interp(self.price, self.prices_L, self.cost_L))
        surprise = cost - expected
        # an exponential mean that starts as an ordinary one
        rows = min(self.items + 10.0, MEMORY_PAIRS)
        self.bias += (surprise - self.bias) / rows

        self.items += 1
        self.spent += float(cost)

    def _price_of(self, target: float) -> float:
        # -cost ascends, as np.interp needs it
        places = np.arange(len(self.cost_L))
        place = float(np.interp(-target, -self.cost_L, places))
        # The last place has no right neighbour to go towards: it is read from the one before.
        low = min(int(place), len(self.prices_L) - 2)

        price = self.prices_L[low]
        width = self.prices_L[low + 1] - price
        share = place - low
        return float(price + width * share)

    def state_dict(self) -> State:
        """What was spent, as arrays; the curve belongs to the fit."""
        return {
            "items": np.array(self.items),
            "spent": np.array(self.spent),
            "bias": np.array(self.bias),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        items = int(state["items"])
        spent = float(state["spent"])
        bias = float(state["bias"])
        self.items = items
        self.spent = spent
        self.bias = bias
