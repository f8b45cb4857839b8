"""``NAME:key=value,key=value`` as typed on the command line.

Errors name what is allowed.
"""

from collections.abc import Mapping
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import nearest

_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def split_name(text: str) -> tuple[str, str]:
    """'linucb:alpha=2' -> ('linucb', 'alpha=2').

    A colon that starts no option belongs to the name (arms have colons).

    >>> split_name("linucb:alpha=2"), split_name("judge-pair:gpt4")
    (('linucb', 'alpha=2'), ('judge-pair:gpt4', ''))
    """
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "=" in tail else (text, "")


def parse_options(what: str, text: str, allowed: Mapping[str, type]) -> dict[str, Any]:
    """'a=1,b=x' -> {'a': 1, 'b': 'x'} with the types of ``allowed``.

    ``InputError`` for an unknown key or a bad value.
    """
    values: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in allowed:
            raise InputError(f"{what}: unknown key {key!r}{nearest(key, allowed)}")

        kind = allowed[key]
        try:
            # bool("no") is True in Python, so truth values have a table.
            values[key] = _TRUTH[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError) as error:
            raise InputError(f"{what}: {key}={value} is no {kind.__name__}") from error
    return values
