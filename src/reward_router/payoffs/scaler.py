"""From what was measured (losses, labels) to the payoff in [0, 1] a router learns from.

Every formula of ``losses`` returns a *raw* payoff, higher is better; ``QuantileScaler`` brings raw
payoffs to [0, 1] (LASER eq. A.2). Do not negate twice. Left out: payoffs that are in [0, 1] by
nature (a verifier's verdict, a human label, a probe set's accuracy) go to ``Dispatcher.feedback``
as they are.

Deviations from LASER, each measured: (1) the history excludes the value being scaled; (2) 0.5 until
``warmup`` values exist or where the two quantiles coincide (the paper says nothing); (3)
``scale_together`` scales the payoffs a run holds back at its start by their common quantiles,
because one after the other the order of the warm-up decides which arm looks good.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import State

MIN_SPREAD = 1e-12


class QuantileScaler:
    """Running quantile scaling of raw payoffs to [0, 1] (LASER eq. A.2).

    A value at or below the ``low`` quantile of the history gives 0, at or above the ``high``
    quantile 1, linear between. ``scale`` costs O(log n) comparisons and one memory move. InputError
    where an argument is out of range or a value is not finite.

    Args:
        low: quantile of the history that becomes 0, in [0, 1).
        high: quantile of the history that becomes 1, above ``low`` and at most 1.
        warmup: values that the history needs; until then every payoff is 0.5.
        window: number of the last values that are kept; None: all of them.

    >>> s = QuantileScaler(warmup=2)
    >>> [round(s.scale(v), 6) for v in (0.0, 1.0, 0.5, 9.0)]
    [0.5, 0.5, 0.5, 1.0]
    """

    def __init__(
        self, low: float = 0.2, high: float = 0.8, warmup: int = 5, window: int | None = None
    ) -> None:
        """0 <= low < high <= 1, warmup at least 1, window None or at least max(2, warmup)."""
        if not 0.0 <= low < high <= 1.0:
            raise InputError(
                f"QuantileScaler: low={low!r}, high={high!r}; allowed 0 <= low < high <= 1"
            )
        if warmup < 1:
            raise InputError(f"QuantileScaler: warmup={warmup!r}; allowed 1 or more values")

        if window is not None and window < max(2, warmup):
            least = max(2, warmup)
            raise InputError(
                f"QuantileScaler: window={window!r}; "
                f"allowed None or at least max(2, warmup)={least}"
            )

        self.low = float(low)
        self.high = float(high)
        self.warmup = int(warmup)
        self.window = window
        self._history: list[float] = []
        self._sorted: list[float] = []
        self._synced = 0

    def __len__(self) -> int:
        """Number of values in the history."""
        return len(self._history)

    def scale(self, value: float) -> float:
        """Scale one value by the history before it, then append it.

        O(log n) and a memory move; InputError if not finite.
        """
        # Scaled before it joins the history: a value is not compared with itself (deviation 1).
        scaled = self.preview([value])[0]
        self.push(finite_payoff(value, "payoff"))
        return scaled

    def preview(self, values: Sequence[float]) -> list[float]:
        """What ``scale`` would give for each value in turn, without changing the history.

        One copy of it for two or more.
        """
        clean = [finite_payoff(v, "payoff") for v in values]
        self._sync()
        # one value changes nothing, so the sorted view need not be copied
        ordered = self._sorted if len(clean) == 1 else list(self._sorted)
        scaled = []

        for i, value in enumerate(clean):
            scaled.append(self._scaled(value, ordered))
            if len(clean) > 1:
                insort(ordered, value)

            if self.window is not None and len(ordered) > self.window:
                # the oldest value leaves, be it of the history or of these
                oldest = len(self._history) + i - self.window
                if oldest < len(self._history):
                    gone = self._history[oldest]
                else:
                    gone = clean[oldest - len(self._history)]

                del ordered[bisect_left(ordered, gone)]

        return scaled

    def scale_together(self, values: Sequence[float]) -> list[float]:
        """Scale values by their own common quantiles, whatever their order. O(n log n).

        The history is neither read nor changed.
        """
        ordered = sorted(finite_payoff(value, "payoff") for value in values)
        low = _quantile(ordered, self.low)
        high = _quantile(ordered, self.high)

        scaled = []
        for value in values:
            # + 0.0 makes -0.0 the same number as 0.0
            number = float(value) + 0.0
            scaled.append(_linear(number, low, high))
        return scaled

    def push(self, value: float) -> None:
        """Append one value to the history without scaling it.

        O(1); the sorted view is brought up to date by the next scale.
        """
        self._history.append(value)
        too_long = self.window is not None and len(self._history) > self.window
        if too_long:
            # The oldest value leaves both lists: the sorted one has to be up to date to find it.
            self._sync()
            oldest = self._history.pop(0)
            place = bisect_left(self._sorted, oldest)
            del self._sorted[place]
            self._synced -= 1

    def reset(self) -> None:
        """Forget the history (the ``per_iteration`` option)."""
        self._load([])

    def state_dict(self) -> State:
        """The history as one float64 array, oldest first."""
        return {"history": np.array(self._history, dtype=np.float64)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the state does not fit."""
        history = np.asarray(state.get("history", np.empty((0, 0))))
        is_vector = history.ndim == 1 and history.dtype == np.float64
        if set(state) != {"history"} or not is_vector or not np.isfinite(history).all():
            raise InputError(
                f"QuantileScaler state: keys {sorted(state)}; "
                "allowed one finite float64 vector 'history'"
            )
        if self.window is not None and len(history) > self.window:
            raise InputError(
                f"QuantileScaler state: {len(history)} values; allowed at most window={self.window}"
            )

        self._load(history.tolist())

    def _load(self, history: list[float]) -> None:
        self._history = history
        self._sorted = []
        self._synced = 0

    def _sync(self) -> None:
        """Bring the sorted view up to date: many new values by sorting, few by inserting."""
        fresh = self._history[self._synced :]
        # A sort of nearly sorted values beats many insertions, each of which moves memory.
        if len(fresh) > 32:
            self._sorted = sorted(self._history)
        else:
            for value in fresh:
                insort(self._sorted, value)

        self._synced = len(self._history)

    def _scaled(self, value: float, ordered: Sequence[float]) -> float:
        if len(ordered) < self.warmup:
            return 0.5
        low = _quantile(ordered, self.low)
        high = _quantile(ordered, self.high)
        return _linear(value, low, high)


def finite_payoff(value: float, what: str) -> float:
    """The value as a float (-0.0 as 0.0); InputError where it is not a finite real number."""
    try:
        number = float(value) + 0.0
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} {value!r}: allowed a finite number") from None

    if not math.isfinite(number):
        raise InputError(
            f"{what} {number!r}: allowed a finite number; "
            "an arm that gives none is a failure, not a payoff"
        )

    return number


def _quantile(ordered: Sequence[float], q: float) -> float:
    # numpy's "linear" (Hyndman and Fan's type 7): position q (n - 1) between two order statistics
    last = len(ordered) - 1
    position = q * last
    i = int(position)
    below = ordered[i]
    above = ordered[min(i + 1, last)]
    share = position - i
    return below + (above - below) * share


def _linear(value: float, lo: float, hi: float) -> float:
    # also where the difference is NaN
    if not hi - lo >= MIN_SPREAD:
        return 0.5
    share = (value - lo) / (hi - lo)  # LASER eq. A.2
    return min(1.0, max(0.0, share))
