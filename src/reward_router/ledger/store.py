"""The ledger file: an ordered, append-only event log in SQLite (WAL), with verified snapshots.

One writer (a second one is refused), any number of readers in any process. Every ``append`` is one transaction: all of it is
there afterwards, or nothing. What this leaves out: what the events mean (``fold``), saving a damaged file (``salvage``).
"""

import heapq
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import columns, schema, snapshots
from reward_router.ledger.rows import TABLES, Decided, Paid, Row
from reward_router.types import State

Durability = Literal["normal", "full"]
Contexts = Literal["full", "f32", "none"]
CHUNK = 4096
R = TypeVar("R")


class Ledger:
    """An ordered event log in one SQLite file, or in memory (``":memory:"``).

    ``durability``: ``full`` loses nothing on a power cut, ``normal`` at most the last few milliseconds; neither loses anything
    acknowledged when the process dies. ``contexts``: ``full`` keeps contexts as they came, ``f32`` rounded to float32 before
    they are used, ``none`` a digest only (no fold, no late payoffs after a crash, no context in off-policy estimates).
    LedgerError where the file is damaged, not a ledger, newer than this version, or being written by another process.

    >>> ledger = Ledger(":memory:")
    >>> ledger.last_seq
    0
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "normal",
        contexts: Contexts = "full",
        readonly: bool = False,
    ) -> None:
        """Open or create; ``readonly`` never creates and never locks."""
        if durability not in ("normal", "full"):
            raise InputError(f"Ledger: durability={durability!r}; allowed 'normal' or 'full'")
        if contexts not in ("full", "f32", "none"):
            raise InputError(f"Ledger: contexts={contexts!r}; allowed 'full', 'f32' or 'none'")
        self.path, self.durability, self.contexts, self.readonly = str(path), durability, contexts, readonly
        self.lock = threading.RLock()
        self.generation = 0
        self._writer_lock: sqlite3.Connection | None = None
        with self._clear():
            self._db = self._open()
            self.last_seq = self._find_last()

    # opening -----------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self.readonly and not Path(self.path).is_file():
            raise LedgerError(f"{self.path}: no such ledger")
        if self.path != ":memory:" and not self.readonly:
            self._writer_lock = _take_writer_lock(self.path)
        target = self.path if self.path == ":memory:" else Path(self.path).absolute().as_uri()
        db = sqlite3.connect(
            f"{target}?mode={'ro' if self.readonly else 'rwc'}" if self.path != ":memory:" else target,
            uri=self.path != ":memory:",
            isolation_level=None,
            check_same_thread=False,
            timeout=30.0,
        )
        empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not self.readonly:
            self._prepare(db, empty)
        elif empty:
            raise LedgerError(f"{self.path}: an empty file, not a ledger")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
            raise LedgerError(f"{self.path}: a SQLite file, but not a ledger")
        if version > schema.VERSION:
            raise LedgerError(
                f"{self.path}: schema {version}, this program reads up to {schema.VERSION}; use a newer one"
            )
        return db

    def _prepare(self, db: sqlite3.Connection, empty: bool) -> None:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={self.durability.upper()}")
        db.execute("PRAGMA wal_autocheckpoint=4000")
        if empty:
            db.execute("BEGIN IMMEDIATE")
            schema.create(db)
            db.execute("COMMIT")

    def _find_last(self) -> int:
        return max(self._db.execute(f"SELECT max(seq) FROM {t}").fetchone()[0] or 0 for t in TABLES.values())

    def close(self) -> None:
        """Close the file and give the writer's place free. Safe to call twice."""
        with self.lock:
            self._db.close()
            if self._writer_lock is not None:
                self._writer_lock.close()

    def __enter__(self) -> "Ledger":
        """The ledger itself; closed on leaving."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    # writing -----------------------------------------------------------------------------------------------------------

    def append(self, rows: Sequence[Row]) -> None:
        """Write events in one transaction; their ``seq`` continue ``last_seq``. LedgerError, and nothing written, otherwise."""
        with self.lock:
            if [row.seq for row in rows] != list(range(self.last_seq + 1, self.last_seq + 1 + len(rows))):
                raise LedgerError(
                    f"{self.path}: events {[r.seq for r in rows[:3]]}... do not continue seq {self.last_seq}"
                )
            with self.transaction() as db:
                for kind, table in TABLES.items():
                    mine = [row for row in rows if type(row) is kind]
                    if mine:
                        db.executemany(f"INSERT INTO {table} VALUES({','.join('?' * len(mine[0]))})", mine)
            self.last_seq += len(rows)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; sqlite's errors become LedgerErrors that say what to do."""
        if self.readonly:
            raise LedgerError(f"{self.path}: opened for reading only")
        with self.lock, self._clear():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _clear(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise LedgerError(explain(self.path, error)) from error

    def meta(self, key: str) -> Any:
        """A named JSON value kept beside the events (None where absent)."""
        with self.lock, self._clear():
            row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a JSON value beside the events."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, json.dumps(value)))

    def rewind(self, seq: int, reason: str) -> int:
        """Put every event after ``seq`` aside (kept in ``abandoned``, never folded); the next event is ``seq`` + 1.

        For resuming from a checkpoint taken at ``seq``: the run that follows is bit for bit the one that was never interrupted.
        Snapshots beyond go. Returns the number of events put aside; LedgerError where ``seq`` is not in 0..last_seq.
        """
        with self.lock:
            if not 0 <= seq <= self.last_seq:
                raise LedgerError(f"{self.path}: cannot rewind to {seq}; allowed 0 to {self.last_seq}")
            moved = self.last_seq - seq
            with self.transaction() as db:
                turn = (db.execute("SELECT max(rewind) FROM abandoned").fetchone()[0] or 0) + 1
                for kind, table in TABLES.items():
                    rows = map(
                        kind._make, db.execute(f"SELECT * FROM {table} WHERE seq>? ORDER BY seq", (seq,)).fetchall()
                    )
                    put = [(turn, r.seq, table, to_json(r), reason) for r in rows]
                    db.executemany("INSERT INTO abandoned VALUES(?,?,?,?,?)", put)
                    db.execute(f"DELETE FROM {table} WHERE seq>?", (seq,))
                db.execute("DELETE FROM snapshots WHERE seq>?", (seq,))
                db.execute("DELETE FROM snapshot_parts WHERE seq>?", (seq,))
            self.last_seq = seq
            self.generation += 1
            return moved

    # reading -----------------------------------------------------------------------------------------------------------

    def rows(self, kind: type[R], sql: str, args: Sequence[Any] = ()) -> list[R]:
        """Rows of one query as tuples of ``kind``."""
        with self.lock, self._clear():
            return [kind._make(r) for r in self._db.execute(sql, args).fetchall()]  # type: ignore[attr-defined]

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of one query."""
        with self.lock, self._clear():
            return self._db.execute(sql, args).fetchall()

    def events(self, after: int = 0, types: Iterable[type[Any]] | None = None) -> Iterator[Row]:
        """Events with seq > ``after`` in order, read in chunks; ``types`` of ``ledger.rows`` (None: all)."""
        kinds = list(TABLES) if types is None else list(types)
        yield from heapq.merge(*(self._stream(kind, after) for kind in kinds), key=lambda row: row.seq)

    def _stream(self, kind: type[Any], after: int) -> Iterator[Any]:
        while True:
            sql = f"SELECT * FROM {TABLES[kind]} WHERE seq>? ORDER BY seq LIMIT {CHUNK}"
            chunk = self.rows(kind, sql, (after,))
            yield from chunk
            if len(chunk) < CHUNK:
                return
            after = chunk[-1].seq

    def find(self, ids: Sequence[bytes]) -> dict[bytes, tuple[Decided, Paid | None]]:
        """Decisions by id, each with its payoff where it has one. O(log n) an id."""
        found: dict[bytes, tuple[Decided, Paid | None]] = {}
        sql = "SELECT d.*, p.* FROM decisions d LEFT JOIN payoffs p ON p.decision=d.seq WHERE d.id=?"
        n = len(Decided._fields)
        with self.lock, self._clear():
            for each in dict.fromkeys(ids):
                row = self._db.execute(sql, (each,)).fetchone()
                if row is not None:
                    found[each] = (Decided._make(row[:n]), Paid._make(row[n:]) if row[n] is not None else None)
        return found

    def counts(self) -> dict[str, Any]:
        """Decisions, payoffs, calls by status, failures, labels, and the share of payoffs saturated at 0 or 1. O(events)."""
        one = {t: self.query(f"SELECT count(*) FROM {t}")[0][0] for t in ("decisions", "payoffs", "failures", "labels")}
        calls = dict(self.query("SELECT status, count(*) FROM calls GROUP BY status"))
        paid = columns.payoffs(self).scaled
        done = paid[~np.isnan(paid)]
        share = float(np.mean((done == 0.0) | (done == 1.0))) if done.size else 0.0
        return {**one, "calls": calls, "saturated": share}

    def decisions(self, *, contexts: bool = True) -> columns.Decisions:
        """Every decision with its payoff as numpy columns. O(decisions)."""
        return columns.decisions(self, contexts=contexts)

    def payoffs(self) -> columns.Payoffs:
        """Every payoff as numpy columns."""
        return columns.payoffs(self)

    def calls(self) -> columns.Calls:
        """Every call as numpy columns."""
        return columns.calls(self)

    def labels(self) -> columns.Labels:
        """Every gold label as numpy columns."""
        return columns.labels(self)

    # snapshots ---------------------------------------------------------------------------------------------------------

    def snapshot(self, state: State, head: Mapping[str, Any]) -> None:
        """Keep a state as of ``last_seq`` with a BLAKE2 checksum; the first and the newest three are kept."""
        with self.transaction() as db:
            snapshots.write(db, self.last_seq, state, head)

    def last_snapshot(self) -> tuple[int, dict[str, Any], State] | None:
        """The newest snapshot whose checksum holds: (seq, head, arrays). None where there is none."""
        with self.lock, self._clear():
            return snapshots.newest(self._db)


def to_json(row: Row) -> str:
    """A row as JSON, bytes as hexadecimal; floats round-trip exactly."""
    return json.dumps({k: v.hex() if isinstance(v, bytes) else v for k, v in row._asdict().items()})


def explain(path: str, error: sqlite3.DatabaseError) -> str:
    """What an SQLite error means for a ledger, and what to do."""
    text = str(error)
    if "full" in text:
        return f"{path}: disk full ({text}); nothing of this event was written, free some space and try again"
    if "locked" in text:
        return f"{path}: locked by another process ({text})"
    if "malformed" in text or "not a database" in text or "disk image" in text:
        save = f"`reward-router ledger check {path}` shows the damage, `reward-router ledger export {path} OUT` saves what is readable"
        return f"{path}: damaged ({text}); {save}"
    return f"{path}: {text}"


def _take_writer_lock(path: str) -> sqlite3.Connection:
    # a lock the system drops with the process, on every platform SQLite runs on
    lock = sqlite3.connect(path + ".lock", isolation_level=None, check_same_thread=False, timeout=0.0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        raise LedgerError(
            f"{path}: another process (or Ledger) is writing it; open it readonly, or stop that one first"
        ) from None
    return lock
