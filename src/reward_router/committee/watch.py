"""Do the stream's own later labels still speak for weights of either sign? A one-sided sequential test that may stop at any time.

Each label drawn at random is first judged by both plans, then learned from. With d = right(signed) - right(safe) in [-1, 1] the wealth of a
bettor against the signed plan, prod(1 - bet d), is a non-negative supermartingale as long as E[d | past] >= 0, whatever was refitted in
between. So it reaches 1 / FALSE_ALARM with probability at most FALSE_ALARM over the whole stream (Ville 1939). Several bets are
held at once, since nobody knows how much worse the plan might have become.
"""

from typing import Any

import numpy as np

from reward_router.types import Float

FALSE_ALARM = 0.05
BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7])


class Watch:
    """Wealth of a bettor against the signed plan; ``alarm`` once it is 1 / FALSE_ALARM.

    >>> watch = Watch()
    >>> [watch.tell(-1.0) for _ in range(8)][-3:]
    [False, True, True]
    """

    def __init__(self) -> None:
        """Nothing was bet yet."""
        self.log_wealth_J, self.labels = np.zeros(len(BETS)), 0
        self.largest = 1.0

    @property
    def wealth(self) -> float:
        """The mean over the bets."""
        return float(np.exp(np.minimum(self.log_wealth_J, 300.0)).mean())

    @property
    def alarm(self) -> bool:
        """Whether the wealth was ever large enough."""
        return self.largest >= 1 / FALSE_ALARM

    def tell(self, advantage: float) -> bool:
        """One label: right(signed) - right(safe), in [-1, 1]; whether the alarm is on. O(1)."""
        self.log_wealth_J = self.log_wealth_J + np.log1p(-BETS * advantage)
        self.labels += 1
        self.largest = max(self.largest, self.wealth)
        return self.alarm

    def numbers(self) -> Float:
        """Everything, as numbers."""
        return np.array([self.labels, self.largest, *self.log_wealth_J])

    def load(self, numbers: Any) -> None:
        """Restore what `numbers` wrote."""
        labels, largest, *log_wealth_J = np.asarray(numbers, dtype=np.float64).tolist()
        self.labels, self.largest, self.log_wealth_J = int(labels), largest, np.array(log_wealth_J)
