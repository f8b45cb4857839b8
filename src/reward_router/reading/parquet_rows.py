"""Rows of a Parquet file, a batch at a time; maps become objects. Only reading imports pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.reading.broken import Broken

BATCH = 1024


def parquet_rows(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any] | Broken]]:
    """(place, row) of every row; InputError without pyarrow, or for no whole Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(
            f"data {name}: Parquet needs pyarrow: pip install 'reward-router[parquet]'"
        ) from None
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=BATCH):
                first = number + 1
                for number, row in enumerate(_plain(batch), start=first):
                    yield f"{name} row {number}", row
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"data {name}: not readable as Parquet after row {number}: {reason}"
        ) from None


def _plain(batch: Any) -> list[dict[str, Any] | Broken]:
    """A batch as objects.

    They are made one by one where a row cannot be read: text that is not UTF-8, a map with a key
    twice.
    """
    try:
        return _objects(batch)
    except (ValueError, KeyError):
        return [_one(batch.slice(i, 1)) for i in range(batch.num_rows)]


def _one(batch: Any) -> dict[str, Any] | Broken:
    try:
        made: dict[str, Any] = _objects(batch)[0]
        return made
    except (ValueError, KeyError) as error:
        return Broken(f"cannot be read: {' '.join(str(error).split())[:120]}")


def _objects(batch: Any) -> list[Any]:
    import pyarrow as pa

    if any(_holds_map(field.type, pa) for field in batch.schema):
        return batch.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]
    return batch.to_pylist()  # type: ignore[no-any-return]


def _holds_map(kind: Any, pa: Any) -> bool:
    if pa.types.is_map(kind):
        return True
    return any(_holds_map(kind.field(i).type, pa) for i in range(kind.num_fields))
