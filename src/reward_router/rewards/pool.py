"""All arms of a run behind one door: loaded at the first request, few at a time.

An arm is foreign code: whatever it raises (``sys.exit`` too), returns in the wrong shape or takes
too long over becomes a `ScoreResult` that says so, never a score; where it can answer other rows,
only the rows that it cannot answer fail. What a person asks for (KeyboardInterrupt) passes through.
Leaves out: the fallback (the loop's), and stopping a thread that overran (Python cannot): its arm
stays busy until it returns.
"""

import gc
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.examples import Example
from reward_router.kinds import ARMS, nearest
from reward_router.rewards.kinds.gold import KnownPrompts
from reward_router.rewards.metered import is_metered
from reward_router.rewards.request import ArmRequest, ScoreResult, exception_in_line
from reward_router.rewards.spec import (
    ArmSpec,
    ModelSource,
    build_arm,
    check_spec,
    load_model,
    needs_gold,
    source_of,
)
from reward_router.types import RewardModel


class RewardPool:
    """Named arms; at most ``resident`` loaded models at a time, the least recently used leaves.

    Arms on the same model and dtype share one copy of its weights. Models are loaded at the first
    request, or by `load`; ``loads`` counts how often that happened. InputError for a spec that
    cannot be right.

    Args:
        specs: the arms, by name.
        resident: how many loaded models there are at most.
        device: where models run.
        dtype: the precision of their weights, where an arm names none.
        timeout: seconds that scoring may take in one request, loading excluded; None: no limit.
        models: by name, reward models that exist already.

    >>> pool = RewardPool({"short": ArmSpec("short", "metric", options={"metric": "length"})})
    >>> pool.score("short", ["Say hi."], [["hi", "hello there"]]).scores_BN.tolist()
    [[-1.0, -2.0]]
    """

    def __init__(
        self,
        specs: Mapping[str, ArmSpec],
        *,
        resident: int = 2,
        device: str = "cpu",
        dtype: str = "auto",
        timeout: float | None = None,
        models: Mapping[str, RewardModel] | None = None,
    ) -> None:
        """Checks every spec; loads nothing."""
        if resident < 1:
            raise InputError(f"resident is {resident}; at least one model must stay loaded")
        if timeout is not None and not timeout > 0:
            raise InputError(
                f"timeout is {timeout}; a number of seconds above 0 is expected, or none"
            )
        for spec in specs.values():
            check_spec(spec)
        self.resident = resident
        self.timeout = timeout
        self.loads = 0
        self._specs = dict(specs)
        self._given = dict(models or {})
        self._sources = {
            name: source_of(spec, dtype=dtype, device=device) for name, spec in specs.items()
        }
        self._loaded: OrderedDict[ModelSource, Any] = OrderedDict()
        self._built: dict[str, RewardModel] = {}
        self._gold = KnownPrompts()
        self._overran: dict[str, threading.Lock] = {}

    @property
    def names(self) -> list[str]:
        """The arms, in the order of the configuration."""
        return [*self._specs, *self._given]

    def know(self, examples: Iterable[Example]) -> None:
        """Tell these prompts and their rules to the arms that need gold, if there are any."""
        if any(needs_gold(spec) for spec in self._specs.values()):
            self._gold.add(examples)

    @property
    def stays(self) -> bool:
        """Whether every model stays in memory once it is loaded."""
        sources = {source for source in self._sources.values() if source is not None}
        return len(sources) <= self.resident

    def load(self, arm: str) -> RewardModel:
        """The arm's reward model, loaded now if it is not.

        InputError where that fails, so that a run can stop before it starts.
        """
        if arm in self._given:
            return self._given[arm]
        if arm not in self._specs:
            raise InputError(f"arm {arm!r} is unknown{nearest(arm, self.names)}")
        source = self._sources[arm]
        if source is not None:
            self._make_resident(source)
        if arm not in self._built:
            loaded = None if source is None else self._loaded[source]
            self._built[arm] = build_arm(self._specs[arm], loaded, gold=self._gold)
        return self._built[arm]

    def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """Ask one arm about all responses of all prompts.

        Rows may differ in length; equal responses are computed once.
        """
        if len(prompts) != len(responses):
            raise InputError(f"{len(prompts)} prompts but {len(responses)} rows of responses")
        if arm not in self.names:
            raise InputError(f"arm {arm!r} is unknown{nearest(arm, self.names)}")
        ask = ArmRequest.of(prompts, responses)
        # Python cannot stop its thread, and two threads on one model could disturb each other.
        busy = self._overran.get(arm)
        if busy is not None and busy.locked():
            return ask.failed(
                arm, "timeout", "still busy with a request that overran its time", 0.0, 0.0
            )
        # Loading is caught and timed apart: the time limit is for scoring.
        with _Caught() as loading:
            loading.value = self.load(arm)
        if loading.interrupt is not None:
            raise loading.interrupt
        if loading.error is not None:
            self._forget(arm)
            refused = isinstance(loading.error, InputError)
            return ask.failed(
                arm, "failed", exception_in_line(loading.error), 0.0, loading.seconds, refused
            )
        # It compares the responses of a row, so equal ones may not be joined.
        if is_metered(loading.value) and loading.value.groupwise:
            ask = ArmRequest.of(prompts, responses, join=False)
        ragged = arm in self._specs and ARMS[self._specs[arm].kind].ragged
        scoring = self._timed(arm, lambda: ask.run(loading.value, ragged))
        if scoring is None:
            return ask.failed(
                arm,
                "timeout",
                f"took longer than {self.timeout} s",
                self.timeout or 0.0,
                loading.seconds,
            )
        if scoring.error is not None:
            return ask.failed(
                arm, "failed", exception_in_line(scoring.error), scoring.seconds, loading.seconds
            )
        return ask.result(arm, scoring.value, scoring.seconds, loading.seconds)

    def order(self, arms: Iterable[str]) -> list[str]:
        """The arms in the order that loads least.

        Those in memory come first, then arms of one model together, the others as configured.

        >>> lengths = {name: ArmSpec(name, "metric", options={"metric": "length"}) for name in "ab"}
        >>> RewardPool(lengths).order({"b", "a"})
        ['a', 'b']
        """
        names = self.names
        first_place: dict[ModelSource | None, int] = {}
        for place, arm in enumerate(names):
            first_place.setdefault(self._sources.get(arm), place)

        def load_and_place(arm: str) -> tuple[bool, int, int]:
            source = self._sources.get(arm)
            place = names.index(arm)
            if source is None:
                return False, place, place
            return source not in self._loaded, first_place[source], place

        return sorted(arms, key=load_and_place)

    def _make_resident(self, source: ModelSource) -> None:
        if source in self._loaded:
            self._loaded.move_to_end(source)
            return
        while len(self._loaded) >= self.resident:
            # The least recently used one stands first.
            dropped, _ = self._loaded.popitem(last=False)
            # An arm that was built on it would keep its weights in memory.
            for arm in list(self._built):
                if self._sources[arm] == dropped:
                    del self._built[arm]
            _free_memory()
        self.loads += 1
        self._loaded[source] = load_model(source)

    def _forget(self, arm: str) -> None:
        """After a load that failed, possibly for want of memory: let go of what it left behind."""
        self._built.pop(arm, None)
        _free_memory()

    def _timed(self, arm: str, work: Callable[[], Any]) -> "_Caught | None":
        """Run inside the time limit; None where it overran.

        Then its thread goes on, and its result is dropped.
        """
        caught = _Caught()

        def body() -> None:
            with caught:
                caught.value = work()

        if self.timeout is None:
            body()
            return _or_interrupted(caught)
        under_way = _worker().begin(body)
        if not under_way.acquire(timeout=self.timeout):
            self._overran[arm] = under_way
            return None
        return _or_interrupted(caught)


