"""The dispatcher: routes units, takes payoffs, writes both to the ledger."""

from reward_router.dispatch.dispatcher import Dispatcher

__all__ = ["Dispatcher"]
