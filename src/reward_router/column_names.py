"""Reaching a data set's columns by our names, and filling prompt templates from them.

A mapping goes from our name to the data's column; a path such as ``conversation.0.content`` reaches
into objects and lists. Every error names the place, the column and the columns there are.
"""

import json
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import did_you_mean
from reward_router.reading import DataRow

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_mapping(columns: Mapping[str, str] | None, known: Sequence[str]) -> dict[str, str]:
    """The mapping as a dict; InputError, with the nearest, for a name that is not in ``known``."""
    for name in columns or {}:
        if name not in known:
            raise InputError(
                f"data columns: {name!r} is none of our names; {did_you_mean(name, known)} "
                "(our name -> the data's column)"
            )
    return dict(columns or {})


def required(row: DataRow, name: str, mapping: Mapping[str, str], place: str) -> Any:
    """The value of our ``name``; InputError, with the columns there are, where it holds nothing.

    >>> required({"question": "2 + 2?"}, "prompt", {"prompt": "question"}, "line 1")
    '2 + 2?'
    """
    column = mapping.get(name, name)
    value = _reach(row, column, place)
    if is_missing(value):
        state = "is null" if column in row else "does not exist"
        there = ", ".join(map(str, row)) or "none"
        hint = "" if name in mapping else f"; map it with columns: {{{name}: COLUMN}}"
        raise InputError(
            f"data {place}: column {column!r} {state}; columns there are: {there}{hint}"
        )
    return value


def optional(row: DataRow, name: str, mapping: Mapping[str, str], place: str) -> str | None:
    """The value of our ``name`` as text, None where it holds nothing.

    InputError where a column that was mapped does not exist.
    """
    column = mapping.get(name)
    if column is not None:
        # A dotted name leads into a nested value; its first part is the column of the row.
        outermost = column.split(".")[0]
        if column not in row and outermost not in row:
            required(row, name, mapping, place)
    value = _reach(row, column or name, place)
    return as_text(value)


def as_text(value: Any) -> str | None:
    """A cell as text: scalars plainly (``true``, ``false``), lists and objects as JSON, or None."""
    if isinstance(value, str):
        return value
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, or NaN, which pandas puts where there was nothing.

    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    return value is None or (isinstance(value, float) and value != value)


def _reach(row: DataRow, column: str, place: str) -> Any:
    """``row[column]``, or along the dots of the name; None where the first column is absent."""
    if column in row:
        return row[column]
    head, *rest = column.split(".")
    value: Any = row.get(head) if rest else None
    for part in rest:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif _is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif value is not None:
            raise InputError(f"data {place}: column {head!r} has no {part!r} on the way {column!r}")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def template_fields(template: str | None) -> set[str]:
    """The columns that a template names; the empty set for None.

    InputError for a template that names none or is malformed.

    >>> sorted(template_fields("{question} ({hint})"))
    ['hint', 'question']
    """
    if template is None:
        return set()
    braces = "fields are {column}, a brace itself is {{ or }}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"data template: {error}; {braces}") from None
    fields = {name for _, name, _, _ in parts if name is not None}
    for _, name, spec, conversion in parts:
        if name == "" or spec or conversion:
            raise InputError(
                f"data template: a field is a plain column name, found {name!r}; {braces}"
            )
    if not fields:
        raise InputError(
            "data template: names no column; write the prompt's place as {prompt}, or any {column}"
        )
    return fields


def fill_template(
    template: str, row: DataRow, mapping: Mapping[str, str], prompt: str, place: str
) -> str:
    """The template with its fields filled in; lists become lettered choices.

    The field ``{prompt}`` becomes ``prompt``, any other the row's value.

    >>> row = {"options": ["yes", "no"]}
    >>> print(fill_template("{prompt} {options}", row, {}, "Well?", "line 1"))
    Well? (A) yes
    (B) no
    """
    text = ""
    for literal, name, _, _ in Formatter().parse(template):
        text += literal
        if name is not None:
            text += prompt if name == "prompt" else _shown(required(row, name, mapping, place))
    return text


def _shown(value: Any) -> str:
    if _is_list(value):
        return "\n".join(f"({_LETTERS[i % 26]}) {as_text(item)}" for i, item in enumerate(value))
    return as_text(value) or ""
