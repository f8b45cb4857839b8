"""Rows of JSON text: one object a line, or a document that holds objects.

A document is an array, objects one after another, or a table of columns.

A document is parsed while it is read, so an array of a million rows is never held whole.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from reward_router.errors import InputError
from reward_router.reading.broken import Broken, DataRow
from reward_router.reading.container import Container
from reward_router.reading.tables import rows_in

Placed = tuple[str, DataRow | Broken]

Scan = Callable[[str, int], tuple[Any, int]]

CHUNK = 1 << 20
CHECKED = 1000
_LEAST_ROOM = 32  # an error this near to the end of what was read may be a value that was cut there
_BETWEEN = re.compile(r"[\s,]*")
_SHOWN = 60


class Decoder:
    """JSON text to values: (text, place) -> (value, place after it).

    ``scan`` notes what the value got wrong without being unreadable in ``clash``: one key, two
    values. ``quick`` does not, and the last value counts; it reads what follows the first `CHECKED`
    rows, since a writer that repeats keys does it from the start.
    """

    def __init__(self) -> None:
        """Builds the scanners, C code where Python has it."""
        self.clash: str | None = None
        noting = json.JSONDecoder(object_pairs_hook=self._object)
        self.scan: Scan = noting.scan_once  # type: ignore[attr-defined]
        self.quick: Scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            changed = [key for key, value in pairs if made[key] is not value and made[key] != value]
            if changed:
                self.clash = changed[0]
        return made

    def checked(self, value: Any, surrogates: bool) -> DataRow | Broken:
        """A row, or why it is none.

        ``surrogates``: whether its text has escapes that may be half a surrogate pair.
        """
        if self.clash is not None:
            clash = self.clash
            self.clash = None
            return Broken(f"key {clash[:_SHOWN]!r} stands twice with different values")
        if type(value) is not dict:
            return Broken(f"a JSON object is expected, found {_kind(value)}")
        if surrogates and (where := half_surrogate(value)) is not None:
            return Broken(f"{where} holds half a surrogate pair (a cut emoji?), which is no text")
        return value


def line_rows(container: Container, name: str) -> Iterator[Placed]:
    """(place, row) of every line that is not blank.

    A first line that is a whole table of columns gives the table's rows.
    """
    wide = container.encoding.startswith(("utf-16", "utf-32"))
    if wide:
        with container.text(newline="\n") as text:
            yield from _line_rows((line.encode() for line in text), name)
        return
    with container.bytes() as stream:
        if container.encoding == "utf-8-sig":
            stream.read(3)
        yield from _line_rows(stream, name)


def _line_rows(lines: Iterable[bytes], name: str) -> Iterator[Placed]:
    decoder = Decoder()
    scan = decoder.scan
    row: DataRow | Broken | None
    for number, raw in enumerate(lines, start=1):
        if number == CHECKED:
            scan = decoder.quick
        try:
            text = raw.decode()
            row, end = scan(text, 0)
            simple = type(row) is dict and decoder.clash is None and end >= len(text) - 1
            if not simple or (b"\\u" in raw and (b"\\ud" in raw or b"\\uD" in raw)):
                row = _slowly(raw, decoder)
        except (ValueError, StopIteration, RecursionError):
            row = _slowly(raw, decoder)
        if row is None:
            continue
        if number == 1 and type(row) is dict and (table := rows_in(row, name)) is not None:
            yield from ((f"{name} item {i}", item) for i, item in enumerate(table, start=1))
        else:
            yield f"{name} line {number}", row


def _slowly(raw: bytes, decoder: Decoder) -> DataRow | Broken | None:
    """A line that is not simply an object and a newline: indented, blank, or broken."""
    decoder.clash = None
    try:
        text = raw.decode().strip()
        if not text:
            return None
        value, end = decoder.scan(text, 0)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except UnicodeDecodeError as error:
        return Broken(f"not UTF-8 text (byte {error.start}: {error.reason})")
    except (json.JSONDecodeError, StopIteration) as error:
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
        return Broken(f"not JSON ({_why(error)}): {shown}")
    except RecursionError:
        return Broken("not JSON (nested too deeply)")
    except ValueError:  # an integer of more digits than Python converts
        return Broken("not JSON (a number of thousands of digits)")
    return decoder.checked(value, True)


def _why(error: Exception) -> str:
    return (
        f"{error.msg} at column {error.colno}"
        if isinstance(error, json.JSONDecodeError)
        else "no value"
    )


def document_rows(container: Container, name: str) -> Iterator[Placed]:
    """(place, row) of an array's elements, of single objects, or of the tables among them."""
    with container.text() as file:
        yield from _Document(file, name).rows()


