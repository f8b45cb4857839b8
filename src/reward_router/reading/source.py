"""Where rows come from, a file or the Hugging Face Hub, and which of them belong to a split."""

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from reward_router.errors import InputError
from reward_router.reading.broken import Broken, DataRow
from reward_router.reading.container import ENDINGS, FORMATS, Container, opened
from reward_router.reading.csv_rows import csv_rows
from reward_router.reading.hub import hub_rows
from reward_router.reading.json_rows import document_rows, line_rows
from reward_router.reading.parquet_rows import parquet_rows

Placed = tuple[str, DataRow | Broken]

_SLICE = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<low>\d*):(?P<high>\d*)\])?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_rows(
    source: str,
    split: str | None = "train",
    config_name: str | None = None,
    label: str | None = None,
) -> Iterator[Placed]:
    """Rows of ``source`` as (place, row), in order and lazily; one that cannot be read is `Broken`.

    InputError for a file that is missing or cannot be read, and for an unknown data set or split.
    O(rows); one row of JSON lines, JSON arrays and CSV is in memory at a time, and of Parquet one
    batch.

    Args:
        source: a file (JSON lines, a JSON array, CSV, each also gzipped, or Parquet: its content
            tells), or the name of a Hub data set.
        split: that of the Hub, whose slices work: ``train[:6750]``, ``test+validation``. Of a file
            it keeps the rows whose ``split`` column has that name; slices and sums work too,
            percents do not. Without that column all rows are ``train``. None keeps all rows of a
            file.
        config_name: the configuration of a Hub data set.
        label: what places call the file; None: ``source``.
    """
    path = Path(source)
    name = label or source
    if not path.exists() and is_hub_name(source):
        return hub_rows(source, split or "train", config_name)
    container = opened(path, name)
    if config_name is not None:
        raise InputError(
            f"data {name}: name={config_name!r} chooses a configuration of a Hub data set, "
            "not of a file"
        )
    return _explained(container, name, split)


def is_hub_name(source: str) -> bool:
    """Whether ``source`` can be the name of a Hub data set.

    That is ``owner/name``, in which dots are allowed, without the ending of a file.
    """
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
                f"data {name}: an SQLite database (a ledger?), which holds no such rows; "
                f"allowed: {FORMATS}"
            )


def _explained(container: Container, name: str, split: str | None) -> Iterator[Placed]:
    """The rows of a split; InputError, with the last place, where the file stops being readable."""
    wanted = _Wanted("train" if split is None else split, name)
    takes_all = split is None
    takes_unsplit = takes_all or split == "train"
    place = "the start"
    kept = 0
    try:
        for place, row in _rows(container, name):
            # Most rows have no column that says which split they are of, so these are quick to
            # take. Whose a broken row is cannot be known.
            if takes_all or (takes_unsplit and "split" not in row) or isinstance(row, Broken):
                kept += 1
                yield place, row
            elif wanted.takes(row):
                yield place, row
    except UnicodeDecodeError as error:
        raise InputError(
            f"data {name}: cannot be read after {place}: not {error.encoding} text "
            f"(byte {error.start}: {error.reason})"
        ) from None
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        raise InputError(f"data {name}: cannot be read after {place}: {error}") from None
    wanted.kept += kept
    wanted.check()


class _Wanted:
    """Which rows belong to a split of a file.

    They go by the name in their ``split`` column, ``train`` without it, and by their number.
    """

    def __init__(self, split: str, source: str) -> None:
        self.split = split
        self.source = source
        self.parts = [_slice(part, source) for part in split.split("+")]
        self.seen: dict[str, int] = {}
        self.kept = 0

    def takes(self, row: DataRow) -> bool:
        """Whether the next row is wanted."""
        row_split = row.get("split")
        name = "train" if row_split is None else str(row_split).casefold()
        number = self.seen.get(name, 0)
        self.seen[name] = number + 1
        for part, low, high in self.parts:
            if name == part and low <= number < high:
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
    """The name of a split, and the numbers of its rows from which and up to which it goes."""
    match = _SLICE.fullmatch(part)
    if match is None:
        raise InputError(
            f"data {source}: split {part!r} of a file is a name, "
            "or a slice of rows as in train[100:200]"
        )
    return match["name"].casefold(), int(match["low"] or 0), float(match["high"] or "inf")
