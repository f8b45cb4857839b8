"""Checks of what routers are given.

Each message names the value, the limit and the consequence.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reward_router.errors import InputError
from reward_router.types import Float, Int

MAX_ARMS = 100_000
MAX_DIM = 1_000_000
MAX_PAYOFF = 1e6
NUMBERS = (int, float, np.integer, np.floating)


def whole(name: str, value: object, low: int, high: int) -> int:
    """An integer in [low, high], or InputError."""
    # a bool is an int in Python, and is no number here
    is_bool = isinstance(value, bool | np.bool_)
    if is_bool or not isinstance(value, int | np.integer):
        raise InputError(f"{name} must be a whole number, got {value!r}")

    in_range = low <= value <= high
    if not in_range:
        raise InputError(f"{name} must lie in [{low}, {high}], got {value}")
    return int(value)


def real(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """A finite number in [low, high] (``above``: > low), or InputError."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, NUMBERS):
        raise InputError(f"{name} must be a number, got {value!r}")

    number = float(value)
    if not (low <= number <= high) or (above and number == low):
        bracket = "(" if above else "["
        raise InputError(f"{name} must lie in {bracket}{low:g}, {high:g}], got {number:g}")

    return number


def contexts(context_BD: object, dim: int | None, *, look: bool = True) -> NDArray[Any]:
    """(B, dim) numbers as they came (float32 or float64); ``dim=None``: any width.

    They are finite unless ``look`` is off. Whole numbers and truth values (one-hot) become float64,
    as the dispatcher takes them.
    """
    x_BD = np.asarray(context_BD)
    if x_BD.dtype.kind not in "fiub":
        raise InputError(f"contexts must be real numbers, got dtype {x_BD.dtype}")

    if x_BD.ndim != 2 or (dim is not None and x_BD.shape[1] != dim):
        width = "D" if dim is None else dim
        raise InputError(f"contexts must have shape (B, {width}), got {x_BD.shape}")

    if x_BD.dtype not in (np.float32, np.float64):
        x_BD = x_BD.astype(np.float64)

    if look:
        finite(x_BD)

    return x_BD


def finite(x_BD: NDArray[Any]) -> None:
    """InputError that names the first entry that is not finite."""
    if not np.isfinite(x_BD).all():
        row, column = np.argwhere(~np.isfinite(x_BD))[0]
        raise InputError(
            f"context row {row}, feature {column} is {x_BD[row, column]}; it must be finite"
        )


def arms(arm_B: object, rows: int, n_arms: int) -> Int:
    """(B,) arm indices in [0, n_arms), or InputError."""
    index_B = np.asarray(arm_B)
    if index_B.shape != (rows,):
        raise InputError(
            f"one arm a context row is needed: {rows} rows, arms of shape {index_B.shape}"
        )
    if rows and index_B.dtype.kind not in "iu":
        raise InputError(f"arms must be whole numbers, got dtype {index_B.dtype}")

    if rows and (index_B.min() < 0 or index_B.max() >= n_arms):
        bad = index_B[(index_B < 0) | (index_B >= n_arms)][0]
        raise InputError(f"arm {bad} does not exist: the router has arms 0 to {n_arms - 1}")

    return index_B.astype(np.int64)


def payoffs(
    payoff_B: object, rows: int, low: float = -MAX_PAYOFF, high: float = MAX_PAYOFF
) -> Float:
    """(B,) finite payoffs in [low, high], or InputError."""
    y_B = np.asarray(payoff_B)
    if y_B.shape != (rows,) or y_B.dtype.kind not in "fiub":
        raise InputError(
            f"one payoff a context row is needed: {rows} rows, "
            f"payoffs {y_B.dtype} of shape {y_B.shape}"
        )

    y_B = y_B.astype(np.float64)
    ok_B = (y_B >= low) & (y_B <= high)
    if not ok_B.all():
        raise InputError(
            f"payoff {y_B[~ok_B][0]} is outside [{low:g}, {high:g}]; "
            "nothing was learned from this call"
        )

    return y_B


def propensities(propensity_B: object, rows: int) -> Float:
    """(B,) probabilities in (0, 1], or InputError."""
    p_B = np.asarray(propensity_B)
    if p_B.shape != (rows,) or p_B.dtype.kind != "f":
        raise InputError(
            f"one propensity a row is needed: {rows} rows, got {p_B.dtype} of shape {p_B.shape}"
        )
    if not ((p_B > 0) & (p_B <= 1)).all():
        raise InputError(
            "propensities must lie in (0, 1]: an arm of probability 0 cannot have been drawn"
        )

    return p_B.astype(np.float64)


def stored(
    state: Mapping[str, NDArray[Any]],
    prefix: str,
    name: str,
    dtype: DTypeLike,
    shape: tuple[int | None, ...],
) -> NDArray[Any]:
    """A copy of one array of a state dict, of this dtype and shape, and finite.

    None in ``shape`` stands for any length. InputError otherwise.
    """
    # the parts of a state share one dictionary
    name = prefix + name
    if name not in state:
        raise InputError(f"state has no entry {name!r}; it holds {sorted(state)[:8]}")

    value = np.asarray(state[name])
    lengths = zip(shape, value.shape, strict=False)
    fits = value.ndim == len(shape) and all(n is None or n == m for n, m in lengths)
    if not fits or value.dtype != np.dtype(dtype):
        raise InputError(
            f"state {name!r} must be {np.dtype(dtype)} of shape {shape}, "
            f"got {value.dtype} of {value.shape}"
        )
    if not np.isfinite(value).all():
        raise InputError(f"state {name!r} holds a value that is not finite")

    return value.copy()


def same_kind(state: Mapping[str, NDArray[Any]], kind: str, entries: int | None = None) -> None:
    """InputError unless the state was written by a router of this kind."""
    written_by = None
    if "kind" in state:
        written_by = str(np.asarray(state["kind"]))
    if written_by != kind:
        raise InputError(f"this state belongs to {written_by or 'no router'}, not to {kind}")

    # An entry more or less is the state of another version, which must not be read by halves.
    if entries is not None and len(state) != entries:
        raise InputError(f"state has {len(state)} entries, {kind} writes {entries}")


def update(
    context_BD: object, arm_B: object, payoff_B: object, propensity_B: object, n_arms: int
) -> None:
    """InputError where an update's rows, arms, payoffs or propensities do not fit."""
    rows = len(contexts(context_BD, None))
    arms(arm_B, rows, n_arms)
    payoffs(payoff_B, rows)
    if propensity_B is not None:
        propensities(propensity_B, rows)


def removable(index: int, n_arms: int) -> None:
    """InputError where no arm of K bears this index, or it is the only one."""
    whole("arm", index, 0, n_arms - 1)
    if n_arms == 1:
        raise InputError("the last arm cannot be removed: a router needs at least one")
