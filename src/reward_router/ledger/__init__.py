"""The ledger: the durable, ordered record of all events.

Events are decisions, calls, payoffs, labels, failures and changes of arms.
"""

from reward_router.ledger.protocol import Store
from reward_router.ledger.rows import Call, EventKind, Status
from reward_router.ledger.salvage import CheckReport, check_ledger, export_ledger
from reward_router.ledger.sqlite.store import Ledger

__all__ = [
    "Call",
    "CheckReport",
    "EventKind",
    "Ledger",
    "Status",
    "Store",
    "check_ledger",
    "export_ledger",
]
