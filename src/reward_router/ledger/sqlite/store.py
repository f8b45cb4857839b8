"""The ledger file: the ``Store`` (see ``ledger.protocol``) that keeps its events in SQLite (WAL).

One writer (a second one is refused), any number of readers in any process. Every ``append`` is one
transaction: all of it is there afterwards, or nothing. What this leaves out: what the events mean
(``fold``), saving a damaged file (``salvage``).
"""

import heapq
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import columns
from reward_router.ledger.reading import paged, tally, to_json
from reward_router.ledger.recent import Recent
from reward_router.ledger.rows import COLUMNS, TABLES, Decided, LedgerRow, Paid, seal
from reward_router.ledger.sqlite import opening, snapshots
from reward_router.ledger.sqlite.durability import WalSyncer, take_writer_lock
from reward_router.ledger.sqlite.opening import IN_MEMORY
from reward_router.ledger.sqlite.trouble import advice, explain
from reward_router.strict_json import dumps
from reward_router.types import State

if TYPE_CHECKING:
    from reward_router.ledger.salvage import CheckReport

Durability = Literal["normal", "full"]
StoredContexts = Literal["full", "f32", "none"]
CHUNK = 4096  # events of one read
FIND = 256  # ids of one query
R = TypeVar("R")


class Ledger:
    """An ordered event log in one SQLite file, or in memory (``":memory:"``).

    LedgerError where the file is damaged, not a ledger, newer than this version, or being written
    by someone else.

    Args:
        path: the file, or ``":memory:"``.
        durability: ``full`` loses nothing on a power cut, ``normal`` at most the last few
            milliseconds; neither loses anything acknowledged when the process dies.
        contexts: ``full`` keeps contexts as they came, ``f32`` rounded to float32 before they are
            used, ``none`` a digest only (no fold, no late payoffs after a crash, no context in
            off-policy estimates).
        readonly: whether the file is only read; it is then never created, locked or changed.

    >>> ledger = Ledger(":memory:")
    >>> ledger.last_seq
    0
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "normal",
        contexts: StoredContexts = "full",
        readonly: bool = False,
    ) -> None:
        """Open or create; ``readonly`` never creates, never locks and never changes the file."""
        if durability not in ("normal", "full"):
            raise InputError(f"Ledger: durability={durability!r}; allowed 'normal' or 'full'")
        if contexts not in ("full", "f32", "none"):
            raise InputError(f"Ledger: contexts={contexts!r}; allowed 'full', 'f32' or 'none'")

        self.path = str(path)
        self.durability = durability
        self.contexts = contexts
        self.readonly = readonly
        self.lock = threading.RLock()
        self.generation = 0  # goes up when events are taken back
        self._pid = os.getpid()
        self._tally: Counter[str] | None = None
        self._recent = Recent()
        self._guard: sqlite3.Connection | None = None
        self._syncer: WalSyncer | None = None

        with self._explained(), ExitStack() as undo:
            # whatever fails below, the writer's lock is given back
            undo.callback(self._release)
            self._db = self._open()
            undo.callback(self._db.close)
            self._last = self.reload()
            undo.pop_all()

    # opening --------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self.path == IN_MEMORY:
            return opening.memory()
        if self.readonly:
            return opening.reader(self.path)

        self._guard = take_writer_lock(self.path)
        db = opening.writer(self.path, self.durability)
        if self.durability == "normal":
            self._syncer = WalSyncer(self.path)

        return db

    def _release(self) -> None:
        if self._syncer is not None:
            self._syncer.close()
        if self._guard is not None:
            self._guard.close()

    def close(self) -> None:
        """Close the file and give the writer's place free. Safe to call twice."""
        with self.lock:
            self._db.close()
            self._release()

    def __enter__(self) -> "Ledger":
        """The ledger itself; closed on leaving."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    # writing --------------------------------------------------------------------------------------

    def begin(self, binding: Mapping[str, Any], state: State, head: Mapping[str, Any]) -> None:
        """Keep what the ledger is bound to, and the state before its first event.

        Every fold starts from that state.
        """
        with self.transaction() as db:
            db.execute("INSERT INTO meta VALUES('binding',?)", (json.dumps(dict(binding)),))
            snapshots.write_snapshot(db, self._last, state, head)

    def bind(self, binding: Mapping[str, Any]) -> None:
        """Keep what the ledger is bound to in place of what it was bound to before."""
        with self.transaction() as db:
            db.execute("UPDATE meta SET value=? WHERE key='binding'", (json.dumps(dict(binding)),))

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Write events in one transaction; their ``seq`` continue ``last_seq``.

        LedgerError, and nothing written, otherwise.
        """
        with self.lock:
            if any(row.seq != self._last + 1 + i for i, row in enumerate(rows)):
                first = [row.seq for row in rows[:3]]
                raise LedgerError(
                    f"{self.path}: events {first}... do not continue seq {self._last}"
                )

            with self.transaction() as db:
                groups: dict[type[Any], list[tuple[Any, ...]]] = {}
                for row in rows:
                    # one statement a table
                    groups.setdefault(type(row), []).append((*row, seal(row)))

                for kind, mine in groups.items():
                    marks = ",".join("?" * len(mine[0]))
                    db.executemany(f"INSERT INTO {TABLES[kind]} VALUES({marks})", mine)

            # Only after the transaction: a failed write must not leave a gap in the numbers.
            self._last += len(rows)
            self._recent.note(rows)
            if self._tally is not None:
                self._tally.update(tally(rows))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; sqlite's errors become LedgerErrors that say what to do."""
        if self.readonly:
            raise LedgerError(f"{self.path}: opened for reading only")
        # SQLite's connections do not survive a fork
        if self._pid != os.getpid():
            raise LedgerError(
                f"{self.path}: opened before a fork; a child process opens its own ledger, readonly"
            )
        if self._syncer is not None and self._syncer.error is not None:
            raise LedgerError(
                f"{self.path}: the disk failed to keep what was written ({self._syncer.error})"
            )

        with self.lock, self._explained(), opening.transaction(self._db):
            yield self._db

        if self._syncer is not None:
            self._syncer.mark()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(explain(self.path, error)) from error

    def rewind(self, seq: int, reason: str) -> int:
        """Put every event after ``seq`` aside; the next event is ``seq`` + 1.

        They are kept in ``abandoned`` and never folded; snapshots beyond go. For resuming from a
        checkpoint taken at ``seq``: the run that follows is bit for bit the one that was never
        interrupted. Returns the number of events put aside; LedgerError where ``seq`` is not in
        0..last_seq.
        """
        with self.lock:
            if not 0 <= seq <= self._last:
                raise LedgerError(f"{self.path}: cannot rewind to {seq}; allowed 0 to {self._last}")

            moved = self._last - seq
            with self.transaction() as db:
                # A ledger may be rewound several times: each turn's events stay apart.
                turn = (db.execute("SELECT max(rewind) FROM abandoned").fetchone()[0] or 0) + 1
                for kind, table in TABLES.items():
                    for row in self._rows(kind, "WHERE seq>? ORDER BY seq", (seq,)):
                        db.execute(
                            "INSERT INTO abandoned VALUES(?,?,?,?,?)",
                            (turn, row.seq, table, to_json(row), reason),
                        )

                    db.execute(f"DELETE FROM {table} WHERE seq>?", (seq,))

                snapshots.drop_after(db, seq)

            self._last = seq
            self._tally = None
            self._recent.clear()
            self.generation += 1
            return moved

    def snapshot(self, state: State, head: Mapping[str, Any]) -> None:
        """Keep a state as of ``last_seq`` with a BLAKE2 checksum.

        The first snapshot and the newest three are kept.
        """
        with self.transaction() as db:
            snapshots.write_snapshot(db, self._last, state, head)

    # reading --------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of the newest event, 0 where there is none."""
        return self.reload() if self.readonly else self._last

    def reload(self) -> int:
        """Ask the file for its newest event; needed after a write whose end was not seen."""
        self._recent.clear()
        newest = [
            self.query(f"SELECT max(seq) FROM {table}")[0][0] or 0 for table in TABLES.values()
        ]
        self._last = max(newest)
        return self._last

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of one query, for a look into this file.

        No other store has it, and nothing outside this folder calls it.
        """
        with self.lock, self._explained():
            return self._db.execute(sql, args).fetchall()

    def _rows(self, kind: type[R], where: str, args: Sequence[Any] = ()) -> list[R]:
        """Rows of one table as events, each verified by its checksum."""
        records = self.query(f"SELECT {COLUMNS[kind]}, crc FROM {TABLES[kind]} {where}", args)
        return [self._verified(kind, record) for record in records]

    def _verified(self, kind: type[R], record: Sequence[Any]) -> R:
        """The event in a record that ends in its checksum; LedgerError where that does not hold."""
        make: Any = kind
        row = make._make(record[:-1])
        if seal(row) != record[-1]:
            raise LedgerError(
                f"{self.path}: event {row.seq} was altered ({TABLES[kind]}); {advice(self.path)}"
            )

        return cast(R, row)

    def meta(self, key: str) -> Any:
        """A named JSON value kept beside the events (None where absent)."""
        records = self.query("SELECT value FROM meta WHERE key=?", (key,))
        return json.loads(records[0][0]) if records else None

    def named(self, prefix: str, order: str) -> list[str]:
        """Names of JSON values that begin with ``prefix``, by the number in a field of theirs."""
        sql = (
            "SELECT key FROM meta WHERE substr(key, 1, ?)=? "
            "ORDER BY json_extract(value, '$.' || ?), key"
        )
        return [row[0] for row in self.query(sql, (len(prefix), prefix, order))]

    def remember(self, key: str, value: Any, instead_of: Sequence[str] = ()) -> None:
        """Keep a JSON value by name beside the events, in place of an earlier one and of others."""
        with self.transaction() as db:
            db.executemany("DELETE FROM meta WHERE key=?", [(name,) for name in instead_of])
            db.execute("DELETE FROM meta WHERE key=?", (key,))
            db.execute("INSERT INTO meta VALUES(?,?)", (key, dumps(value)))

    def events(
        self, after: int = 0, types: Iterable[type[Any]] | None = None
    ) -> Iterator[LedgerRow]:
        """Events with seq > ``after`` in order, read in chunks.

        ``types`` of ``ledger.rows``; None: all.
        """
        kinds = list(TABLES) if types is None else list(types)
        streams = [self._stream(kind, after) for kind in kinds]
        return heapq.merge(*streams, key=lambda row: row.seq)

    def _stream(self, kind: type[Any], after: int) -> Iterator[Any]:
        where = f"WHERE seq>? ORDER BY seq LIMIT {CHUNK}"

        def fetch(last: int) -> list[Any]:
            return self._rows(kind, where, (last,))

        for chunk in paged(fetch, lambda row: row.seq, after):
            yield from chunk

    def fields(
        self, kind: type[Any], names: Sequence[str], after: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        """``seq``, then the fields named, of one type of event with seq > ``after``. O(events).

        Checksums are not looked at.
        """
        selected = ", ".join(["seq", *names])
        sql = f"SELECT {selected} FROM {TABLES[kind]} WHERE seq>? ORDER BY seq LIMIT {CHUNK}"
        for chunk in paged(lambda last: self.query(sql, (last,)), _first, after):
            yield from chunk

    def table(self, kind: type[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
        """``seq`` and the fields named of all events of one type, one tuple a field. O(events).

        Checksums are not looked at.
        """
        columns = ["seq", *names]
        records = self.query(f"SELECT {', '.join(columns)} FROM {TABLES[kind]} ORDER BY seq")
        return list(zip(*records, strict=True)) if records else [()] * len(columns)

    def payments(self, after: int = 0) -> Iterator[tuple[Paid, Decided]]:
        """Payoffs with seq > ``after`` in order, each with its decision, read in chunks."""

        def fetch(last: int) -> list[tuple[Paid, Decided]]:
            return self._payments("p.seq>?", (last,))

        for chunk in paged(fetch, lambda both: both[0].seq, after):
            yield from chunk

    def payments_at(self, seqs: Sequence[int]) -> list[tuple[Paid, Decided]]:
        """The payoffs with these numbers in order, each with its decision."""
        payments: list[tuple[Paid, Decided]] = []
        in_order = sorted(seqs)
        for start in range(0, len(in_order), FIND):
            # SQLite limits the number of parameters
            some = in_order[start : start + FIND]
            places = ",".join("?" * len(some))
            payments += self._payments(f"p.seq IN ({places})", some)
        return payments

    def _payments(self, where: str, args: Sequence[Any]) -> list[tuple[Paid, Decided]]:
        n_paid = len(Paid._fields) + 1
        records = self.query(f"{_PAYMENTS} WHERE {where} ORDER BY p.seq LIMIT {CHUNK}", args)
        return [
            (self._verified(Paid, record[:n_paid]), self._verified(Decided, record[n_paid:]))
            for record in records
        ]

    def find(self, ids: Sequence[bytes]) -> dict[bytes, tuple[Decided, Paid | None]]:
        """Decisions by id, each with its payoff where it has one.

        O(log n) an id, O(1) for this writer's newest ones.
        """
        with self.lock, self._explained():
            rows = self._recent.find(ids)
            unknown = [key for key in ids if key not in rows]
            # A record is a decision's columns with its checksum, then its payoff's: empty
            # where there is none.
            n_decided = len(Decided._fields) + 1
            for start in range(0, len(unknown), FIND):
                # SQLite limits the number of parameters
                some = unknown[start : start + FIND]
                places = ",".join("?" * len(some))
                for record in self._db.execute(f"{_FIND} ({places})", some):
                    decided = self._verified(Decided, record[:n_decided])
                    paid = None
                    if record[n_decided] is not None:
                        paid = self._verified(Paid, record[n_decided:])
                    rows[decided.id] = (decided, paid)

        return rows

    def unpaid(self) -> list[str]:
        """Ids of the decisions without a payoff, oldest first. O(decisions)."""
        sql = (
            "SELECT id FROM decisions d "
            "WHERE NOT EXISTS(SELECT 1 FROM payoffs p WHERE p.decision=d.seq) ORDER BY seq"
        )
        return [row[0].hex() for row in self.query(sql)]

    def width(self) -> int | None:
        """D of the contexts recorded; None where there is none, or they are not kept."""
        first = self._rows(Decided, "ORDER BY seq LIMIT 1")
        context = first[0].context_D if first else None
        return None if context is None else len(context)

    def last_snapshot(self) -> tuple[int, dict[str, Any], State] | None:
        """The newest snapshot whose checksum holds: (seq, head, arrays).

        None where there is none.
        """
        with self.lock, self._explained():
            return snapshots.newest(self._db)

    def counts(self) -> dict[str, Any]:
        """Decisions, payoffs, failures, labels, and ``calls`` by status.

        ``saturated`` is the share of raw payoffs that became 0 or 1. The first call reads the
        ledger, the later ones are O(1).
        """
        with self.lock:
            if self._tally is None or self.readonly:
                self._tally = tally(self.events(0, [k for k in TABLES if k is not Decided]))
                self._tally["decisions"] = self.query("SELECT count(*) FROM decisions")[0][0]
            counts = self._tally

        statuses = [key for key in sorted(counts) if key.startswith("calls/")]
        return {
            "decisions": counts["decisions"],
            "payoffs": counts["payoffs"],
            "failures": counts["failures"],
            "labels": counts["labels"],
            "calls": {key.removeprefix("calls/"): counts[key] for key in statuses},
            "saturated": counts["saturated"] / counts["scaled"] if counts["scaled"] else 0.0,
        }

    def check(self) -> "CheckReport":
        """Read the file from end to end; see ``check_ledger``. O(file)."""
        from reward_router.ledger.salvage import check_ledger

        return check_ledger(self.path)

    def export(self, out: str | Path) -> "CheckReport":
        """Save every readable event as .jsonl or .parquet; see ``export_ledger``. O(file)."""
        from reward_router.ledger.salvage import export_ledger

        return export_ledger(self.path, out)

    def decisions(self, *, contexts: bool = True) -> columns.Decisions:
        """Every decision with its payoff as numpy columns. O(decisions)."""
        return columns.decisions(self, contexts=contexts)

    def payoffs(self) -> columns.PayoffColumns:
        """Every payoff as numpy columns. O(payoffs)."""
        return columns.payoff_rows(self)

    def calls(self) -> columns.Calls:
        """Every call as numpy columns. O(calls)."""
        return columns.call_rows(self)

    def labels(self) -> columns.Labels:
        """Every gold label as numpy columns. O(labels)."""
        return columns.labels(self)


def _first(record: tuple[Any, ...]) -> int:
    return cast(int, record[0])


_DECISION = ", ".join(f"d.{name}" for name in (*Decided._fields, "crc"))
_PAYOFF = ", ".join(f"p.{name}" for name in (*Paid._fields, "crc"))
_FIND = (
    f"SELECT {_DECISION}, {_PAYOFF} FROM decisions d "
    "LEFT JOIN payoffs p ON p.decision=d.seq WHERE d.id IN"
)
_PAYMENTS = f"SELECT {_PAYOFF}, {_DECISION} FROM payoffs p JOIN decisions d ON d.seq=p.decision"
