"""What a run shows: lines, tables, a progress line, and the clock behind the figures.

The progress line says how long is left.

Whatever is printed on a console is printed from here, literally: names of arms, categories and
paths are never read as markup, so ``[/short]`` or ``:smile:`` in a name stands there as it was
written.
"""

import textwrap
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segments
from rich.status import Status
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

WIDE = 100
"""Columns from which on the display has a bar."""
BOX = 80
"""Columns of the box that a run ends with."""
LABEL = 9
"""Columns of the word that a line begins with."""
PHASES = (
    "load",
    "eval",
    "sample",
    "embed",
    "route",
    "score",
    "step",
    "payoff",
    "audit",
    "checkpoint",
)


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
    """Text that is shown as it is written.

    A control character (an escape, a tab) is shown as its code, a line break breaks.
    """
    return Text("\n".join(map(visible, text.split("\n"))), style=style)


def visible(name: str) -> str:
    """A name on one line: what cannot be seen, or would drive the terminal, is written as its code.

    >>> visible("judge\\nv2"), visible("\\x1b[31mred")
    ('judge\\\\nv2', '\\\\x1b[31mred')
    """
    # The usual case, and it costs nothing.
    if name.isprintable():
        return name
    return "".join(repr(c)[1:-1] if _unseen(c) else c for c in name)


def _unseen(character: str) -> bool:
    """A control character, or half of a surrogate pair, which no terminal can be given."""
    return unicodedata.category(character) in ("Cc", "Cs")


def say(
    console: Console,
    text: str,
    style: str = "",
    *,
    faint: str = "",
    wrap: bool = True,
    lines: bool = False,
) -> None:
    """Print one line, or several (``lines``).

    ``faint`` follows in grey, ``wrap=False`` leaves breaking to the terminal.
    """
    line = literal(text if lines else visible(text), style)
    if faint:
        line.append_text(literal(faint, "dim"))
    console.print(line, soft_wrap=not wrap)


