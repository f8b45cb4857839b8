"""Verified snapshots: arrays as bytes in parts below SQLite's limit, under one BLAKE2 digest."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

from reward_router.errors import LedgerError
from reward_router.types import State

PART = 1 << 26  # bytes of a part
KEEP = 3  # newest snapshots that are kept, beside the first


def write_snapshot(db: sqlite3.Connection, seq: int, state: State, head: Mapping[str, Any]) -> None:
    """Put the state in the file as of ``seq``; drops all but the first and the newest three.

    O(bytes).
    """
    arrays = {name: np.ascontiguousarray(a) for name, a in state.items()}
    for name, a in arrays.items():
        # an object array would need a pickle
        if a.dtype.kind not in "fiubU":
            raise LedgerError(
                f"snapshot: {name} has dtype {a.dtype}; allowed plain numbers and booleans"
            )

    layout = [
        [name, a.dtype.str, list(np.shape(state[name])), a.nbytes] for name, a in arrays.items()
    ]
    text = json.dumps({"head": dict(head), "layout": layout})
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    # a snapshot of the same event is replaced
    _drop(db, [seq])
    part = 0

    for a in arrays.values():
        data = a.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), PART):
            piece = data[start : start + PART]
            digest.update(piece)
            db.execute("INSERT INTO snapshot_parts VALUES(?,?,?)", (seq, part, piece))
            part += 1

    db.execute("INSERT INTO snapshots VALUES(?,?,?)", (seq, text, digest.digest()))
    kept = _seqs(db, "SELECT seq FROM snapshots ORDER BY seq")
    _drop(db, kept[1:-KEEP])


def _seqs(db: sqlite3.Connection, sql: str, args: tuple[int, ...] = ()) -> list[int]:
    return [row[0] for row in db.execute(sql, args).fetchall()]


def _drop(db: sqlite3.Connection, seqs: list[int]) -> None:
    for seq in seqs:
        db.execute("DELETE FROM snapshots WHERE seq=?", (seq,))
        db.execute("DELETE FROM snapshot_parts WHERE seq=?", (seq,))


def drop_after(db: sqlite3.Connection, seq: int) -> None:
    """Drop the snapshots beyond ``seq``."""
    _drop(db, _seqs(db, "SELECT seq FROM snapshots WHERE seq>?", (seq,)))


def newest(db: sqlite3.Connection) -> tuple[int, dict[str, Any], State] | None:
    """The newest snapshot whose digest holds, or None."""
    sql = "SELECT seq, head, digest FROM snapshots ORDER BY seq DESC"
    for seq, text, digest in db.execute(sql).fetchall():
        data = read_snapshot(db, seq, text, digest)
        if data is not None:
            return seq, json.loads(text)["head"], data
    return None


def read_snapshot(db: sqlite3.Connection, seq: int, text: str, digest: bytes) -> State | None:
    """The arrays of one snapshot; None where the digest does not hold."""
    check = hashlib.blake2b(text.encode(), digest_size=16)
    sql = "SELECT data FROM snapshot_parts WHERE seq=? ORDER BY part"
    parts = [data for (data,) in db.execute(sql, (seq,)).fetchall()]
    for piece in parts:
        check.update(piece)

    if check.digest() != digest:
        return None

    state = {}
    waiting = iter(parts)
    for name, dtype, shape, size in json.loads(text)["layout"]:
        pieces = []
        got = 0
        # an array may lie in several parts
        while got < size:
            pieces.append(next(waiting))
            got += len(pieces[-1])

        state[name] = np.frombuffer(bytearray().join(pieces), np.dtype(dtype)).reshape(shape)

    return state
