"""Reference chains by prompt, read from a file of the user's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.reading import read_rows


def read_references(file: str) -> dict[str, str]:
    """Reference by the prompt's text, from rows with ``prompt`` and ``reference``.

    Every form of a file that data may have is read. InputError where a row lacks one of the two,
    or the file holds none.
    """
    by_prompt: dict[str, str] = {}
    for where, row in read_rows(file):
        if not isinstance(row, Mapping):
            raise InputError(f"references {where}: {row}")
        by_prompt[_text(row, "prompt", where)] = _text(row, "reference", where)
    if not by_prompt:
        raise InputError(f"references {file}: no row; one with prompt and reference is expected")
    return by_prompt


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"references {where}: {column} is {value!r}; a text is expected "
            "(columns prompt and reference)"
        )
    return value.strip()


def check_references(file: object) -> None:
    """InputError unless ``file`` names a file that is there."""
    if not isinstance(file, str) or not Path(file).is_file():
        raise InputError(
            f"references is {file!r}; a file of rows with prompt and reference is expected"
        )