class _Worker(threading.Thread):
    """A thread that does one piece of work after another, so that none is started for each.

    Where torch is loaded it does one piece and ends.

    The program does not wait for it when it ends: an arm may never return.
    """

    def __init__(self) -> None:
        super().__init__(name="arm", daemon=True)
        self._waiting = SimpleQueue[tuple[Callable[[], None], threading.Lock]]()

    def begin(self, work: Callable[[], None]) -> threading.Lock:
        """Have ``work``, which raises nothing, done; the lock is held until it is."""
        under_way = threading.Lock()
        under_way.acquire()
        self._waiting.put((work, under_way))
        return under_way

    def run(self) -> None:
        """Work, and be free again before whoever waits goes on: they may have more of it."""
        while True:
            work, under_way = self._waiting.get()
            work()
            # What the work held must not live on while this waits for more.
            del work
            if "torch" in sys.modules:
                # A thread that computed with torch keeps a team of OpenMP threads for as long as it
                # lives. Two teams are more threads than cores, and then OpenMP puts threads to
                # sleep where they would wait a moment for each other: training and sampling take a
                # third longer. Beside such a model, starting a thread costs nothing.
                under_way.release()
                return
            _free_workers.append(self)
            under_way.release()


_free_workers: list[_Worker] = []


def _worker() -> _Worker:
    """A worker that has nothing to do."""
    while True:
        try:
            worker = _free_workers.pop()
        except IndexError:
            worker = _Worker()
            worker.start()
            return worker
        # after a fork the parent's threads are not there
        if worker.is_alive():
            return worker


class _Caught:
    """A timed block whose exceptions become data.

    A KeyboardInterrupt is kept apart, for whoever waits to raise it.
    """

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.interrupt: KeyboardInterrupt | None = None
        self.seconds = 0.0

    def __enter__(self) -> "_Caught":
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.seconds = time.perf_counter() - self._start
        if isinstance(error, KeyboardInterrupt):
            self.interrupt = error
        else:
            self.error = error
        return True


def _or_interrupted(caught: _Caught) -> _Caught:
    """What was caught; a KeyboardInterrupt goes on to the caller."""
    if caught.interrupt is not None:
        raise caught.interrupt
    return caught


def _free_memory() -> None:
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
