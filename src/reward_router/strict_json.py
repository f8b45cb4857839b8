"""JSON that every reader takes.

A number that is not finite is written as null, never as NaN or Infinity.

Python writes bare ``NaN``, which no JSON standard knows: jq, browsers, pandas and Go refuse the
whole file. Everything that this program leaves for others goes through :func:`dumps`. Left out:
reading, which `json.loads` does, and which takes older files too.
"""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The value as strict JSON; TypeError for what JSON has no form for (a set, an object).

    >>> dumps({"loss": float("nan"), "ci95": (0.5, float("inf"))})
    '{"loss": null, "ci95": [0.5, null]}'
    """
    return json.dumps(finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def finite(value: Any) -> Any:
    """The same data with None for every number that is NaN or infinite.

    Tuples become lists, numpy's numbers Python's.
    """
    kind = type(value)
    # What nearly every value is goes first: asking whether it is a Mapping costs much more.
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is str or kind is int or value is None:
        return value
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
