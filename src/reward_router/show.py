"""What a run shows: lines, tables, a progress line that says how long is left, and the clock behind the figures.

Whatever is printed on a console is printed from here, literally: names of arms, categories and paths are never read as markup,
so ``[/short]`` or ``:smile:`` in a name stands there as it was written.
"""

import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table as RichTable
from rich.text import Text

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


def plain_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that reads no markup, no emoji codes and highlights nothing."""
    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


def literal(text: str, style: str = "") -> Text:
    """Text that is shown as it is written; a control character (an escape, a tab) is shown as its code, a line break breaks."""
    return Text("\n".join(map(visible, text.split("\n"))), style=style)


def visible(name: str) -> str:
    """A name on one line: what cannot be seen, or would drive the terminal, is written as its code.

    >>> visible("judge\\nv2"), visible("\\x1b[31mred")
    ('judge\\\\nv2', '\\\\x1b[31mred')
    """
    if name.isprintable():
        return name
    return "".join(repr(c)[1:-1] if _unseen(c) else c for c in name)


def _unseen(character: str) -> bool:
    """A control character, or half of a surrogate pair, which no terminal can be given."""
    return unicodedata.category(character) in ("Cc", "Cs")


def say(
    console: Console, text: str, style: str = "", *, faint: str = "", wrap: bool = True, lines: bool = False
) -> None:
    """Print one line, or several (``lines``); ``faint`` follows in grey, ``wrap=False`` leaves breaking to the terminal."""
    line = literal(text if lines else visible(text), style)
    if faint:
        line.append_text(literal(faint, "dim"))
    console.print(line, soft_wrap=not wrap)


def show_table(console: Console, table: "Table", *, width: int | None = None) -> None:
    """Print a table; ``width``: at least so many columns, cut nowhere."""
    if width is None:
        console.print(table)
    else:
        console.print(table, width=max(console.width, width), crop=False)


def heading(console: Console, text: str) -> None:
    """A rule across the console with a title in it."""
    console.rule(literal(visible(text)))


@contextmanager
def status(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on while the block runs; what it yields changes the text."""
    with Status(literal(text), console=console) as shown:
        yield lambda now: shown.update(literal(now))


class Table(RichTable):
    """Rich's table whose title, headers and cells are literal."""

    def __init__(self, title: str | None = None, *, box: Any = HEAVY_HEAD, **options: Any) -> None:
        """Rich's options; the title stands on the left."""
        shown = None if title is None else literal(visible(title), "italic")
        super().__init__(title=shown, title_justify="left", box=box, **options)

    def column(self, header: str, **options: Any) -> None:
        """One column more; Rich's options."""
        self.add_column(literal(visible(header)), **options)

    def row(self, *cells: str) -> None:
        """One row more."""
        self.add_row(*(literal(visible(cell)) for cell in cells))


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
        what = TextColumn("{task.fields[what]}", style="bold", justify="left", markup=False)
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
        self.progress.update(self.task, what=visible(what))

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
        say(self.console, f"{line}  ", faint=f"{gone} gone, about {left} left")

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
