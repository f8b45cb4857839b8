"""The tables of a ledger file and the way from an older layout to this one."""

import sqlite3

APPLICATION_ID = 0x52524C47  # "RRLG"
VERSION = 0

SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE decisions(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, unit TEXT NOT NULL, step INTEGER NOT NULL,
  arm INTEGER NOT NULL, propensity REAL NOT NULL, probs BLOB NOT NULL, context BLOB, n_units INTEGER NOT NULL,
  version INTEGER NOT NULL, forced INTEGER NOT NULL);
CREATE TABLE calls(seq INTEGER PRIMARY KEY, decision INTEGER, response TEXT NOT NULL, arm INTEGER NOT NULL, score REAL,
  status TEXT NOT NULL, seconds REAL, price REAL);
CREATE TABLE payoffs(seq INTEGER PRIMARY KEY, decision INTEGER NOT NULL UNIQUE, raw REAL, scaled REAL, source TEXT NOT NULL,
  kind TEXT NOT NULL, batch INTEGER NOT NULL);
CREATE TABLE releases(seq INTEGER PRIMARY KEY, payoffs BLOB NOT NULL, scaled BLOB NOT NULL);
CREATE TABLE labels(seq INTEGER PRIMARY KEY, unit TEXT NOT NULL, step INTEGER NOT NULL, value REAL NOT NULL, source TEXT NOT NULL);
CREATE TABLE failures(seq INTEGER PRIMARY KEY, decision INTEGER, arm INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE changes(seq INTEGER PRIMARY KEY, action TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE snapshots(seq INTEGER PRIMARY KEY, head TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE snapshot_parts(seq INTEGER NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(seq, part));
CREATE TABLE abandoned(rewind INTEGER NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, event TEXT NOT NULL,
  reason TEXT NOT NULL);
"""


def create(db: sqlite3.Connection) -> None:
    """Lay out an empty file. The caller holds the transaction."""
    for statement in SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={VERSION}")
