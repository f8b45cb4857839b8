"""What comes from outside, checked once.

Each refusal names the value and what is allowed, and changes nothing.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.errors import InputError, LedgerError
from reward_router.payoffs import finite_payoff
from reward_router.types import By, Int

MAX_STEP = 2**47
_FLOATS = (float, np.floating)


def finite_contexts(values: ArrayLike, dim: int | None, single: bool) -> NDArray[Any]:
    """Finite (B, D) float64 or float32 as it came (``single``: rounded to float32).

    InputError otherwise.
    """
    try:
        x = np.asarray(values)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise InputError(f"contexts: {error}; allowed real numbers of shape (B, D)") from None

    if x.ndim != 2 or x.shape[1] < 1 or dim not in (None, x.shape[1]):
        raise InputError(f"contexts of shape {x.shape}; allowed (B, {'D' if dim is None else dim})")

    if single:
        with np.errstate(over="ignore"):  # an overflow is not finite, refused below
            x = x.astype(np.float32)

    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise InputError(
            f"contexts: row {row}, feature {column} is {x[row, column]}; "
            "allowed finite numbers of this dtype"
        )

    return np.ascontiguousarray(x)


def units(ids: Sequence[str], rows: int) -> list[str]:
    """One unit id a context, none twice. InputError otherwise."""
    # a string is a sequence of strings, too
    if isinstance(ids, str):
        raise InputError(f"unit ids {ids!r}; allowed a sequence of strings, not one string")

    named = [checked_text(each, "unit id") for each in ids]
    if len(named) != rows:
        raise InputError(f"route: {rows} contexts but {len(named)} unit ids; allowed one each")

    if len(set(named)) != len(named):
        twice = next(u for i, u in enumerate(named) if u in named[:i])
        raise InputError(
            f"route: unit id {twice!r} occurs twice in one call; a (step, unit) is decided once"
        )

    return named


def step_number(step: int) -> int:
    """A step in [0, 2**47). InputError otherwise."""
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or not 0 <= step < MAX_STEP:
        raise InputError(f"step {step!r}; allowed a whole number in [0, 2**47)")
    return int(step)


def decider(by: By | str) -> By:
    """One of ``By``. InputError otherwise."""
    try:
        return By(by)
    except ValueError:
        raise InputError(f"by={by!r}; allowed {', '.join(By)}") from None


def unit_counts(n_units: int | Sequence[int], rows: int) -> Int:
    """How many units each row stands for, (B,) of at least 1. InputError otherwise."""
    counts = np.asarray(n_units) if rows else np.zeros(0, dtype=np.int64)
    # One number for all rows, or one for each.
    shape_fits = counts.dtype.kind in "iu" and counts.shape in ((), (rows,))
    if not shape_fits or (counts < 1).any() or (counts > 2**53).any():
        raise InputError(
            f"n_units={n_units!r}; allowed one whole number of at least 1, "
            f"or one for each of {rows} rows"
        )
    return np.broadcast_to(counts.astype(np.int64), rows)


def unique_names(arms: Sequence[str], n_arms: int) -> list[str]:
    """One name an arm, none twice. InputError otherwise."""
    # A text is a sequence of letters, and no list of names.
    given = [] if isinstance(arms, str) else arms
    checked = [checked_text(name, "arm name") for name in given]
    all_different = len(set(checked)) == len(checked)
    if len(checked) != n_arms or not all_different:
        raise InputError(
            f"arms {arms!r}; allowed {n_arms} different names, one for each of the router's arms"
        )
    return checked


def prices(costs: Sequence[float] | None, arms: Sequence[str]) -> dict[str, float | None]:
    """One price of at least 0 an arm. InputError otherwise."""
    if costs is None:
        return {}
    checked = [finite_payoff(cost, "cost") for cost in costs]
    if len(checked) != len(arms) or min(checked) < 0:
        raise InputError(f"costs {checked}; allowed {len(arms)} numbers of at least 0, one an arm")
    return dict(zip(arms, checked, strict=True))


def fallback(order: Sequence[str], arms: Sequence[str]) -> list[str]:
    """Names of arms, each once. InputError otherwise."""
    if isinstance(order, str) or len(set(order)) != len(order) or not set(order) <= set(arms):
        raise InputError(f"fallback {order!r}; allowed names of the arms {list(arms)}, none twice")
    return list(order)


def checked_text(value: str, what: str) -> str:
    """Any Unicode text. InputError where it is no string or holds half of a surrogate pair."""
    if not isinstance(value, str):
        raise InputError(f"{what} {value!r}; allowed a string")

    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} {value!r} holds half of a surrogate pair; allowed any Unicode text"
        ) from None

    return str(value)


def payoff(value: float, kind: str) -> float:
    """A finite number, for ``kind`` payoff in [0, 1]. InputError otherwise."""
    number = finite_payoff(value, "payoff")
    if kind == "payoff" and not 0.0 <= number <= 1.0:
        raise InputError(
            f"payoff {number!r}; allowed 0 to 1 (give raw payoffs to feedback_raw); "
            "nothing was changed"
        )

    return number


def number_or_none(value: float, what: str) -> float | None:
    """A finite number, or None for NaN. InputError otherwise."""
    if isinstance(value, _FLOATS) and math.isnan(value):
        return None
    return finite_payoff(value, what)


def decision_key(step: int, unit: str) -> bytes:
    """16 bytes from (step, unit): the step, then BLAKE2.

    The step comes first, so that neighbours in time lie together in the index.
    """
    digest = hashlib.blake2b(f"{step}\x1f{unit}".encode(), digest_size=10).digest()
    return step.to_bytes(6, "big") + digest


def key_of(decision_id: str) -> bytes:
    """The bytes of a decision id. LedgerError where it cannot be one."""
    try:
        key = bytes.fromhex(decision_id)
    except (TypeError, ValueError):
        key = b""

    if len(key) != 16:
        raise LedgerError(
            f"decision id {decision_id!r} is not in the ledger (an id has 32 hexadecimal digits); "
            "nothing was changed"
        )

    return key
