"""The one policy of all remote arms: how many requests, how long, and what is tried again.

Tried again are answers 408, 429 and 5xx alone, after a pause that doubles and is drawn from [half,
whole] (or what Retry-After says). A request that timed out or found nobody is not: the arm rests
instead (`reward_router.ledger.breaker`). While it does not answer it is given ``patience`` seconds
instead of ``timeout`` (or twice what its slowest answer took), so that asking whether it is back
costs little.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from reward_router.errors import InputError
from reward_router.rewards.names import nearest

AGAIN = frozenset({408, 429, *range(500, 600)})
"""Status codes after which a request is sent again."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
MINUTE = 60.0


@dataclass(frozen=True)
class CallPolicy:
    """What a remote arm may do. Written as the option ``calls: {timeout: 30, rpm: 500}``.

    Args:
        timeout: seconds that one request may take.
        patience: the same while the arm has not answered since its last timeout; twice its slowest
            answer where that is more.
        concurrency: requests at once.
        rpm: requests a minute (None: no limit). It is each arm's own: arms at one provider share
            out what it allows.
        tpm: tokens a minute, likewise.
        retries: further tries after 429 and 5xx.
        cache: whether answers are kept in memory, or the file that they are kept in.
        canaries: after how many scored responses the canaries are scored again; 0: never.
        on_drift: what happens where they come out otherwise: warn, rest or stop.
        ca: a file of certificates to trust.
    """

    timeout: float = 60.0
    patience: float = 1.0
    concurrency: int = 16
    rpm: int | None = None
    tpm: int | None = None
    retries: int = 4
    cache: bool | str = True
    canaries: int = 1000
    on_drift: str = "warn"
    ca: str | None = None

    def __post_init__(self) -> None:
        """InputError names the number that is out of range."""
        for name in ("timeout", "patience"):
            _check(name, getattr(self, name), float, 0.001, 3600.0)
        _check("concurrency", self.concurrency, int, 1, 1024)
        _check("retries", self.retries, int, 0, 20)
        _check("canaries", self.canaries, int, 0, 10**9)
        for name in ("rpm", "tpm"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), int, 1, 10**9)
        if self.on_drift not in ("warn", "rest", "stop"):
            raise InputError(f"calls.on_drift={self.on_drift!r}; allowed warn, rest, stop")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "CallPolicy":
        """From the option ``calls``; InputError names the key that is unknown."""
        if given is not None and not isinstance(given, Mapping):
            raise InputError(
                f"calls is {given!r}; a mapping such as {{timeout: 30, rpm: 500}} is expected"
            )
        known = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise InputError(f"calls has no key {name!r}{nearest(str(name), known)}")
        return cls(**(given or {}))

    def pause(self, attempt: int, draw: float, retry_after: float | None) -> float:
        """Seconds before try ``attempt`` + 1, counted from 0.

        ``draw`` in [0, 1) moves it over the upper half of the doubled pause.
        """
        if retry_after is not None:
            return min(max(retry_after, 0.0), LONGEST_PAUSE)
        whole = min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE)
        return whole * (0.5 + 0.5 * draw)


class Timekeeper(Protocol):
    """Time, so that tests need none of it."""

    def now(self) -> float:
        """Seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def draw(self) -> float:
        """A number in [0, 1) for jitter. It moves pauses alone, never a decision or a score."""
        ...


class RealClock:
    """The machine's."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)

    def draw(self) -> float:
        """Not keyed on purpose: processes that were started alike must not retry in step."""
        return random.SystemRandom().random()


class Pace:
    """At most ``per_minute`` of something in any 60 seconds: requests, or tokens."""

    def __init__(self, per_minute: int | None, clock: Timekeeper) -> None:
        """Nothing was spent yet."""
        self.per_minute = per_minute
        self.clock = clock
        self.spent: deque[tuple[float, float]] = deque()

    async def take(self, amount: float) -> None:
        """Wait until ``amount`` fits. O(1) amortised.

        An amount over the whole limit waits for an empty minute.
        """
        if self.per_minute is None:
            return
        while (wait := self._wait(amount)) > 0:
            await self.clock.sleep(wait)
        self.spent.append((self.clock.now(), amount))

    def correct(self, amount: float) -> None:
        """What was reckoned turned out to be ``amount`` more (or less): it counts from now."""
        if self.per_minute is not None and amount:
            self.spent.append((self.clock.now(), amount))

    def _wait(self, amount: float) -> float:
        now = self.clock.now()
        while self.spent and self.spent[0][0] <= now - MINUTE:
            self.spent.popleft()

        spent_lately = sum(each for _, each in self.spent)
        over = spent_lately + amount - (self.per_minute or 0)
        # Where nothing was spent, waiting would not help: the amount alone is too much.
        if over <= 0 or not self.spent:
            return 0.0

        for moment, each in self.spent:  # the oldest leave first
            over -= each
            if over <= 0:
                return max(moment + MINUTE - now, 1e-3)
        newest, _ = self.spent[-1]
        return max(newest + MINUTE - now, 1e-3)


def _check(name: str, value: Any, kind: type, low: float, high: float) -> None:
    kinds = (int,) if kind is int else (int, float)
    # a bool is an int in Python, and is no number here
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    in_range = is_number and low <= value <= high
    if not in_range:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"calls.{name}={value!r}; allowed {what} from {low:g} to {high:g}")
