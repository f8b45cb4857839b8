"""The newest decisions of this writer, as they are in the file.

A payoff that soon follows its decision needs no read.
"""

from collections.abc import Iterable

from reward_router.ledger.rows import Decided, LedgerRow, Paid

KEEP = 512


class Recent:
    """At most ``KEEP`` decisions by id, each with its payoff where it has one.

    The caller holds the ledger's lock.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self._decisions: dict[bytes, tuple[Decided, Paid | None]] = {}
        self._ids: dict[int, bytes] = {}

    def note(self, rows: Iterable[LedgerRow]) -> None:
        """Events that were committed just now; the oldest decisions make room."""
        for row in rows:
            if isinstance(row, Decided):
                self._decisions[row.id] = (row, None)
                self._ids[row.seq] = row.id
            elif isinstance(row, Paid) and row.decision in self._ids:
                key = self._ids[row.decision]
                decided, _ = self._decisions[key]
                self._decisions[key] = (decided, row)

        # a dict keeps the order of insertion: the first is the oldest
        while len(self._ids) > KEEP:
            oldest = next(iter(self._ids))
            del self._decisions[self._ids.pop(oldest)]

    def find(self, ids: Iterable[bytes]) -> dict[bytes, tuple[Decided, Paid | None]]:
        """Those of ``ids`` that are remembered."""
        return {key: self._decisions[key] for key in ids if key in self._decisions}

    def clear(self) -> None:
        """Forget everything: the file may have changed otherwise."""
        self._decisions.clear()
        self._ids.clear()
