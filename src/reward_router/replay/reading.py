"""Sources of recorded scores as raw rows, each with its place.

They are any file or Hub data set that `reward_router.reading` reads.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.reading import FORMATS, Broken, is_hub_name, kind_of, read_rows

NumberedRow = tuple[str, Any]  # (where, mapping), or (where, Broken text saying why)
BadRow = tuple[str, str]  # (where, what is broken)
_ENDINGS = re.compile(r"(\.(jsonl|json|parquet|csv|tsv|sqlite|gz))+$")
_PEEKED = 50


def rows(source: str) -> Iterator[NumberedRow]:
    """(where, row) of any supported source.

    ``InputError`` where it does not exist or its kind is unknown.

    A Hub data set is written ``owner/name``, ``owner/name:split`` or
    ``owner/name:configuration:split``.
    """
    path = Path(source)
    if path.exists():
        numbered = read_rows(source, None, label=path.name)
    else:
        name, *more = source.split(":")
        if not is_hub_name(name) or len(more) > 2:
            raise InputError(f"{source}: no such file, allowed: {FORMATS}")
        # owner/name, owner/name:split or owner/name:configuration:split
        split = more[-1] if more else "train"
        configuration = more[:1] if len(more) == 2 else []
        numbered = read_rows(name, split, *configuration)
    return ((where, _plain(row)) for where, row in numbered)


def is_ledger(source: str) -> bool:
    """Whether the file is an SQLite database; a file that is not there is one by its ending."""
    path = Path(source)
    if path.is_file() and not _tables_only(path):
        return kind_of(path) == "sqlite"
    return path.suffix == ".sqlite"


def _tables_only(path: Path) -> bool:
    """Whether the first bytes already say that this is no database: the rest need not be read."""
    with path.open("rb") as file:
        return not file.read(16).startswith((b"SQLite format 3", b"\x1f\x8b"))


def short_name(source: str) -> str:
    """The file's name without folders and known endings: what tables and reports call it."""
    name = Path(source).name
    return _ENDINGS.sub("", name) or name


def _plain(row: Any) -> Any:
    """Parquet gives every arm a field on every row: drop the ones that hold nothing."""
    if isinstance(row, Broken):
        return row
    for field in ("scores", "verdicts", "cost"):
        value = row.get(field)
        if isinstance(value, dict) and None in value.values():
            row = {**row, field: {arm: cell for arm, cell in value.items() if cell is not None}}
    return row


def peek(source: str) -> Mapping[str, Any] | None:
    """The first usable row of a source, to tell its kind.

    None where there is none among the first 50.
    """
    for number, (_, row) in enumerate(rows(source)):
        if isinstance(row, Mapping):
            return row
        if number >= _PEEKED:
            break
    return None
