"""Where rows come from: a file of any kind, or the Hugging Face Hub; and which of them belong to a split."""

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from reward_router.errors import InputError
from reward_router.rows.broken import Broken, Row
from reward_router.rows.container import ENDINGS, FORMATS, Container, opened
from reward_router.rows.csv_rows import csv_rows
from reward_router.rows.hub import hub_rows
from reward_router.rows.json_rows import document_rows, line_rows
from reward_router.rows.parquet_rows import parquet_rows

Placed = tuple[str, Row | Broken]

_SLICE = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<low>\d*):(?P<high>\d*)\])?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_rows(
    source: str, split: str | None = "train", config_name: str | None = None, label: str | None = None
) -> Iterator[Placed]:
    """Rows of ``source`` as (place, row), in order and lazily; a row that cannot be read is a `Broken`.

    ``source`` is a file (JSON lines, a JSON array, CSV, each also gzipped, or Parquet: told by content), or the name of a Hub data
    set (``config_name`` its configuration). ``split`` is the Hub's (its slices work: ``train[:6750]``, ``test+validation``); of a
    file it keeps the rows whose ``split`` column has that name (slices and sums work too, percents do not); without that column all
    are ``train``; None keeps all rows of a file. ``label`` is what places call the file. Raises InputError: missing or unreadable
    file, unknown data set or split. O(rows), one row in memory of JSON lines, JSON arrays and CSV, one batch of Parquet.
    """
    path, name = Path(source), label or source
    if not path.exists() and is_hub_name(source):
        return hub_rows(source, split or "train", config_name)
    container = opened(path, name)
    if config_name is not None:
        raise InputError(f"data {name}: name={config_name!r} chooses a configuration of a Hub data set, not of a file")
    rows = _explained(container, name)
    return rows if split is None else _in_split(rows, name, split)


def is_hub_name(source: str) -> bool:
    """Whether ``source`` can be the name of a Hub data set: ``owner/name``, dots included, and not a file's ending."""
    bare = source.removesuffix(".gz")
    return _HUB_NAME.fullmatch(source) is not None and not bare.endswith((*ENDINGS, ".xlsx", ".txt", ".yaml"))


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


def _explained(container: Container, name: str) -> Iterator[Placed]:
    """The rows; InputError, with the last place, where the file stops being readable."""
    place = "the start"
    try:
        for place, row in _rows(container, name):
            yield place, row
    except UnicodeDecodeError as error:
        raise InputError(
            f"data {name}: cannot be read after {place}: not {error.encoding} text (byte {error.start}: {error.reason})"
        ) from None
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        raise InputError(f"data {name}: cannot be read after {place}: {error}") from None


def _in_split(rows: Iterator[Placed], source: str, split: str) -> Iterator[Placed]:
    wanted = [_slice(part, source) for part in split.split("+")]
    names = {name.casefold() for name, _, _ in wanted}
    plain = all(low == 0 and high == float("inf") for _, low, high in wanted)
    seen: dict[str, int] = {}
    kept = 0
    for place, row in rows:
        if isinstance(row, Broken):
            yield place, row  # whose it is cannot be known
            continue
        given = row.get("split")
        name = "train" if given is None else str(given).casefold()
        at = seen[name] = seen.get(name, -1) + 1
        if name in names and (plain or any(name == part.casefold() and low <= at < high for part, low, high in wanted)):
            kept += 1
            yield place, row
    if seen and not kept:
        there = ", ".join(f"{name} ({last + 1} rows)" for name, last in sorted(seen.items()))
        raise InputError(f"data {source}: no row of split {split!r}; there are: {there}")


def _slice(part: str, source: str) -> tuple[str, int, float]:
    found = _SLICE.fullmatch(part)
    if found is None:
        raise InputError(f"data {source}: split {part!r} of a file is a name, or a slice of rows as in train[100:200]")
    return found["name"], int(found["low"] or 0), float(found["high"] or "inf")
