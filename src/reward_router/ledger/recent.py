"""The newest decisions of this writer, as they are in the file: a payoff that soon follows its decision reads nothing."""

from collections.abc import Iterable

from reward_router.ledger.rows import Decided, Paid, Row

KEEP = 512


class Recent:
    """At most ``KEEP`` decisions by id, each with its payoff where it has one.

    The caller holds the ledger's lock.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self._found: dict[bytes, tuple[Decided, Paid | None]] = {}
        self._ids: dict[int, bytes] = {}

    def note(self, rows: Iterable[Row]) -> None:
        """Events that were committed just now; the oldest decisions make room."""
        for row in rows:
            if isinstance(row, Decided):
                self._found[row.id] = (row, None)
                self._ids[row.seq] = row.id
            elif isinstance(row, Paid) and row.decision in self._ids:
                key = self._ids[row.decision]
                self._found[key] = (self._found[key][0], row)
        while len(self._ids) > KEEP:
            del self._found[self._ids.pop(next(iter(self._ids)))]

    def find(self, ids: Iterable[bytes]) -> dict[bytes, tuple[Decided, Paid | None]]:
        """Those of ``ids`` that are remembered."""
        return {key: self._found[key] for key in ids if key in self._found}

    def clear(self) -> None:
        """Forget everything: the file may have changed otherwise."""
        self._found.clear()
        self._ids.clear()
