"""Report sections about what came of it.

Gold before and after, best of n, and whether the payoff follows gold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain

import numpy as np

from reward_router.headline import BEST_OF, gold_tables, kept_line
from reward_router.kinds import is_gold, rests_on_gold
from reward_router.report import charts, marks
from reward_router.report.dots import ranked
from reward_router.report.frame import FAINT, cut
from reward_router.report.gather import Evidence, Json, gold_orders
from reward_router.report.page import figure, folded, interval, note, percent, points, signed, table
from reward_router.rewards.check import wilson

FEW = 10
"""Below so many observations a figure is grey: too few to tell."""
BETTER = "var(--better)"
WORSE = "var(--worse)"


def gold_by_category(e: Evidence) -> str:
    """Gold before and after per category, on the held-out and on the test prompts.

    The first table is open.
    """
    tables = gold_tables(e.summary)
    if not tables:
        absent = "Not measured: no held-out prompts that come with a rule to check answers by."
        return "" if e.running else note(absent)

    (title, first), *others = tables
    parts = [_gold(first, title)]
    for other_title, rows in others:
        heading = other_title[0].upper() + other_title[1:]
        parts.append(folded(heading, _gold(rows, other_title)))

    kept = e.summary.get("kept")
    if kept:
        words = kept_line(kept).removeprefix("kept ").strip()
        sentence = f"Kept: {words}." if kept["step"] else f"{words[0].upper()}{words[1:]}."
        parts.append(note(sentence))
    return "".join(parts)


def _gold(by_category: Json, title: str) -> str:
    order = ["all", *(name for name in by_category if name != "all")]
    answers = "Answers as the policy is used, several samples a prompt,"
    if title.endswith("greedy"):
        answers = "Greedy answers"
    what = (
        f"{answers} to prompts never trained on, checked by each prompt's own rule "
        "(gold: verified truth). Ring: before, disc: after. "
        "The bar is a paired 95 % bootstrap interval over prompts; "
        "green with \u25b2 or orange with \u25bc where it leaves zero out, grey where it holds it."
    )
    if len(order) > 2:
        what += (
            " Each row has its own interval, "
            "so about one category in twenty would look like a change by luck alone."
        )
    rows = []
    for name in order:
        row = by_category[name]
        rows.append(Measured(_name(name, row["n"]), row["n"], *_of(row)))
    done = by_category["all"]
    ended = ""
    if done.get("finished_before") is not None:
        ended = note(
            f"{percent(done['finished_before'])} of the answers ended by themselves within the "
            f"token limit before training, {percent(done['finished_after'])} after."
        )
    return note(what) + _measured(rows, ("category (prompts)", "before", "after")) + ended


def _name(category: str, n: int) -> str:
    return f"{category} ({n})"


def _of(row: Json) -> tuple[float, float, float, list[float | None]]:
    return row["before"], row["after"], row["diff"], row["ci95"]


@dataclass(frozen=True)
class Measured:
    """One row of a table of changes.

    Args:
        label: its name.
        n: observations behind it.
        before: share before.
        after: share after.
        diff: their difference.
        ci95: the interval of the difference.
    """

    label: str
    n: int
    before: float
    after: float
    diff: float
    ci95: Sequence[float | None]

    @property
    def ends(self) -> list[float]:
        """The ends of the interval that are numbers."""
        return [v for v in self.ci95 if v is not None and not math.isnan(v)]

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return len(self.ends) == 2

    @property
    def few(self) -> bool:
        """Whether there are too few observations to tell."""
        return self.n < FEW

    @property
    def tone(self) -> str:
        """The class of the row: better, worse, too few, or nothing."""
        if self.few:
            return "dim"
        if not self.known:
            return ""
        return "best" if self.ends[0] > 0 else "worse" if self.ends[1] < 0 else ""

    @property
    def ink(self) -> str:
        """The colour of its marks."""
        return {"best": BETTER, "worse": WORSE}.get(self.tone, FAINT)


def _measured(rows: Sequence[Measured], names: tuple[str, str, str]) -> str:
    """A table of changes with their drawings.

    ``names``: heads of the first column, of before, and of after.
    """
    changes = chain.from_iterable((r.diff, *r.ends) for r in rows)
    reach = 1.05 * max([*map(abs, changes), 0.05])
    moved = marks.Scale(-reach, reach, factor=100.0, zero=0.0)
    levels = chain.from_iterable((r.before, r.after) for r in rows)
    high = min(1.0, 1.1 * max([*levels, 0.1]))
    stand = marks.Scale(0.0, high, percent=True)
    label, before, after = names
    # Figures first: a narrow screen shows them before the drawings.
    header = [
        label,
        before,
        after,
        "change, pp",
        "95 % interval",
        marks.head(moved, "change, percentage points"),
        marks.head(stand, "share right, \u25cb to \u25cf"),
    ]
    cells = []
    for r in rows:
        span = "too few to tell" if r.few or not r.known else interval(r.ci95)
        words = (
            f"{r.label}: {percent(r.before)} {before}, {percent(r.after)} {after}, "
            f"{points(r.diff)} points"
        )
        ends = r.ends if r.known else None
        change = marks.value(moved, r.diff, ends, ink=r.ink, what=f"{words}, 95 % {span}")
        level = marks.value(stand, r.after, start=r.before, ink=r.ink, what=words)
        cells.append(
            [r.label, percent(r.before), percent(r.after), points(r.diff), span, change, level]
        )
    return table(header, cells, 1, [r.tone for r in rows])


def best_of_section(e: Evidence) -> str:
    """What the frozen router chose among the policy's own samples, before training and after.

    Also who it trusted for what.
    """
    by_time = e.summary.get(BEST_OF)
    if not by_time:
        return ""
    samples = next(iter(by_time.values()))["samples"]
    what = (
        f"Each held-out prompt has {samples} sampled answers; the arm (reward model) that the "
        "frozen router named picked one of them. Ring: a random pick, right as often as the "
        "samples are on average; disc: the arm's pick; bar: paired 95 % interval over prompts."
    )
    rows = []
    for when, row in by_time.items():
        measured = row["prompts"], row["random"], row["gold"], row["diff"], row["ci95"]
        rows.append(Measured(f"{when} training", *measured))
    ceiling = ", ".join(f"{percent(r['oracle'])} {when} training" for when, r in by_time.items())
    calls = ", ".join(f"{row['calls']:,} {when}" for when, row in by_time.items())
    drawn = _measured(rows, ("", "random pick", "the arm's pick"))
    return note(what) + drawn + note(f"At most: {ceiling}. Calls: {calls}.") + _chosen(by_time)


def _chosen(by_time: Json) -> str:
    """The arms' shares by category, before and after, folded away."""
    caption = (
        "Per cent of a category's prompts for which each arm was named; "
        "number of prompts in brackets."
    )
    parts = []
    for when, row in by_time.items():
        groups = row["by_category"]
        arms = [arm for arm, share in groups["all"]["shares"].items() if share]
        by_arm: dict[str, list[float]] = {arm: [] for arm in arms}
        for group in groups.values():
            for arm in arms:
                by_arm[arm].append(group["shares"][arm])
        names = [_name(name, group["n"]) for name, group in groups.items()]
        few = [j for j, group in enumerate(groups.values()) if group["n"] < FEW]
        shade = charts.Shade(0.0, 1.0, percent=True, few=few)
        drawn = charts.heatmap(list(by_arm.values()), arms, names, shade)
        parts.append(figure(f"Who picked, {when} training", caption, drawn, "wide"))
    return folded("Who picked for which category", "".join(parts))


