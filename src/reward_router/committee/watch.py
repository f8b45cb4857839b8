"""Do the stream's own later labels still speak for weights of either sign?

This is a one-sided sequential test that may stop at any time.

Each label drawn at random is first judged by both plans, then learned from. With d = right(signed)
- right(safe) in [-1, 1] the wealth of a bettor against the signed plan, prod(1 - bet d), is a
non-negative supermartingale as long as E[d | past] >= 0, whatever was refitted in between. Several
bets are held at once, since nobody knows how much worse the plan might have become, and a new
bettor starts at each refit, since one who lost while the plan was good would need as long to win it
back. The j-th bettor owns 1 / (j (j + 1)) of the wealth, so that all of it is 1 at most, and
reaches 1 / FALSE_ALARM with probability at most FALSE_ALARM over the whole stream (Ville 1939).
"""

from typing import Any

import numpy as np

from reward_router.types import Float

FALSE_ALARM = 0.05
BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7])


class PlanWatch:
    """Wealth of bettors against the signed plan; ``alarm`` once it is 1 / FALSE_ALARM.

    >>> watch = PlanWatch()
    >>> [watch.tell(-1.0) for _ in range(12)][-6:]
    [False, False, False, True, True, True]
    """

    def __init__(self) -> None:
        """The first bettor starts; nothing was bet yet."""
        self.log_wealth_SJ = np.zeros((1, len(BETS)))
        self.labels = 0
        self.largest = 0.0

    @property
    def wealth(self) -> float:
        """What all bettors who have started own together."""
        start_S = np.arange(1, len(self.log_wealth_SJ) + 1)
        # e^300 is alarm enough, and e^710 would overflow
        wealth_SJ = np.exp(np.minimum(self.log_wealth_SJ, 300.0))
        # the bets share a bettor's wealth evenly
        own_S = wealth_SJ.mean(axis=1)

        share_S = 1 / (start_S * (start_S + 1))  # they sum to 1
        return float(own_S @ share_S)

    @property
    def alarm(self) -> bool:
        """Whether the wealth was ever large enough."""
        return self.largest >= 1 / FALSE_ALARM

    def start(self) -> None:
        """One more bettor, from the next label on: the plan was refitted."""
        self.log_wealth_SJ = np.vstack([self.log_wealth_SJ, np.zeros(len(BETS))])

    def tell(self, advantage: float) -> bool:
        """Take one label: ``advantage`` is right(signed) - right(safe), in [-1, 1].

        Returns whether the alarm is on. O(bettors).
        """
        self.log_wealth_SJ = self.log_wealth_SJ + np.log1p(-BETS * advantage)
        self.labels += 1
        # the alarm stays: Ville's bound is on the largest wealth of all times
        self.largest = max(self.largest, self.wealth)
        return self.alarm

    def numbers(self) -> Float:
        """Everything, as numbers."""
        return np.array([self.labels, self.largest, *self.log_wealth_SJ.ravel()])

    def load(self, numbers: Any) -> None:
        """Restore what `numbers` wrote."""
        labels, largest, *log_wealth = np.asarray(numbers, dtype=np.float64).tolist()
        bettors = np.array(log_wealth).reshape(-1, len(BETS))

        self.labels = int(labels)
        self.largest = largest
        self.log_wealth_SJ = bettors
