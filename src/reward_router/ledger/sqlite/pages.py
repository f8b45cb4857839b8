"""Reads events straight from the pages of a SQLite file, for when SQLite itself gives up on it.

Every page that is a leaf of a table is decoded (https://www.sqlite.org/fileformat2.html, sections
1.6 and 2.1) and a record is taken for an event where its own checksum says so; pages of the
write-ahead log stand in for those of the file. What was deleted (by a rewind) may still lie on a
free page and come back; what has no checksum (schema 0) is left alone.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from reward_router.ledger.rows import LedgerRow, seal

LEAF = 13
SIZES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}


class Pages:
    """Random access to the pages of a file and its write-ahead log."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        """``file`` is ``path`` open for reading; a head that is gone is taken to be one of ours."""
        self._file = file
        head = self._file.read(100)
        self.size = _page_size(head)
        # The last page may be cut short, and counts.
        file_bytes = Path(path).stat().st_size
        self.count = -(-file_bytes // self.size)
        log = Path(path + "-wal")
        self._logged = dict(_log_pages(log, self.size))

    def __getitem__(self, number: int) -> bytes:
        """Page ``number`` (from 1); shorter than ``size`` where the file ends, empty beyond."""
        if number in self._logged:
            return self._logged[number]
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def numbers(self) -> range:
        """All page numbers."""
        return range(1, max([self.count, *self._logged]) + 1)


def _page_size(head: bytes) -> int:
    """The page size that a file's first 100 bytes name; ours (8192) where they are gone.

    SQLite writes a power of two of at least 512 in two bytes, and 65536, which does not fit, as 1.
    """
    size = int.from_bytes(head[16:18], "big") if len(head) == 100 else 0
    if size == 1:
        return 65536
    is_power_of_two = size & (size - 1) == 0
    return size if size >= 512 and is_power_of_two else 8192


def _log_pages(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    if not path.is_file():
        return
    with path.open("rb") as log:
        head = log.read(32)
        while len(frame := log.read(24 + size)) == 24 + size:
            if frame[8:16] == head[16:24]:  # the salt: frames of an earlier round differ
                yield int.from_bytes(frame[:4], "big"), frame[24:]


def events_in_pages(path: str, kind: type[Any]) -> Iterator[LedgerRow]:
    """Every event of one table whose checksum holds, by ``seq``. O(file).

    Where two records claim a seq, the one that lies last in the file counts.
    """
    with Path(path).open("rb") as file:
        pages = Pages(path, file)
        # First where everything lies, then one event at a time: a file may be larger than memory.
        place_by_seq = {row.seq: place for place, row in _scan(pages, kind)}
        for _, (number, offset) in sorted(place_by_seq.items()):
            page = pages[number]
            row = _event(pages, page, offset, kind)
            if row is not None:
                yield row


def _scan(pages: Pages, kind: type[Any]) -> Iterator[tuple[tuple[int, int], LedgerRow]]:
    """(page number, offset in it) and event of every cell that is one."""
    for number in pages.numbers():
        page = pages[number]
        start = 100 if number == 1 else 0
        # an inner page, a page of an index, or one that is gone
        if len(page) < start + 8 or page[start] != LEAF:
            continue

        listed = int.from_bytes(page[start + 3 : start + 5], "big")
        cells = min(listed, (len(page) - start - 8) // 2)  # a torn page may list more than it has
        for offset in struct.unpack_from(f">{cells}H", page, start + 8):
            row = _event(pages, page, offset, kind)
            if row is not None:
                yield (number, offset), row


def _event(pages: Pages, page: bytes, at: int, kind: type[Any]) -> LedgerRow | None:
    try:
        length, at = _varint(page, at)
        seq, at = _varint(page, at)
        values = _record(_payload(pages, page, at, length))
    except (IndexError, struct.error, UnicodeDecodeError, KeyError):
        return None

    fields = list(kind.__annotations__.values())
    if len(values) != len(fields) + 1:
        return None

    # a whole number in a REAL column lies in the file as an integer
    whole = [
        float(v) if "float" in str(t) and type(v) is int else v
        for v, t in zip(values, fields, strict=False)
    ]
    row: LedgerRow = kind._make([seq, *whole[1:]])
    annotations = [str(getattr(t, "__name__", t)) for t in fields]
    typed = all(map(_is, row, annotations))

    return row if typed and seal(row) == values[-1] else None


def _is(value: Any, annotation: str) -> bool:
    return (type(value).__name__ if value is not None else "None") in annotation


def _payload(pages: Pages, page: bytes, at: int, length: int) -> bytes:
    most = pages.size - 35
    least = (pages.size - 12) * 32 // 255 - 23
    if length <= most:
        return page[at : at + length]

    local = least + (length - least) % (pages.size - 4)
    local = local if local <= most else least
    data = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    pieces = [data]
    got = len(data)

    while following and got < length:
        page = pages[following]
        pieces.append(page[4:])
        got += len(page) - 4
        following = int.from_bytes(page[:4], "big") if len(page) > 4 else 0

    return b"".join(pieces)[:length]


def _record(data: bytes) -> list[Any]:
    size, at = _varint(data, 0)
    values: list[Any] = []
    body = size
    while at < size:
        serial, at = _varint(data, at)
        # even numbers from 12 on are blobs, odd ones texts
        length = SIZES[serial] if serial < 12 else (serial - 12) // 2
        if body + length > len(data):
            raise IndexError

        values.append(_value(serial, data[body : body + length]))
        body += length

    return values


def _value(serial: int, data: bytes) -> Any:
    if serial == 0:
        return None
    if serial == 7:
        return struct.unpack(">d", data)[0]
    if serial < 12:
        return serial - 8 if serial > 7 else int.from_bytes(data, "big", signed=True)
    return data.decode() if serial % 2 else data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value = value << 7 | data[at + i] & 0x7F
        if data[at + i] < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
