"""Reads whatever is still readable of a ledger file, whole or damaged, and says what was lost.

The file is opened for reading only and never written. Where a page is gone, the events on it are
lost and the search goes on behind it page by page (``pages``).
"""

import json
import sqlite3
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from reward_router.errors import InputError, LedgerError
from reward_router.ledger.reading import OutOfOrder, paged
from reward_router.ledger.rows import TABLES, Changed, LedgerRow, seal
from reward_router.ledger.sqlite import pages, schema, snapshots

CHUNK = 4096
FILE_ERRORS = (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError, OutOfOrder)


class Reader:
    """Everything readable of a ledger file, whole or not; ``lost`` says what was not."""

    def __init__(self, path: str | Path) -> None:
        """Open for reading only; InputError where there is no such file."""
        self.path = str(path)
        self.lost = list[str]()
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; give the path of a ledger")

        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
        # reads a file that is shorter than its header says; nothing is written
        self._db.execute("PRAGMA writable_schema=ON")
        self.version = self._version()

    def _version(self) -> int | None:
        try:
            if self._db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
                raise LedgerError(f"{self.path}: not a ledger")
            return int(self._db.execute("PRAGMA user_version").fetchone()[0])
        except FILE_ERRORS as error:
            self.lost.append(f"the file's head is unreadable ({error})")
            return None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def integrity(self) -> list[str]:
        """What SQLite's own check finds, at most 20 lines."""
        try:
            lines = [row[0] for row in self._db.execute("PRAGMA integrity_check(20)").fetchall()]
        except FILE_ERRORS as error:
            return [f"SQLite: {error}"]
        return [] if lines == ["ok"] else [f"SQLite: {line}" for line in lines]

    def events(self, kind: type[Any]) -> Iterator[LedgerRow]:
        """The readable events of one table in order."""
        table = TABLES[kind]
        last = 0
        try:
            for row in self._table(kind) if self.version is not None else ():
                last = row.seq
                yield row
        except FILE_ERRORS as error:
            self.lost.append(f"{table}: unreadable after event {last} ({error})")
        else:
            if self.version is not None:
                return

        # SQLite gave up: what lies behind is read from the pages themselves
        for row in pages.events_in_pages(self.path, kind):
            if row.seq > last:
                yield row

    def _table(self, kind: type[Any]) -> Iterator[LedgerRow]:
        described = self._db.execute(f"PRAGMA table_info({TABLES[kind]})").fetchall()
        there = [column[1] for column in described]
        fields = [name for name in kind._fields if name in there]
        sealed = "crc" in there
        columns = ", ".join(fields + ["crc"] * sealed)
        sql = f"SELECT {columns} FROM {TABLES[kind]} WHERE seq>? ORDER BY seq LIMIT {CHUNK}"

        def fetch(after: int) -> list[Any]:
            return self._db.execute(sql, (after,)).fetchall()

        for chunk in paged(fetch, itemgetter(0), 0):
            for values in chunk:
                row: LedgerRow = kind(*values[: len(fields)])
                if sealed and seal(row) != values[-1]:
                    self.lost.append(
                        f"{TABLES[kind]}: event {row.seq} was altered (its checksum does not hold)"
                    )
                else:
                    yield row

    def names(self) -> list[str]:
        """Every arm's name by number, as far as readable."""
        try:
            binding = self._db.execute("SELECT value FROM meta WHERE key='binding'").fetchone()
        except FILE_ERRORS:
            binding = None

        names: list[str] = json.loads(binding[0])["arms"] if binding else []
        for row in self.events(Changed):
            if isinstance(row, Changed) and row.action == "arm_added" and row.name not in names:
                names.append(row.name)

        return names

    def snapshots(self) -> tuple[int, list[str]]:
        """How many snapshots are whole, and what is wrong with the others."""
        whole = 0
        wrong = []
        try:
            sql = "SELECT seq, head, digest FROM snapshots ORDER BY seq"
            for seq, text, check in self._db.execute(sql).fetchall():
                if snapshots.read_snapshot(self._db, seq, text, check) is None:
                    wrong.append(
                        f"snapshot at event {seq}: its checksum does not hold "
                        "(an older one is used)"
                    )
                else:
                    whole += 1
        except FILE_ERRORS as error:
            wrong.append(f"snapshots: unreadable ({error})")

        return whole, wrong
