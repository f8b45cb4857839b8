"""The tables of a ledger file and the way from an older layout to this one.

| schema | what it has |
|---|---|
| 0 | events, snapshots, abandoned events |
| 1 | a CRC-32 beside every event, the cost of an added arm |
"""

import sqlite3

from reward_router.ledger.rows import COLUMNS, TABLES, seal

APPLICATION_ID = 0x52524C47  # "RRLG"
VERSION = 1

SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE decisions(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, unit TEXT NOT NULL,
  step INTEGER NOT NULL, arm INTEGER NOT NULL, propensity REAL NOT NULL, probs BLOB NOT NULL,
  context BLOB, n_units INTEGER NOT NULL, version INTEGER NOT NULL, forced INTEGER NOT NULL,
  crc INTEGER NOT NULL);
CREATE TABLE calls(seq INTEGER PRIMARY KEY, decision INTEGER, response TEXT NOT NULL,
  arm INTEGER NOT NULL, score REAL, status TEXT NOT NULL, seconds REAL, price REAL,
  crc INTEGER NOT NULL);
CREATE TABLE payoffs(seq INTEGER PRIMARY KEY, decision INTEGER NOT NULL UNIQUE, raw REAL,
  scaled REAL, source TEXT NOT NULL, kind TEXT NOT NULL, batch INTEGER NOT NULL,
  crc INTEGER NOT NULL);
CREATE TABLE releases(seq INTEGER PRIMARY KEY, payoffs BLOB NOT NULL, scaled BLOB NOT NULL,
  crc INTEGER NOT NULL);
CREATE TABLE labels(seq INTEGER PRIMARY KEY, unit TEXT NOT NULL, step INTEGER NOT NULL,
  value REAL NOT NULL, source TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE failures(seq INTEGER PRIMARY KEY, decision INTEGER, arm INTEGER NOT NULL,
  reason TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE changes(seq INTEGER PRIMARY KEY, action TEXT NOT NULL, name TEXT NOT NULL, cost REAL,
  crc INTEGER NOT NULL);
CREATE TABLE snapshots(seq INTEGER PRIMARY KEY, head TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE snapshot_parts(seq INTEGER NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY(seq, part));
CREATE TABLE abandoned(rewind INTEGER NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL,
  event TEXT NOT NULL, reason TEXT NOT NULL);
"""


def create(db: sqlite3.Connection) -> None:
    """Lay out an empty file. The caller holds the transaction."""
    for statement in SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={VERSION}")


def migrate(db: sqlite3.Connection) -> None:
    """Bring an older layout to this one, a version at a time.

    The caller holds the transaction; O(events).
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for step in MIGRATIONS[version:]:
        step(db)
    db.execute(f"PRAGMA user_version={VERSION}")


def _seal_events(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE changes ADD COLUMN cost REAL")
    for kind, table in TABLES.items():
        db.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
        # listed first: a table may not be changed while it is read
        listed = db.execute(f"SELECT seq FROM {table}").fetchall()
        select = f"SELECT {COLUMNS[kind]} FROM {table} WHERE seq=?"
        update = f"UPDATE {table} SET crc=? WHERE seq=?"
        for (seq,) in listed:
            row = db.execute(select, (seq,)).fetchone()
            crc = seal(kind._make(row))
            db.execute(update, (crc, seq))


MIGRATIONS = (_seal_events,)
