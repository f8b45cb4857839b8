"""Who may write a ledger, and when what was written reaches the disk."""

import os
import sqlite3
import threading
from contextlib import suppress

from reward_router.errors import LedgerError

SYNC_SECONDS = 0.005  # between two syncs


def take_writer_lock(path: str) -> sqlite3.Connection:
    """Hold ``path``.lock until the connection is closed or the process dies.

    The system drops it then. LedgerError where it is held.
    """
    lock = sqlite3.connect(
        path + ".lock", isolation_level=None, check_same_thread=False, timeout=0.0
    )
    try:
        lock.execute("PRAGMA journal_mode=MEMORY")  # it is never written: no journal beside it
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        # any other trouble is not about a second writer
        if "locked" not in str(error):
            raise

        raise LedgerError(
            f"{path}: already open for writing, here or in another process; "
            "a ledger has one writer, open it readonly or stop that one"
        ) from None

    return lock


class WalSyncer:
    """Brings commits to the disk a few milliseconds later, without making them wait.

    That is ``durability="normal"``. SQLite itself would leave commits in the system's cache until
    the next checkpoint: safe when the process dies, but a power cut could take seconds of them. A
    failed sync is kept in ``error`` and stops the next append.
    """

    def __init__(self, path: str) -> None:
        """Start the thread; it sleeps while nothing is committed."""
        self.error: OSError | None = None
        self._wal = path + "-wal"
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-sync", daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """Something was committed."""
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Sync what is left and end the thread."""
        self._stop.set()
        self._dirty.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._dirty.clear()
            try:
                self._sync()
            except OSError as error:
                self.error = error

            self._stop.wait(SYNC_SECONDS)

    def _sync(self) -> None:
        with suppress(FileNotFoundError):  # no write-ahead log: everything is in the file already
            fd = os.open(self._wal, os.O_RDWR)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
