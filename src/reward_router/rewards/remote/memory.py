"""Answers that were paid for once: in memory, or in a file that outlives the run.

A key is a hash over the served model's fingerprint, the address and the whole request, so an answer
of another model, another template or another prompt is never taken. Only readable answers are kept:
a failure is asked again.
"""

import hashlib
import json
import sqlite3
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from reward_router.errors import InputError

MOST = 200_000
"""Answers kept in memory; the least recently used goes first."""


class Memory(Protocol):
    """What was answered before."""

    def get(self, key: bytes) -> Any:
        """The answer (JSON), None where there is none."""
        ...

    def put(self, key: bytes, answer: Any) -> None:
        """Keep an answer."""
        ...


class Forgetful:
    """``cache: false``."""

    def get(self, key: bytes) -> Any:
        """Nothing."""
        return None

    def put(self, key: bytes, answer: Any) -> None:
        """Let go."""


class InMemory:
    """The newest `MOST` answers of this process."""

    def __init__(self, most: int = MOST) -> None:
        """Empty."""
        self.most = most
        self._kept = OrderedDict[bytes, Any]()

    def get(self, key: bytes) -> Any:
        """O(1)."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: bytes, answer: Any) -> None:
        """O(1)."""
        self._kept[key] = answer
        self._kept.move_to_end(key)
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)


class OnDisk:
    """A SQLite file, which several processes may share.

    It holds answers and hashes, no text of a prompt and no secret.
    """

    def __init__(self, path: str) -> None:
        """InputError where the file cannot be had."""
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(
                self.path, timeout=30, check_same_thread=False, isolation_level=None
            )
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"calls.cache={path!r}: this file cannot hold answers: {error}"
            ) from None

    def get(self, key: bytes) -> Any:
        """One look-up by key."""
        with self._lock:
            row = self._base.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: bytes, answer: Any) -> None:
        """One insert."""
        with self._lock:
            self._base.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer))
            )


def memory_of(cache: bool | str) -> Memory:
    """As the option ``calls.cache`` says: true (in memory), false, or a file."""
    if isinstance(cache, str):
        return OnDisk(cache)
    return InMemory() if cache else Forgetful()


def request_key(fingerprint: str, address: str, body: Any) -> bytes:
    """The key of a request. O(bytes of the request)."""
    content = json.dumps([fingerprint, address, body], sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=20).digest()
