"""A run's figures on their way to its trackers (``report_to``).

What a tracker is told comes from the same records as metrics.jsonl. A tracker that fails is warned
about once, in one line without secrets, and let go; the run goes on, and ``--resume`` asks it
again. Only the first process of a run reports.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.kinds import TRACKERS
from reward_router.limits import within
from reward_router.rundir import RunDir
from reward_router.secrecy import hidden
from reward_router.trackers import TrackedRun, Tracker
from reward_router.trackers.figures import gold_figures, step_figures

START_S = 120.0
"""Seconds that a tracker may take to start, and to close: it may ask a service."""
LOG_S = 30.0
"""Seconds that it may take for the figures of one step."""
SHORTEST_SECRET = 6
"""Characters; a shorter value of a secret variable would blot out words."""
_SECRET_VARIABLE = re.compile(r"(?i).*(key|token|password|passwd|secret|credentials?)")
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def check_trackers(names: Sequence[str]) -> None:
    """InputError with the pip command for a tracker whose package is not installed."""
    for name in names:
        kind = TRACKERS[name]
        if kind.package and not _installed(kind.package):
            raise InputError(
                f"report_to: {name} is not installed; pip install {kind.install}, "
                "or leave it out of report_to"
            )


def _installed(package: str) -> bool:
    """Whether a package can be imported.

    A plain folder of its name does not count: wandb and mlflow make one where they run.
    """
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


@dataclass
class _Told:
    """What a tracker was told of a run, in all processes so far.

    Args:
        run_id: the tracker's own name of the run.
        step: the last step whose figures it has; 0: none.
        gold: the gold that it has.
    """

    run_id: str | None = None
    step: int = 0
    gold: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, kept: Any) -> "_Told":
        """What trackers.json holds of a tracker; what is none of it counts as never told."""
        told = cls()
        if isinstance(kept, Mapping):
            run_id = kept.get("run_id")
            told.run_id = run_id if isinstance(run_id, str) else None
            told.step = int(kept.get("step", 0))
            told.gold = list(kept.get("gold", []))
        return told


class Reporter:
    """The trackers of one run, as far as they still answer.

    A context manager: leaving the block closes them. Nothing that a tracker raises leaves it.

    Args:
        config: the run's configuration; ``report_to`` names the trackers.
        run: its directory, which keeps what trackers were told (trackers.json).
        say: is told where figures can be seen.
        warn: is told, once a tracker, why it was let go.
    """

    def __init__(
        self,
        config: Config,
        run: RunDir,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """Nothing is started yet."""
        self.config = config
        self.run = run
        self.say = say
        self.warn = warn
        self.trackers: dict[str, Tracker] = {}
        self.told: dict[str, _Told] = {}

    def start(self, first: int) -> None:
        """Start the trackers; ``first`` is the first step that this process measures."""
        # A resumed run goes on in the tracker's own run: its id was kept.
        for name, kept in self.run.read_trackers().items():
            self.told[name] = _Told.of(kept)
        config = self.config.model_dump(mode="json")
        for name in self.config.report_to:
            told = self.told.setdefault(name, _Told())
            tracked = TrackedRun(self.run.path, config, told.run_id, first)
            self._start(name, tracked)
        self._keep()

    def catch_up(self) -> None:
        """Tell what the log has of earlier steps and a tracker lacks, because it was let go."""
        if self.trackers:
            for record in self.run.read_log():
                self.step(record)

    def _start(self, name: str, tracked: TrackedRun) -> None:
        kind = TRACKERS[name]
        told = self.told[name]
        # One that voids what comes again has nothing of those steps any more.
        if kind.replaces:
            told.step = min(told.step, max(0, tracked.first - 1))
            told.gold = [name for name in told.gold if tracked.first > 0 and "before" in name]
        tracker = self._try(name, "start", START_S, lambda: kind.make(tracked))
        if tracker is None:
            return
        self.trackers[name] = tracker
        run_id = getattr(tracker, "run_id", None)
        told.run_id = None if run_id is None else str(run_id)
        where = getattr(tracker, "where", None)
        if where:
            self.say(f"reporting to {name}: {_without_secrets(str(where))}")

    def step(self, record: Mapping[str, Any]) -> None:
        """Tell the figures of one line of metrics.jsonl."""
        step = record["step"] + 1
        for name in list(self.trackers):
            if step <= self.told[name].step:
                continue
            if self._log(name, step_figures(record, TRACKERS[name].prefix), step):
                self.told[name].step = step
        self._keep()

    def gold(self, kind: str, when: str, share: float, step: int) -> None:
        """Tell one kind of gold, before or after training."""
        figures = gold_figures(kind, when, share)
        [figure] = figures
        for name in list(self.trackers):
            gold = self.told[name].gold
            if figure not in gold and self._log(name, figures, step):
                gold.append(figure)
        self._keep()

    def close(self, finished: bool) -> None:
        """Close all trackers; ``finished``: whether the run came to its end."""
        for name in list(self.trackers):
            closing = partial(self.trackers[name].close, finished)
            self._try(name, "close", START_S, closing)
        self.trackers = {}

    def _log(self, name: str, figures: Mapping[str, float], step: int) -> bool:
        """Whether the tracker took the figures."""
        self._try(name, f"step {step}", LOG_S, partial(self.trackers[name].log, figures, step))
        return name in self.trackers

    def _keep(self) -> None:
        if self.trackers:
            self.run.write_trackers({name: asdict(told) for name, told in self.told.items()})

    def _try(self, name: str, when: str, seconds: float, work: Callable[[], Any]) -> Any:
        """What the tracker returns; None where it failed, which is said, and it is let go."""
        try:
            return within(partial(_as_a_failure, work), f"tracker {name}", seconds)
        except Exception as error:
            # the package is foreign, and so is the network behind it: a run does not stop for them
            self.trackers.pop(name, None)
            self.warn(
                f"warning: report_to: {name} failed ({when}): {_one_line(error)}; "
                f"the run goes on without it, and {self.run.metrics.name} has every figure"
            )
            return None

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(finished=kind is None)


def _as_a_failure(work: Callable[[], Any]) -> Any:
    """What ``work`` returns; whatever it raises is an Exception.

    It runs in a thread of its own, where a KeyboardInterrupt or a SystemExit is never the user's.
    """
    try:
        return work()
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        raise RuntimeError(f"{type(error).__name__} {error}") from error


LONGEST_REASON = 300
"""Characters of a tracker's error that are shown."""


def _one_line(error: Exception) -> str:
    """An error without line breaks and without secrets."""
    text = _without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "..."


def _without_secrets(text: str) -> str:
    """A text without the values of secret variables, and without passwords in URLs.

    >>> _without_secrets("cannot reach https://me:pass-word@host:5000/api")
    'cannot reach https://***@host:5000/api'
    """
    values = [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]
    secrets = [value for value in values if len(value) >= SHORTEST_SECRET]
    return _IN_URL.sub("***@", hidden(text, secrets))
