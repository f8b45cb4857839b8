"""Where a training run's figures are shown while it goes on: one file a tracker.

Each file declares its name in ``KIND``, which ``reward_router.kinds.TRACKERS`` lists. A tracker of
your own is a class that is made of a `TrackedRun` and has ``log`` and ``close``; its import path
(``my_trackers:Mine``) stands in ``report_to``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PROJECT = "reward-router"
"""The project, or experiment, where none is named by the tracker's own environment variable."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run before the first figure.

    Args:
        folder: the run's directory; its name is a good name for the run.
        config: the resolved configuration as plain data. It holds no secrets.
        run_id: the tracker's own name of this run, where an earlier process began it; None: the run
            is new.
        first: the first step whose figures this process measures; 0 is before training. An earlier
            process may have got further, beyond its last checkpoint.
    """

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    first: int = 0


class Tracker(Protocol):
    """Where figures go.

    It may also have ``run_id``, a text by which a later process finds the run again, and ``where``,
    a text that says where people can look at it. Whatever it raises is said once, and the run goes
    on without it.
    """

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take figures of one moment; ``step`` is how many steps are done, and never falls."""
        ...

    def close(self, finished: bool) -> None:
        """Send what is left; ``finished``: whether the run came to its end."""
        ...


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested data by its path, for trackers whose parameters have no parts; lists stay whole.

    >>> flat({"train": {"lr": 0.1}, "seed": 0})
    {'train.lr': 0.1, 'seed': 0}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            values |= flat(value, inner)
        else:
            values[inner] = value
    return values
