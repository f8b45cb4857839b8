"""What an arm returned, as numbers: real numbers of the right shape are taken, all else is named.

Arms are other people's code. They return tensors in bfloat16, with gradients, on a GPU; lists of
tensors, generators, arrays of any numeric type. All of these are numbers and are read as float64.
Texts, complex numbers, mappings and wrong shapes are no scores: where only some rows are wrong,
only those rows fail. ``None`` in the place of one score is an abstention (NaN), as in TRL.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np

from reward_router.types import Float

LARGEST = 1e100
"""A score beyond it counts as this much.

Differences and squares of scores so stay finite; ``-sys.float_info.max`` is a common "worst".
"""
_NUMERIC = "fiub"
"""Kinds of NumPy types that are read: floats, integers, unsigned integers, booleans."""


class NotScores(ValueError):
    """What came back is not a row, or not rows, of scores."""


def read_score_rows(value: Any, rows: int, width: int) -> tuple[Float, dict[int, str]]:
    """(``rows``, ``width``) scores of an arm's answer, and why single rows of it are none.

    Those rows are NaN. `NotScores` where the whole answer has another form: no row of it can be
    told from the others.
    """
    array = _plain(value)
    if array is not None:
        if array.shape != (rows, width):
            raise NotScores(f"scores have shape {array.shape}, expected {(rows, width)}")
        return _finite(array)
    if value is None:
        raise NotScores(f"the arm returned None; scores of shape {(rows, width)} are expected")
    parts = _parts(value, rows)
    if parts and all(isinstance(part, bool | int | float) for part in parts):
        raise NotScores(f"scores have shape {(len(parts),)}, expected {(rows, width)}")
    scores_BN = np.full((rows, width), np.nan)
    wrong: dict[int, str] = {}
    if len(parts) != rows:
        raise NotScores(
            f"scores have {len(parts)} rows, expected {(rows, width)}: one row a prompt"
        )
    for b, part in enumerate(parts):
        try:
            scores_BN[b] = read_row(part, width)
        except NotScores as error:
            wrong[b] = str(error)
    if len(wrong) == rows:
        raise NotScores(wrong[0])
    finite_BN, infinite = _finite(scores_BN)
    return finite_BN, wrong | infinite


def read_row(value: Any, width: int) -> Float:
    """(``width``,) scores of one prompt; `NotScores` says what it is instead."""
    array = _plain(value)
    if array is None:
        parts = _parts(value, width)
        array = np.array([_number(part) for part in parts], dtype=np.float64)
    if array.shape != (width,):
        raise NotScores(f"scores of a prompt have shape {array.shape}, expected {(width,)}")
    return array


def _plain(value: Any) -> Float | None:
    """A tensor or an array of a numeric type as float64; None for what has to be read in parts."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(value)
    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    # The types bfloat16 and float8 of ml_dtypes are floats by name alone.
    if array.dtype.kind in _NUMERIC or "float" in array.dtype.name:
        return np.array(array, dtype=np.float64)
    if array.dtype.kind == "O":
        return None
    raise NotScores(f"scores are of type {array.dtype}; real numbers are expected")


def _of_tensor(tensor: Any) -> Float:
    if tensor.is_complex():
        raise NotScores(f"scores are of type {tensor.dtype}; real numbers are expected")
    values = tensor.detach()
    if tensor.layout is not _strided():
        values = values.to_dense()
    on_cpu = values.cpu().double()
    return np.array(on_cpu.numpy(), dtype=np.float64)


def _strided() -> Any:
    return sys.modules["torch"].strided


def _parts(value: Any, most: int) -> list[Any]:
    """The items of a list, a tuple, an object array or an iterator.

    Of an iterator one more than ``most`` are read: it may be endless.
    """
    if value is None:
        raise NotScores("the scores of a prompt are None; one number a response is expected")
    has_no_order = isinstance(value, str | bytes | Mapping | set | frozenset)
    if has_no_order or not isinstance(value, Iterable):
        raise NotScores(
            f"scores are a {type(value).__name__}; an array of numbers is expected, "
            "one row a prompt"
        )
    return list(islice(value, most + 1)) if hasattr(value, "__next__") else list(value)


def _number(value: Any) -> float:
    """One score. A tensor or an array of no dimensions is a number; None is an abstention."""
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return _float(value)
    array = _plain(value)
    if array is not None and array.shape == ():
        return float(array)
    if array is not None:
        raise NotScores(f"a score has shape {array.shape}; one number is expected")
    if isinstance(value, str | bytes | Mapping | complex) or not hasattr(value, "__float__"):
        shown = repr(value)[:40]
        raise NotScores(
            f"could not convert {shown} ({type(value).__name__}) to a score; one number is expected"
        )
    return _float(value)  # Decimal, Fraction and their like


def _float(value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError, TypeError) as error:
        raise NotScores(f"could not convert {str(value)[:20]!r} to a score: {error}") from None


def _finite(scores_BN: Float) -> tuple[Float, dict[int, str]]:
    """The scores within `LARGEST`, and the rows that hold an infinite one, which become NaN.

    An infinite score is no abstention, and no number to compare with.
    """
    wrong: dict[int, str] = {}
    infinite = np.argwhere(np.isinf(scores_BN)).tolist()
    for b, n in infinite:
        score = scores_BN[b, n]
        # The first one of a row is reason enough.
        wrong.setdefault(b, f"score of response {n} is {score}; a finite number or NaN is expected")
    scores_BN[list(wrong)] = np.nan
    return np.clip(scores_BN, -LARGEST, LARGEST), wrong
