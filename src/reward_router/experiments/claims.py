"""Folders that one process works in at a time; a claim ends with its process, however it ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def claimed(lock: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process holds the file ``lock``.

    ``wait``: until another process lets go of it, so that the answer is yes. Where the system has
    no such locks one process works alone.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with lock.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
