"""One JSON object that holds many rows: a table of columns, a list under a name, or splits.

Columns, where what is no list is the same on every row:

    {"id": [0, 1], "prompt": ["a", "b"], "model": "m"}

What pandas' ``to_json`` writes:

    {"id": {"0": 7, "1": 8}, "prompt": {"0": "a", "1": "b"}}

A list under a name; the Hub's viewer writes the second:

    {"data": [{...}, {...}]}
    {"rows": [{"row": {...}}]}

Splits:

    {"train": [{...}], "test": [{...}]}
"""

from collections.abc import Iterator
from typing import Any

from reward_router.errors import InputError

_NAMING = (
    "id",
    "prompt",
    "question",
    "instruction",
    "subset",
    "label",
    "text_chosen",
    "scores_chosen",
    "input",
)
_LISTS = ("data", "rows", "examples", "records", "items", "instances")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


def rows_in(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]] | None:
    """The rows that an object holds; None where it is itself a row.

    InputError for columns of different lengths.

    >>> list(rows_in({"id": [1, 2], "prompt": ["a", "b"]}, "x.json"))
    [{'id': 1, 'prompt': 'a'}, {'id': 2, 'prompt': 'b'}]
    >>> rows_in({"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}, "x.jsonl") is None
    True
    """
    # Columns: {"id": [...], "prompt": [...]}.
    n_lists = sum(isinstance(item, list) for item in value.values())
    if n_lists > 1 and any(_is_column(value.get(column)) for column in _NAMING):
        return _columns(value, name)

    # Columns of pandas, {"id": {"0": ..., "1": ...}}.
    if len(value) > 1 and all(_is_numbered(item) for item in value.values()):
        return _numbered(value)

    # Splits: {"train": [rows], "test": [rows]}.
    splits = [key for key in value if key.casefold() in _SPLITS]
    only_splits = splits and len(splits) == len(value)
    if only_splits and all(_is_rows(value[key]) for key in splits):
        return ({**row, "split": key} for key in splits for row in value[key])

    # One list of rows with remarks beside it, as a web service answers.
    list_names = [key for key in value if key in _LISTS and _is_rows(value[key])]
    if len(list_names) == 1:
        list_name = list_names[0]
        others = [item for key, item in value.items() if key != list_name]
        # A second list would mean that the object is a row with lists in it.
        if not any(isinstance(item, list) for item in others):
            return (_viewer_row(row) for row in value[list_name])
    return None


def _viewer_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row itself, or the one that the Hub's viewer wraps in an object of its own."""
    return row["row"] if isinstance(row.get("row"), dict) else row


def _is_column(value: Any) -> bool:
    """A list of plain values: a column of a table, not messages, not the rows of a row."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and not any(isinstance(item, dict | list) for item in value)
    )


def _columns(table: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    lists = {column: item for column, item in table.items() if isinstance(item, list)}
    lengths = {len(item) for item in lists.values()}
    if len(lengths) != 1:
        sizes = ", ".join(f"{column} {len(item)}" for column, item in lists.items())
        raise InputError(f"data {name}: columns of different lengths: {sizes}")

    # What is no list holds for every row.
    rest = {column: item for column, item in table.items() if column not in lists}

    def row(i: int) -> dict[str, Any]:
        cells = {column: item[i] for column, item in lists.items()}
        return {**rest, **cells}

    n_rows = lengths.pop()
    return map(row, range(n_rows))


def _is_numbered(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(key.isdigit() for key in value)


def _numbered(table: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # A dict and not a set: rows keep the order in which the file names them.
    row_keys: dict[str, None] = {}
    for column in table.values():
        row_keys |= dict.fromkeys(column)

    def row(key: str) -> dict[str, Any]:
        return {column: item.get(key) for column, item in table.items()}

    return map(row, row_keys)


def _is_rows(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 0 and all(isinstance(item, dict) for item in value)
    )
