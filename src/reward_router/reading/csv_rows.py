"""Rows of a CSV file with a header line: a cell is text of any length, an empty one null."""

import csv
from collections.abc import Iterator
from typing import Any

from reward_router.errors import InputError
from reward_router.reading.broken import Broken
from reward_router.reading.container import Container

_LONGEST_CELL = 2**31 - 1  # the csv module's own limit, 128 KiB, is shorter than long responses


def csv_rows(container: Container, name: str) -> Iterator[tuple[str, dict[str, Any] | Broken]]:
    """(place, row) of every line after the header; one with more or fewer cells is broken.

    InputError where a column is named twice.
    """
    csv.field_size_limit(_LONGEST_CELL)
    encoding = "utf-8-sig" if container.encoding == "utf-8" else container.encoding
    with Container(container.path, "csv", container.gz, encoding).text(newline="") as file:
        reader = csv.reader(file, delimiter=container.separator)
        header = [column.strip() for column in next(reader, [])]
        twice = sorted({column for column in header if column and header.count(column) > 1})
        if twice:
            raise InputError(
                f"data {name}: column {twice[0]!r} stands twice in the header; rename one"
            )
        width = len(header)
        unnamed = "" in header
        line = reader.line_num + 1
        for cells in reader:
            place = f"{name} line {line}"
            line = reader.line_num + 1
            if len(cells) != width:
                if cells:
                    yield place, Broken(f"{len(cells)} cells, the header has {width}")
                continue
            row: dict[str, Any] = dict(zip(header, cells, strict=False))  # as many as were counted
            if "" in cells:
                row = {column: cell or None for column, cell in row.items()}
            if unnamed:
                row.pop("", None)  # the index that pandas writes
            yield place, row
