"""The ledger in one SQLite file, or in memory. All SQL of the project is in this folder."""

from reward_router.ledger.sqlite.store import Ledger

__all__ = ["Ledger"]
