"""A run's figures on their way to its trackers (``report_to``).

What a tracker is told comes from the same records as metrics.jsonl. A tracker that fails is warned
about once, in one line without secrets, and let go; the run goes on, and ``--resume`` asks it
again. Only the first process of a run reports.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.kinds import TRACKERS, TrackerKind
from reward_router.limits import within
from reward_router.rundir import RunDir
from reward_router.secrecy import hidden
from reward_router.trackers import TrackedRun, Tracker
from reward_router.trackers.figures import gold_figures, step_figures

START_S = 120.0
"""Seconds that a tracker may take to start, and to close: it may ask a service."""
LOG_S = 30.0
"""Seconds that it may take for the figures of one step."""
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


class Reporter:
    """The trackers of one run, as far as they still answer.

    A context manager: leaving the block closes them. ValueError is never raised, nor anything else
    that a tracker does.

    Args:
        config: the run's configuration; ``report_to`` names the trackers.
        run: its directory, which keeps the trackers' own names of the run (trackers.json).
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
        self.run_ids: dict[str, str] = {}

    def start(self, first: int) -> None:
        """Start the trackers; ``first`` is the first step that they will be told of."""
        self.run_ids = self.run.read_trackers()
        for name in self.config.report_to:
            kind = TRACKERS[name]
            told = TrackedRun(
                self.run.path,
                self.config.model_dump(mode="json"),
                self.run_ids.get(name),
                first,
            )
            tracker = self._try(name, "start", START_S, lambda k=kind, t=told: k.make(t))
            if tracker is None:
                continue
            self.trackers[name] = tracker
            where = getattr(tracker, "where", None)
            if where:
                self.say(f"reporting to {name}: {hidden(str(where), _secrets())}")
            run_id = getattr(tracker, "run_id", None)
            if run_id is not None:
                self.run_ids[name] = str(run_id)
        if self.run_ids:
            self.run.write_trackers(self.run_ids)

    def step(self, record: Mapping[str, Any]) -> None:
        """Tell the figures of one line of metrics.jsonl."""
        self._log(lambda kind: step_figures(record, kind.prefix), record["step"] + 1)

    def gold(self, kind: str, when: str, share: float, step: int) -> None:
        """Tell one kind of gold, before or after training."""
        self._log(lambda _: gold_figures(kind, when, share), step)

    def close(self, finished: bool) -> None:
        """Close all trackers; ``finished``: whether the run came to its end."""
        for name, tracker in list(self.trackers.items()):
            self._try(name, "close", START_S, lambda t=tracker: t.close(finished))
        self.trackers = {}

    def _log(self, figures_of: Callable[[TrackerKind], dict[str, float]], step: int) -> None:
        for name, tracker in list(self.trackers.items()):
            figures = figures_of(TRACKERS[name])
            self._try(
                name, f"step {step}", LOG_S, lambda t=tracker, f=figures: t.log(f, step) or True
            )

    def _try(self, name: str, when: str, seconds: float, work: Callable[[], Any]) -> Any:
        """What the tracker returns; None where it failed, which is said, and it is let go."""
        try:
            return within(work, f"tracker {name}", seconds)
        except Exception as error:
            # the package is foreign, and so is the network behind it: a run does not stop for them
            self.trackers.pop(name, None)
            reason = _one_line(error)
            self.warn(
                f"warning: report_to: {name} failed ({when}): {reason}; "
                f"the run goes on without it, and {self.run.metrics.name} has every figure"
            )
            return None

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(finished=kind is None)


def _one_line(error: Exception) -> str:
    """An error without line breaks and without secrets."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = _IN_URL.sub("***@", hidden(text, _secrets()))
    return text if len(text) <= 300 else text[:300] + "..."


def _secrets() -> list[str]:
    """Values of environment variables whose names say that they are secret."""
    values = [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]
    return [value for value in values if len(value) >= 6]
