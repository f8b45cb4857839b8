"""The ledger: the durable, ordered record of decisions, calls, payoffs, labels, failures and changes of arms."""

from reward_router.ledger.rows import Call
from reward_router.ledger.salvage import CheckReport, check_ledger, export_ledger
from reward_router.ledger.store import Ledger

__all__ = ["Call", "CheckReport", "Ledger", "check_ledger", "export_ledger"]