class _Document:
    """A window over JSON text.

    What stands in ``text`` from ``at`` on is still to be read, and ``line`` is the line there.
    ``ended``: whether the file has no more text.
    """

    def __init__(self, file: IO[str], name: str) -> None:
        self.file = file
        self.name = name
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self.surrogates = False
        self.decoder = Decoder()

    def more(self, size: int = CHUNK) -> None:
        """Read on, letting go what was used."""
        chunk = self.file.read(size)
        self.ended = not chunk
        # A byte order mark stands at the very beginning of some files.
        is_start = not self.text and not self.at
        if is_start:
            chunk = chunk.removeprefix("\ufeff")

        # Escapes of surrogates stay of interest as long as some of the old text is unread.
        has_escape = "\\ud" in chunk or "\\uD" in chunk
        some_unread = self.at < len(self.text)
        self.surrogates = has_escape or (self.surrogates and some_unread)
        self.text = self.text[self.at :] + chunk
        self.at = 0

    def rows(self) -> Iterator[Placed]:
        """(place, row) of everything in the document."""
        in_array = False
        number = 0
        while self._skip():
            sign = self.text[self.at]
            if not in_array and sign == "[":
                in_array = True
                self.at += 1
                continue
            if in_array and sign == "]":
                in_array = False
                self.at += 1
                continue
            if in_array and sign == "{":
                for place, row in self._objects(number):
                    number += 1
                    yield place, row
            if not self._skip() or self.text[self.at] == "]":
                continue
            line = self.line
            value = self._value()
            number += 1
            table = None if in_array or type(value) is not dict else rows_in(value, self.name)
            if table is None:
                row = self.decoder.checked(value, self.surrogates)
                at_line = f" (line {line})" if isinstance(row, Broken) else ""
                yield f"{self.name} row {number}{at_line}", row
            else:
                yield from self._table(table)
        if in_array:
            raise InputError(
                f"data {self.name}: cannot be read after row {number}: "
                "the array does not end (a cut file?)"
            )

    def _objects(self, number: int) -> Iterator[Placed]:
        """The objects that follow one another in what was read, the fast way.

        It stops before whatever is something else.
        """
        # Names of its own, because this loop runs once a row of files of a million rows.
        text = self.text
        at = self.at
        decoder = self.decoder
        surrogates = self.surrogates
        scan = decoder.scan if number < CHECKED else decoder.quick
        decoder.clash = None
        place = f"{self.name} row "
        while text.startswith("{", at):
            try:
                row, end = scan(text, at)
            except (ValueError, StopIteration, RecursionError):
                decoder.clash = None
                break
            if surrogates or decoder.clash is not None:
                row = decoder.checked(row, surrogates)
            number += 1
            yield f"{place}{number}", row
            if text.startswith((", {", ",\n{"), end):
                at = end + 2
            else:
                found = _BETWEEN.match(text, end)
                at = found.end() if found else end
        self._move(at)

    def _table(self, table: Iterator[dict[str, Any]]) -> Iterator[Placed]:
        for number, row in enumerate(table, start=1):
            yield f"{self.name} item {number}", self.decoder.checked(row, self.surrogates)

    def _skip(self) -> bool:
        """To the next value; False at the end of the text."""
        while True:
            found = _BETWEEN.match(self.text, self.at)
            end = found.end() if found else self.at
            self._move(end)
            if end < len(self.text):
                return True
            if self.ended:
                return False
            self.more()

    def _move(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def _value(self) -> Any:
        """The value at ``at``, reading on while it may be cut; InputError where it is none."""
        size = CHUNK
        while True:
            self.decoder.clash = None
            try:
                value, end = self.decoder.scan(self.text, self.at)
                if end < len(self.text) or self.ended or isinstance(value, dict | list | str):
                    self._move(end)
                    return value
            except (json.JSONDecodeError, StopIteration) as error:
                if self.ended or not self._may_be_cut(error):
                    raise self._refused(error) from None
            except RecursionError:
                raise InputError(
                    f"data {self.name} line {self.line}: not JSON (nested too deeply)"
                ) from None
            except ValueError:
                raise InputError(
                    f"data {self.name} line {self.line}: not JSON (a number of thousands of digits)"
                ) from None
            self.more(size)
            size *= 2

    def _may_be_cut(self, error: Exception) -> bool:
        # An error near the end of what was read may be the end of the piece and not of the text.
        near_end = len(self.text) - _LEAST_ROOM
        if isinstance(error, json.JSONDecodeError):
            unended = error.msg.startswith("Unterminated string")
            return unended or error.pos >= near_end
        return getattr(error, "value", 0) >= near_end

    def _refused(self, error: Exception) -> InputError:
        if isinstance(error, json.JSONDecodeError):
            position = error.pos
            reason = error.msg
        else:
            # The scanner's StopIteration holds the place where no value begins.
            position = int(getattr(error, "value", self.at) or self.at)
            reason = "no value"
        line = self.line + self.text.count("\n", self.at, position)
        shown = " ".join(self.text[position : position + _SHOWN].split())
        return InputError(f"data {self.name} line {line}: not JSON ({reason}): {shown}")


def half_surrogate(value: Any, where: str = "the row") -> str | None:
    """Where in a value a text holds half a surrogate pair; None where no text does.

    >>> half_surrogate({"prompt": ["fine", "cut \\ud83d"]}), half_surrogate({"prompt": "fine"})
    ("'prompt'", None)
    """
    if isinstance(value, str):
        has_half = not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value)
        return where if has_half else None
    if isinstance(value, dict):
        for key, item in value.items():
            if half_surrogate(key):
                return "a column's name"
            # A column of the row is named; what lies deeper is said to be in that column.
            item_place = f"{key!r}" if where == "the row" else where
            if (half := half_surrogate(item, item_place)) is not None:
                return half
    elif isinstance(value, list):
        for item in value:
            if (half := half_surrogate(item, where)) is not None:
                return half
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
