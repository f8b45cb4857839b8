"""Rows of recorded scores from JSONL(.gz), Parquet, CSV or a Hub data set, one at a time, each with the place it came from."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from reward_router.errors import InputError
from reward_router.rows import read_rows

Row = tuple[str, Any]  # (where, mapping), or (where, text saying what is broken)
FORMATS = ".jsonl, .jsonl.gz, .json, .json.gz, .parquet, .csv, .csv.gz, .sqlite, or a Hub data set (owner/name, owner/name:split)"
_HUB = re.compile(r"[\w.-]+/[\w-]+(:\w+)?")


def rows(source: str) -> Iterator[Row]:
    """Yield (where, row) of any supported source; ``InputError`` where it does not exist or its kind is unknown."""
    path = Path(source)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if suffix.endswith((".jsonl", ".jsonl.gz")):
        return _readable(path, _jsonl(_existing(path)))
    if suffix == ".parquet":
        return _parquet(_existing(path))
    if suffix.endswith((".csv", ".csv.gz")):
        return _readable(path, _csv(_existing(path)))
    if not path.exists() and _HUB.fullmatch(source):
        return _hub(source)
    raise InputError(f"{source}: {'unknown kind of file' if path.exists() else 'no such file'}, allowed: {FORMATS}")


def open_text(path: Path) -> IO[str]:
    """A text file, gzipped or not, as UTF-8."""
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig")


def short_name(source: str) -> str:
    """The file's name without folders and known endings: what tables and reports call it."""
    name = Path(source).name
    for ending in (".gz", ".jsonl", ".json", ".parquet", ".csv", ".sqlite"):
        name = name.removesuffix(ending)
    return name


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file, allowed: {FORMATS}")
    return path


def _jsonl(path: Path) -> Iterator[Row]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path.name} line {number}", _parsed(line)


def _readable(path: Path, found: Iterator[Row]) -> Iterator[Row]:
    where = "the start"
    try:
        for where, row in found:
            yield where, row
    except (UnicodeDecodeError, EOFError, zlib.error, OSError, csv.Error) as error:
        raise InputError(f"{path.name}: cannot be read after {where}: {error}") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        return "not JSON (nested too deeply)"


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path.name}: Parquet needs pyarrow: pip install 'reward-router[parquet]'") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=2048):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name} row {number}", _plain(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path.name}: not readable as Parquet after row {number}: {error}") from error


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Parquet gives every arm a field on every row: drop the ones that hold nothing."""
    for field in ("scores", "verdicts", "cost"):
        if isinstance(row.get(field), dict):
            row[field] = {arm: value for arm, value in row[field].items() if value is not None}
    return row


def _hub(source: str) -> Iterator[Row]:
    name, _, split = source.partition(":")
    for where, row in read_rows(name, split or "train"):
        yield where, _plain(dict(row))


def _csv(path: Path) -> Iterator[Row]:
    """Columns ``ARM:a`` and ``ARM:b`` (scores), ``ARM:verdict``, ``ARM:cost``; id, prompt, label, category by their own names."""
    with open_text(path) as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames or []
        if "label" not in fields or not any(":" in f for f in fields):
            raise InputError(
                f"{path.name}: columns are {', '.join(fields)}; needed: label, and ARM:a with ARM:b, or ARM:verdict"
            )
        for number, cells in enumerate(reader, 2):
            yield f"{path.name} line {number}", csv_row(cells)


def csv_row(cells: dict[str, str | None]) -> dict[str, Any] | str:
    """One flat CSV row as the nested row every other format has; a text where it is broken."""
    row: dict[str, Any] = {"scores": {}, "verdicts": {}, "cost": {}}
    for column, text in cells.items():
        arm, _, kind = (column or "").rpartition(":")
        if not arm:
            row[column] = text or None
        elif kind in ("a", "b"):
            row["scores"].setdefault(arm, [None, None])[kind == "b"] = text or None
        elif kind in ("verdict", "cost") and text:
            row["verdicts" if kind == "verdict" else "cost"][arm] = text
    row["scores"] = {arm: pair for arm, pair in row["scores"].items() if pair != [None, None]}
    try:
        row["cost"] = {arm: float(price) for arm, price in row["cost"].items()} or None
    except ValueError:
        return "a cost is not a number"
    return row


def peek(source: str) -> Any:
    """The first usable row of a source, to tell its kind; None where there is none."""
    return next((row for _, row in _first(rows(source)) if not isinstance(row, str)), None)


def _first(found: Iterable[Row], limit: int = 50) -> Iterator[Row]:
    for number, row in enumerate(found):
        if number >= limit:
            return
        yield row
