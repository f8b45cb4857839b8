"""What kind of file this is, told by its content: the ending says nothing.

Recognised: gzip around anything, Parquet, SQLite (our ledger), JSON lines, JSON documents (an
array, objects written over several lines, a table of columns) and CSV; text in UTF-8, UTF-16 or
UTF-32 with a byte order mark. What is not read is named.
"""

import gzip
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from reward_router.errors import InputError

FileKind = Literal["lines", "document", "csv", "parquet", "sqlite"]

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".sqlite")
FORMATS = (
    ".jsonl, .json, .csv, each also as .gz, .parquet, .sqlite (a ledger), "
    "or a Hub data set (owner/name, owner/name:split)"
)
HEAD = 1 << 16
_GZIP = b"\x1f\x8b"
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive (or an Excel table); unpack it, or save it as CSV"),
    (b"BZh", "compressed by bzip2; unpack it, or use gzip"),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack it, or use gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it, or use gzip"),
    (b"ARROW1", "an Arrow file; save it as Parquet"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data; fetch it with git lfs pull"),
    (b"\x80\x04\x95", "a Python pickle, which is never opened; save it as JSON lines"),
)
_SEPARATORS = ",;\t"
_LINES_LOOKED_AT = 20


@dataclass(frozen=True)
class Container:
    """One file, and how it is to be read.

    Args:
        path: where it is.
        kind: what it holds.
        gz: whether it is gzipped.
        encoding: that of its text.
        separator: what stands between the cells of a CSV.
    """

    path: Path
    kind: FileKind
    gz: bool = False
    encoding: str = "utf-8"
    separator: str = ","

    def bytes(self) -> IO[bytes]:
        """The content from its start, unpacked."""
        if not self.gz:
            return self.path.open("rb")
        return io.BufferedReader(gzip.open(self.path, "rb"), HEAD)

    def text(self, newline: str | None = None) -> IO[str]:
        """The content as text; UnicodeDecodeError while it is read where it is no such text."""
        return io.TextIOWrapper(self.bytes(), encoding=self.encoding, newline=newline)


def kind_of(path: Path) -> FileKind:
    """The kind of the file ``path``; InputError as in `opened`."""
    return opened(path, str(path)).kind


def opened(path: Path, label: str) -> Container:
    """The container at ``path``, told by its first 64 KiB.

    InputError where there is no file, or none that can be read.
    """
    if path.is_dir():
        raise InputError(f"data {label}: a directory, not a file{_inside(path)}")
    if not path.is_file():
        raise InputError(f"data {label}: no such file, allowed: {FORMATS}")
    try:
        head, gz = _head(path)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data {label}: cannot be read at the start: {error}") from None
    if head.startswith(b"PAR1"):
        if gz:
            raise InputError(
                f"data {label}: a Parquet file inside gzip; "
                "unpack it (Parquet compresses by itself)"
            )
        return Container(path, "parquet")
    if head.startswith(b"SQLite format 3\x00"):
        return Container(path, "sqlite", gz)
    _refuse_others(head, gz, label)
    if path.suffix == ".parquet" and b"\x00" in head:
        raise InputError(
            f"data {label}: not readable as Parquet: it does not begin as a Parquet file does"
        )
    return _text_container(path, gz, head, label)


def _head(path: Path) -> tuple[bytes, bool]:
    """The start of the content, unpacked, and whether the file is gzipped."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.startswith(_GZIP):
        return head, False
    with gzip.open(path, "rb") as packed:
        return packed.read(HEAD), True


def _refuse_others(head: bytes, gz: bool, label: str) -> None:
    """InputError for kinds of file that people bring and that hold no rows."""
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise InputError(f"data {label}: {what}; allowed: {FORMATS}")
    if gz and head.startswith(_GZIP):
        raise InputError(f"data {label}: gzip inside gzip; unpack it once")
    if head[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"data {label}: a web page, not the data (a download that needed a login?); "
            f"allowed: {FORMATS}"
        )


def _text_container(path: Path, gz: bool, head: bytes, label: str) -> Container:
    encoding = next((name for mark, name in _BOMS if head.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\x00" in head[:1024]:
        raise InputError(
            f"data {label}: not UTF-8 text (NUL bytes: UTF-16 without a byte order mark, "
            "or no text); save it as UTF-8"
        )
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff")
    is_whole = len(head) < HEAD
    stripped = text.lstrip()
    if not stripped:
        is_csv = path.name.endswith((".csv", ".csv.gz"))
        return Container(path, "csv" if is_csv else "lines", gz, encoding)
    if stripped[0] == "[":
        return Container(path, "document", gz, encoding)
    if stripped[0] == "{":
        is_document = _goes_on(stripped, is_whole)
        return Container(path, "document" if is_document else "lines", gz, encoding)
    first_lines = stripped.split("\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT]
    lines = [line for line in first_lines if line.strip()]
    # A first line that is broken does not make JSON lines a CSV.
    if any(_is_object(line) for line in lines):
        return Container(path, "lines", gz, encoding)
    separator = max(_SEPARATORS, key=lines[0].count)
    name = path.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")) or separator in lines[0]:
        return Container(path, "csv", gz, encoding, separator)
    if name.endswith((".jsonl", ".json")):
        return Container(path, "lines", gz, encoding)
    if path.suffix == ".parquet":
        raise InputError(f"data {label}: not readable as Parquet: it is text")
    raise InputError(f"data {label}: unknown kind of file, allowed: {FORMATS}")


def _goes_on(text: str, whole: bool) -> bool:
    """Whether the first object is written over several lines, not one object a line."""
    first_line, newline, _ = text.partition("\n")
    if not newline:
        return False
    if _end_of(first_line) is not None:
        return False
    if _end_of(text) is not None:
        return True
    return not whole and _stops_at_the_end(text)


def _end_of(text: str) -> int | None:
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def _stops_at_the_end(text: str) -> bool:
    """Whether the JSON is right as far as it goes."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) - 20 or error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: str) -> bool:
    return line.lstrip().startswith("{") and _end_of(line.lstrip()) is not None


def _inside(path: Path) -> str:
    """Files of a folder that can be read, as a hint."""
    readable = [p.name for p in path.iterdir() if p.name.removesuffix(".gz").endswith(ENDINGS)]
    names = sorted(readable)
    if not names:
        return ""
    more = ""
    if len(names) > 3:
        more = f" and {len(names) - 3} more"
    return f"; in it: {', '.join(names[:3])}{more}; give one of them"
