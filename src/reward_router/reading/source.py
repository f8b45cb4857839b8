"""Where rows come from: a file of any kind, or the Hugging Face Hub; and which of them belong to a split."""

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from reward_router.errors import InputError
from reward_router.reading.broken import Broken, Row
from reward_router.reading.container import ENDINGS, FORMATS, Container, opened
from reward_router.reading.csv_rows import csv_rows
from reward_router.reading.hub import hub_rows
from reward_router.reading.json_rows import document_rows, line_rows
from reward_router.reading.parquet_rows import parquet_rows

Placed = tuple[str, Row | Broken]

_SLICE = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<low>\d*):(?P<high>\d*)\])?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_rows(
    source: str,
    split: str | None = "train",
    config_name: str | None = None,
    label: str | None = None,
) -> Iterator[Placed]:
    """Rows of ``source`` as (place, row), in order and lazily; a row that cannot be read is a `Broken`.

    ``source`` is a file (JSON lines, a JSON array, CSV, each also gzipped, or Parquet: told by
    content), or the name of a Hub data set (``config_name`` its configuration). ``split`` is the
    Hub's (its slices work: ``train[:6750]``, ``test+validation``); of a file it keeps the rows
    whose ``split`` column has that name (slices and sums work too, percents do not); without that
    column all are ``train``; None keeps all rows of a file. ``label`` is what places call the file.
    Raises InputError: missing or unreadable file, unknown data set or split. O(rows), one row in
    memory of JSON lines, JSON arrays and CSV, one batch of Parquet.
    """
    path, name = Path(source), label or source
    if not path.exists() and is_hub_name(source):
        return hub_rows(source, split or "train", config_name)
    container = opened(path, name)
    if config_name is not None:
        raise InputError(
            f"data {name}: name={config_name!r} chooses a configuration of a Hub data set, not of a file"
        )
    return _explained(container, name, split)


def is_hub_name(source: str) -> bool:
    """Whether ``source`` can be the name of a Hub data set: ``owner/name``, dots included, and not a file's ending."""
    bare = source.removesuffix(".gz")
    return _HUB_NAME.fullmatch(source) is not None and not bare.endswith(
        (*ENDINGS, ".xlsx", ".txt", ".yaml")
    )


def _rows(container: Container, name: str) -> Iterator[Placed]:
    match container.kind:
        case "lines":
            return line_rows(container, name)
        case "document":
            return document_rows(container, name)
        case "csv":
            return csv_rows(container, name)
        case "parquet":
            return parquet_rows(container.path, name)
        case "sqlite":
            raise InputError(
                f"data {name}: an SQLite database (a ledger?), which holds no such rows; allowed: {FORMATS}"
            )


def _explained(container: Container, name: str, split: str | None) -> Iterator[Placed]:
    """The rows of a split; InputError, with the last place, where the file stops being readable."""
    wanted = _Wanted("train" if split is None else split, name)
    everything = split is None
    train = everything or split == "train"
    place, kept = "the start", 0
    try:
        for place, row in _rows(container, name):
            # Most rows have no column that says which split they are of. Whose a broken row is cannot be known.
            if everything or (train and "split" not in row) or isinstance(row, Broken):
                kept += 1
                yield place, row
            elif wanted.takes(row):
                yield place, row
    except UnicodeDecodeError as error:
        raise InputError(
            f"data {name}: cannot be read after {place}: not {error.encoding} text (byte {error.start}: {error.reason})"
        ) from None
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        raise InputError(f"data {name}: cannot be read after {place}: {error}") from None
    wanted.kept += kept
    wanted.check()


class _Wanted:
    """Which rows belong to a split of a file: by the name in their ``split`` column, ``train`` without it, and by their number."""

    def __init__(self, split: str, source: str) -> None:
        self.split, self.source = split, source
        self.parts = [_slice(part, source) for part in split.split("+")]
        self.seen: dict[str, int] = {}
        self.kept = 0

    def takes(self, row: Row) -> bool:
        """Whether the next row is wanted."""
        given = row.get("split")
        name = "train" if given is None else str(given).casefold()
        at = self.seen.get(name, 0)
        self.seen[name] = at + 1
        for part, low, high in self.parts:
            if name == part and low <= at < high:
                self.kept += 1
                return True
        return False

    def check(self) -> None:
        """InputError where there were rows and none was wanted."""
        if self.seen and not self.kept:
            there = ", ".join(f"{name} ({count} rows)" for name, count in sorted(self.seen.items()))
            raise InputError(
                f"data {self.source}: no row of split {self.split!r}; there are: {there}"
            )


def _slice(part: str, source: str) -> tuple[str, int, float]:
    found = _SLICE.fullmatch(part)
    if found is None:
        raise InputError(
            f"data {source}: split {part!r} of a file is a name, or a slice of rows as in train[100:200]"
        )
    return found["name"].casefold(), int(found["low"] or 0), float(found["high"] or "inf")
