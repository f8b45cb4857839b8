"""Rows of a data set, wherever it lies: JSONL, JSONL.gz, Parquet or the Hugging Face Hub, one at a time.

Each row comes with its place (file and line) for error messages. Knows nothing of prompts or preferences: `data` does.
pyarrow and datasets are imported when a Parquet file or a Hub name is read, not before.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reward_router.errors import InputError

Row = Mapping[str, Any]
Placed = tuple[str, Row]

_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_SLICE = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<low>\d*):(?P<high>\d*)\])?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_rows(source: str, split: str = "train", config_name: str | None = None) -> Iterator[Placed]:
    """Rows of ``source`` as (place, row), in order and lazily.

    ``source`` is a file ending in .jsonl, .jsonl.gz or .parquet, or the name of a Hub data set (``config_name`` its
    configuration). ``split`` is the Hub's (its slices work: ``train[:6750]``, ``test+validation``); of a file it keeps the rows
    whose ``split`` column has that name (slices and sums work too, percents do not); without that column all are ``train``. Raises InputError: missing or
    unreadable file, broken line (with its number), unknown data set or split. O(rows), one row in memory of a JSONL file.
    """
    path = Path(source)
    if source.endswith(_ENDINGS):
        if not path.is_file():
            raise InputError(f"data {source}: {'a directory, not a file' if path.is_dir() else 'no such file'}")
        if config_name is not None:
            raise InputError(
                f"data {source}: name={config_name!r} chooses a configuration of a Hub data set, not of a file"
            )
        rows = _parquet(path) if source.endswith(".parquet") else _jsonl(path)
        return _in_split(rows, source, split)
    if path.exists() or not _HUB_NAME.fullmatch(source):
        raise InputError(f"data {source}: give a file ending in {', '.join(_ENDINGS)}, or a Hub data set as owner/name")
    return _hub(source, split, config_name)


def _in_split(rows: Iterator[Placed], source: str, split: str) -> Iterator[Placed]:
    wanted = [_slice(part, source) for part in split.split("+")]
    seen: dict[str, int] = {}
    kept = 0
    for place, row in rows:
        name = str(row.get("split", "train"))
        at = seen[name] = seen.get(name, -1) + 1
        if any(name == part and low <= at < high for part, low, high in wanted):
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


def _jsonl(path: Path) -> Iterator[Placed]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                place = f"{path} line {number}"
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield place, _json_object(text, place)
    except UnicodeDecodeError as error:
        raise InputError(f"data {path} line {number}: not UTF-8 text (byte {error.start}: {error.reason})") from None
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"data {path} after line {number}: cannot be read: {error}") from None


def _json_object(text: str, place: str) -> Row:
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise InputError(f"data {place}: not JSON ({error}): {shown}") from None
    if not isinstance(row, dict):
        raise InputError(f"data {place}: a JSON object is expected, found {type(row).__name__}")
    return row


def _parquet(path: Path) -> Iterator[Placed]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(f"data {path}: Parquet needs pyarrow: pip install 'reward-router[parquet]'") from None
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"data {path} after row {number}: not readable as Parquet: {error}") from None


def _hub(name: str, split: str, config_name: str | None) -> Iterator[Placed]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise InputError(f"data {name}: Hub data sets need datasets: pip install 'reward-router[train]'") from None
    try:
        table = datasets.load_dataset(name, config_name, split=split)
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        what = f"{name} ({config_name})" if config_name else name
        reason = " ".join(str(error).split())
        raise InputError(f"data {what}, split {split!r}: cannot be loaded from the Hub: {reason}") from None
    for number, row in enumerate(table):
        yield f"{name} {split} row {number}", row