def truth(e: Evidence) -> str:
    """The correlation of the payoff with gold, in words, and arm by arm.

    Where the payoff is gold itself, that is said and no more.
    """
    correlation = e.summary.get("payoff_gold") or {}
    name = e.summary["payoff"]
    order_B = gold_orders(e)
    both = np.isfinite(order_B) & np.isfinite(e.decisions.payoff)
    drawn = []
    for arm, its_B in e.decisions.deciders().items():
        mine = both & its_B
        n = int(mine.sum())
        if n:
            paid = float(e.decisions.payoff[mine].mean())
            right = float(order_B[mine].mean())
            drawn.append(
                charts.Point(paid, right, *wilson(right * n, n), f"{cut(arm, 20)} ({n})", arm)
            )
    text = f"<p>{escape(_correlation(correlation, name))}</p>"
    if len(drawn) < 2:
        return text
    what = (
        "One point an arm: its mean payoff and how often it put a right answer above a wrong one "
        "(50 % is chance), with a 95 % bar and the number of decisions that have both. "
        "Points that rise from left to right: the payoff ranks the arms as truth would. "
        "Points that fall: it pays the wrong ones."
    )
    chart = ranked(drawn, e.decisions.arms, "mean payoff, 0 to 1", "right answer above wrong")
    shown = figure("", what, chart, "wide")
    return text + (folded("The same arm by arm", shown) if rests_on_gold(name) else shown)


_SIZES = ((0.1, "hardly at all"), (0.3, "weakly"), (0.5, "moderately"), (2.0, "strongly"))
"""What a correlation below a limit is called."""


def _correlation(correlation: Json, name: str) -> str:
    r = correlation.get("r")
    n = correlation.get("n", 0)
    if r is None:
        return (
            f"No correlation can be given: {n} decisions have both a payoff and gold "
            "(right and wrong answers among their responses), or all are alike."
        )
    if is_gold(name):
        return (
            "This run's payoff is gold itself on a sample of training prompts (probe), so their "
            f"correlation is {signed(r, 2)} by construction over {n:,} decisions; with a payoff "
            "that is not truth, this figure says how far to trust it."
        )
    size = next(words for limit, words in _SIZES if abs(r) < limit)
    way = "with" if r >= 0 else "against"
    low, high = correlation.get("ci95") or (None, None)
    span = ""
    holds_zero = True
    if low is not None and high is not None:
        span = f", 95 % interval {signed(low, 2)} to {signed(high, 2)}"
        holds_zero = low <= 0 <= high
    text = (
        f"Over {n:,} decisions the payoff ({name}) moves {way} gold {size}: "
        f"correlation {signed(r, 2)}{span}. "
    )
    if holds_zero:
        return text + (
            "The interval holds zero: this run cannot tell the payoff from one "
            "that has nothing to do with the truth."
        )
    if abs(r) < 0.1:
        return text + "That is more than nothing and too little to steer by."
    if r > 0:
        return text + "The router was paid for something that goes with the truth."
    return text + (
        "The router was paid for being wrong: learning from this payoff makes its choices worse."
    )
