"""What a run shows: a progress line that says what is happening and how long is left, and the clock behind the figures."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PHASES = ("load", "eval", "sample", "embed", "route", "score", "step", "payoff", "audit", "checkpoint")


class Clock:
    """Wall-clock seconds by phase; phases do not nest."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        """``seconds``: what a resumed run had spent before."""
        self.seconds: defaultdict[str, float] = defaultdict(float, seconds or {})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time spent in the block counts to ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


def bar(console: Console, what: TextColumn, speed_estimate_period: float = 30.0) -> Progress:
    """A progress bar that says what is done, for how long, and what is left; silent where there is no terminal."""
    return Progress(
        what,
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=speed_estimate_period,
    )


class Show:
    """A progress bar on a terminal, a line per step elsewhere.

    What is left is reckoned by kind of work (a step, a look, an evaluation), each at the mean time of those done so far.
    """

    def __init__(self, console: Console, plan: Mapping[str, int], clock: Clock) -> None:
        """``plan``: kind of work -> how often it is to be done; ``step`` is one of them."""
        self.console, self.clock, self.left = console, clock, dict(plan)
        total = sum(plan.values())
        what = TextColumn("[bold]{task.fields[what]}", justify="left")
        self.progress = bar(console, what, speed_estimate_period=3600)
        self.task = self.progress.add_task("run", total=total, what="starting")
        self.spent: dict[str, list[float]] = {}
        self.started = self.last = time.perf_counter()

    def __enter__(self) -> "Show":
        self.progress.start()
        self.last = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, what: str) -> None:
        """What is happening now."""
        self.progress.update(self.task, what=what)

    def skip(self, kind: str = "step") -> None:
        """Work that an earlier process did, or that is not needed."""
        self.left[kind] -= 1
        self.progress.update(self.task, advance=1)

    def advance(self, line: str, kind: str = "step") -> None:
        """One piece of work done; its line, with an estimate of what is left."""
        now = time.perf_counter()
        self.spent.setdefault(kind, []).append(now - self.last)
        self.last = now
        self.left[kind] -= 1
        self.progress.update(self.task, advance=1)
        gone, left = duration(now - self.started), duration(self.remaining())
        self.console.print(f"{line}  [dim]{gone} gone, about {left} left[/dim]", highlight=False)

    def remaining(self) -> float:
        """Seconds that the work left will take; a kind not seen yet is taken for the mean of all work so far."""
        every = [seconds for times in self.spent.values() for seconds in times]
        return sum(n * _mean(self.spent.get(kind) or every) for kind, n in self.left.items())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(75)
    '1 min 15 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
