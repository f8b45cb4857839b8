"""The dispatcher: routes units, takes payoffs, writes both to the ledger."""

from reward_router.dispatch.dispatcher import Dispatcher
from reward_router.ledger.breaker import BreakerRule

__all__ = ["BreakerRule", "Dispatcher"]
