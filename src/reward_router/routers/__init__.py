"""Routers: they turn contexts into a distribution over arms and learn from payoffs.

One protocol (``reward_router.types.Router``); what a router can do beyond it are protocols too
(``Resizable``, ``HasPosterior``, ``Penalised``, ``Forced``). ``choose`` draws the arm from exactly
the returned numbers. A file that ends with ``KIND = RouterKind(...)`` gives a router a name in
configurations; see CONTRIBUTING.md.
"""

from reward_router.posterior.win_probability import win_probability
from reward_router.routers.adaptive import Adaptive
from reward_router.routers.choose import choose
from reward_router.routers.cost import Priced
from reward_router.routers.epsilon_greedy import EpsilonGreedy
from reward_router.routers.exp3 import Exp3
from reward_router.routers.linucb import DiscountedLinUCB, LinUCB
from reward_router.routers.per_arm import PerArm
from reward_router.routers.sequential import Sequential
from reward_router.routers.simple import Fixed, RoundRobin, Uniform
from reward_router.routers.thompson import LinearThompson

__all__ = [
    "Adaptive",
    "DiscountedLinUCB",
    "EpsilonGreedy",
    "Exp3",
    "Fixed",
    "LinUCB",
    "LinearThompson",
    "PerArm",
    "Priced",
    "RoundRobin",
    "Sequential",
    "Uniform",
    "choose",
    "win_probability",
]
