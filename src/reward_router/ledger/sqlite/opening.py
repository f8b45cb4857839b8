"""Connections to a ledger file.

One is for writing a new or known file, one for reading without any change, one lies in memory.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from reward_router.errors import LedgerError
from reward_router.ledger.sqlite import schema

IN_MEMORY = ":memory:"


def memory() -> sqlite3.Connection:
    """An empty ledger that dies with its connection."""
    db = sqlite3.connect(IN_MEMORY, isolation_level=None, check_same_thread=False)
    schema.create(db)
    return db


def writer(path: str, durability: str) -> sqlite3.Connection:
    """Open or create for writing, an older layout brought up; the writer's lock is the caller's."""
    db = _connect(path, "rwc")
    with _closed_on_error(db):
        db.execute("PRAGMA page_size=8192")  # of a new file; two contexts of 384 numbers fill it
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={durability.upper()}")
        db.execute("PRAGMA wal_autocheckpoint=4000")

        if _is_empty(db):
            with transaction(db):
                schema.create(db)
        elif _version(path, db) < schema.VERSION:
            with transaction(db):
                schema.migrate(db)

    return db


def reader(path: str) -> sqlite3.Connection:
    """Open for reading only; an older layout is brought up in a copy in memory.

    LedgerError where there is no ledger.
    """
    if not Path(path).is_file():
        raise LedgerError(f"{path}: no such ledger")

    db = _connect(path, "ro")
    with _closed_on_error(db):
        if _is_empty(db):
            raise LedgerError(f"{path}: an empty file, not a ledger")
        if _version(path, db) == schema.VERSION:
            return db

        # a reader must not change the file, not even to bring it up to date
        copy = sqlite3.connect(IN_MEMORY, isolation_level=None, check_same_thread=False)
        db.backup(copy)
        schema.migrate(copy)

    db.close()
    return copy


def _connect(path: str, mode: str) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0
    )


def _version(path: str, db: sqlite3.Connection) -> int:
    if db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        raise LedgerError(f"{path}: a SQLite file, but not a ledger")

    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > schema.VERSION:
        raise LedgerError(
            f"{path}: schema {version}, this program knows up to {schema.VERSION}; use a newer one"
        )

    return version


def _is_empty(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            with suppress(sqlite3.Error):  # the error that led here is the one to report
                db.execute("ROLLBACK")


@contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    with ExitStack() as undo:
        undo.callback(db.close)
        yield
        undo.pop_all()
