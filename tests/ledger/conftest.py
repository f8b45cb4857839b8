"""The table of stores: every law of the ledger runs over each row. A new store is one row more."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reward_router.ledger import Ledger, Store


@dataclass(frozen=True)
class Place:
    """Where a store of one kind is opened.

    ``durable``: what is in it is there again when it is opened anew.
    """

    opened: Callable[..., Store]
    durable: bool


def sqlite_file(folder: Path) -> Place:
    """A file, the same one at every opening."""
    return Place(lambda **options: Ledger(folder / "ledger.sqlite", **options), durable=True)


def sqlite_memory(_: Path) -> Place:
    """In memory, gone when it is closed."""
    return Place(lambda **options: Ledger(":memory:", **options), durable=False)


STORES: dict[str, Callable[[Path], Place]] = {
    "sqlite": sqlite_file,
    "sqlite-memory": sqlite_memory,
}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One of the table."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(place: Place) -> Any:
    """An empty store of each kind, closed afterwards."""
    opened = place.opened()
    yield opened
    opened.close()
