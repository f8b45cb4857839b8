"""Routers: they turn contexts into a distribution over arms and learn from payoffs.

One protocol (``reward_router.types.Router``): ``probs``, ``update``, ``state_dict``, ``load_state_dict``; the linear ones add
``posterior``, the learning ones take ``penalty_K`` (see ``Priced``). ``choose`` draws the arm from exactly the returned numbers.
"""

from reward_router.routers.adaptive import Adaptive
from reward_router.routers.choose import choose
from reward_router.routers.cost import Priced
from reward_router.routers.exp3 import Exp3
from reward_router.routers.linucb import DiscountedLinUCB, LinUCB
from reward_router.routers.sequential import Sequential
from reward_router.routers.simple import Fixed, RoundRobin, Uniform
from reward_router.routers.thompson import LinearThompson
from reward_router.routers.win_probability import win_probability

__all__ = [
    "Adaptive",
    "DiscountedLinUCB",
    "Exp3",
    "Fixed",
    "LinUCB",
    "LinearThompson",
    "Priced",
    "RoundRobin",
    "Sequential",
    "Uniform",
    "choose",
    "win_probability",
]