def say_fact(console: Console, text: str, style: str = "") -> None:
    """Print one fact: a word in the first nine columns, and a sentence behind it.

    The sentence stays behind those columns where it breaks. A narrow terminal then still shows at a
    glance which word belongs to what.
    """
    parts = textwrap.wrap(
        visible(text),
        max(console.width, 2 * LABEL),
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
    say(console, "\n".join(parts), style, wrap=False, lines=True)


def show_table(console: Console, table: "LiteralTable", *, width: int | None = None) -> None:
    """Print a table; ``width``: at least so many columns, cut nowhere."""
    if width is None:
        console.print(table)
        return
    # Rendered first: `Console.print` never takes more columns than the console has.
    room = console.options.update(width=max(console.width, width))
    console.print(Segments(console.render(table, room)), crop=False)


def show_box(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print (what, in words) rows in one box.

    It is 80 columns wide, or as wide as a narrower terminal. Line breaks in words stay.
    """
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in rows:
        grid.add_row(literal(visible(name), "bold"), literal(text))
    console.print(
        Panel(
            grid, title=literal(visible(title)), title_align="left", width=min(BOX, console.width)
        )
    )


def heading(console: Console, text: str) -> None:
    """A rule across the console with a title in it."""
    console.rule(literal(visible(text)))


@contextmanager
def status(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on while the block runs; what it yields changes the text."""
    with Status(literal(text), console=console) as shown:
        yield lambda now: shown.update(literal(now))


class LiteralTable(RichTable):
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
    """A progress bar that says what is done, for how long, and what is left.

    It is silent where there is no terminal.
    """
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


PLAIN_EVERY_S = 30.0
"""Seconds between two lines about one long piece of work where there is no terminal."""


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how many pieces of some work are done; what it yields is told (done, total).

    It is a bar on a terminal. Elsewhere it is a line every half minute, so that work of less than
    that says nothing.
    """
    began = told = time.perf_counter()
    before = 0
    with bar(console, TextColumn("{task.description}", markup=False)) as progress:
        task = progress.add_task(visible(what), total=None)

        def tick(done: int, total: int) -> None:
            nonlocal began, told, before
            progress.update(task, completed=done, total=total)
            now = time.perf_counter()
            if done <= before:
                # The next file's work begins, and the time of the last one says nothing of it.
                began = now
            before = done
            if console.is_terminal or now - told < PLAIN_EVERY_S or done == total:
                return
            told = now
            left = duration((now - began) / done * (total - done))
            say(console, f"{what}: {done} of {total}, about {left} left", "dim", wrap=False)

        yield tick


class Show:
    """One line at the bottom of a terminal: what is going on, how far the run is, what is left.

    Elsewhere it is a line for each piece of work.

    What is left is reckoned by kind of work (a step, a look, an evaluation): `time_left`. The line
    and what is printed above it are cut to the terminal's width and never wrap; everything is in
    metrics.jsonl.
    """

    def __init__(
        self,
        console: Console,
        plan: Mapping[str, int],
        clock: Clock,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Nothing is done yet.

        Args:
            console: where it is shown.
            plan: kind of work -> how often it is to be done.
            clock: counts seconds by phase.
            costs: kind of work -> how much work one piece is, in any unit.
        """
        self.console = console
        self.clock = clock
        self.left = dict(plan)
        self.costs = dict(costs or {})
        self.spent: dict[str, list[float]] = {}
        self.started = self.last = time.perf_counter()
        self.progress = self._display()
        self.task = self.progress.add_task("run", total=sum(plan.values()) or None, what="starting")

    def _display(self) -> Progress:
        """As wide as the terminal: the text takes what the others leave, and is cut."""
        wide = self.console.width >= WIDE
        text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        return Progress(
            TextColumn("{task.fields[what]}", style="bold", markup=False, table_column=text),
            *([BarColumn(bar_width=24)] if wide else []),
            _TimeLeft(self),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            expand=True,
        )

    def expect(self, plan: Mapping[str, int], costs: Mapping[str, float]) -> None:
        """What is to be done, once it is known; the time until now belongs to none of it."""
        self.left = dict(plan)
        self.costs = dict(costs)
        self.last = time.perf_counter()
        self.progress.update(self.task, total=sum(plan.values()))

    def __enter__(self) -> "Show":
        self.progress.start()
        self.last = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, what: str) -> None:
        """What is happening now."""
        self.progress.update(self.task, what=visible(what))

    def begin(self, what: str) -> None:
        """As `say`, for what takes long and comes seldom.

        It is a line of its own where there is no terminal.
        """
        if self.console.is_terminal:
            self.say(what)
        else:
            say(self.console, what, "dim", wrap=False)

    def skip(self, kind: str = "step") -> None:
        """Work that an earlier process did, or that is not needed."""
        self.left[kind] -= 1
        self.progress.update(self.task, advance=1)

    def advance(self, line: str, kind: str = "step", once: float = 0.0) -> None:
        """One piece of work done; its line, with an estimate of what is left.

        ``once``: seconds of it that no other piece will take (models were loaded that stay in
        memory).
        """
        now = time.perf_counter()
        seconds = max(now - self.last - once, 0.0)
        self.spent.setdefault(kind, []).append(seconds)
        self.last = now
        self.left[kind] -= 1
        self.progress.update(self.task, advance=1)

        # A terminal has a display below; elsewhere each line says how long is left.
        if self.console.is_terminal:
            cut = literal(visible(line))
            self.console.print(cut, no_wrap=True, overflow="ellipsis", crop=True)
        else:
            gone = duration(now - self.started)
            left = duration(self.remaining())
            say(self.console, f"{line}  ", faint=f"{gone} gone, about {left} left", wrap=False)

    def remaining(self) -> float:
        """Seconds that the work left will take, counted from the last piece done."""
        return time_left(self.left, self.spent, self.costs)

    def times(self) -> str:
        """How long it has been, and about how long it will be, for the display."""
        now = time.perf_counter()
        gone = minutes(now - self.started)
        if not self.spent:
            return f"{gone} gone"
        # What is left was reckoned at the end of the last phase.
        since_last = now - self.last
        left = max(self.remaining() - since_last, 0.0)
        return f"{gone} gone, about {minutes(left)} left"


class _TimeLeft(ProgressColumn):
    """Pieces done and `Show.times`, as the display is drawn."""

    def __init__(self, shown: Show) -> None:
        super().__init__(table_column=Column(no_wrap=True, justify="right"))
        self.shown = shown

    def render(self, task: Task) -> Text:
        """The text of now."""
        count = f"{task.completed:.0f}/{task.total:.0f} " if task.total else ""
        return Text(count + self.shown.times(), style="dim")


def minutes(seconds: float) -> str:
    """Seconds as a clock shows them.

    >>> minutes(75.2), minutes(3725)
    ('1:15', '1:02:05')
    """
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def time_left(
    todo: Mapping[str, int], spent: Mapping[str, Sequence[float]], costs: Mapping[str, float]
) -> float:
    """Seconds that the work left will take. O(pieces done).

    ``todo``: kind of work -> pieces left; ``spent``: kind -> seconds of each piece done; ``costs``:
    kind -> work in one piece (1 where it is not named). A kind that was seen takes what it took,
    the first time left out as soon as there is another: models are loaded and caches filled then.
    One that was not seen takes its cost at the speed of all that was.

    >>> time_left({"step": 2, "look": 1}, {"step": [9.0, 4.0, 6.0]}, {"step": 10.0, "look": 4.0})
    12.0
    """
    # Seconds of one piece of each kind that was seen.
    usual = {}
    for kind, seconds in spent.items():
        if seconds:
            later = seconds[1:] or seconds
            usual[kind] = sum(later) / len(later)

    # The speed of all of them together serves the kinds that were not.
    work_seen = sum(costs.get(kind, 1.0) for kind in usual)
    seconds_per_work = sum(usual.values()) / work_seen if work_seen else 0.0

    total = 0.0
    for kind, pieces in todo.items():
        by_cost = seconds_per_work * costs.get(kind, 1.0)
        total += pieces * usual.get(kind, by_cost)
    return total


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
