"""Report sections about the arms.

Who judged when and what, what they were paid, what the router believes, and do they agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from reward_router.kinds import PAYOFFS, ROUTERS
from reward_router.report import charts, marks
from reward_router.report.dots import DotPanel, panels
from reward_router.report.frame import FAINT, colour, cut
from reward_router.report.gather import (
    Evidence,
    Json,
    agreement_within_prompts,
    rolling_shares,
    steps_of_decisions,
    thin,
    trailing,
)
from reward_router.report.learned import FEW
from reward_router.report.page import figure, folded, grid, note, percent, table
from reward_router.types import Float

SMOOTH = 20
DOTS = 250
STEP = "training step"


def whole_percent(share: float) -> str:
    """A share in whole per cent, as people write it."""
    return percent(share, 0)


def arm_shares(e: Evidence) -> str:
    """Arm share over time, share per category, and, where they say more, the probabilities."""
    if e.ensemble:
        return note(
            "The ensemble asks every arm about every response, "
            "so each has the same share and there is nothing to draw."
        )
    if len(e.arms) == 1:
        return note("There is one arm, so it judged everything.")
    if not len(e.decisions.seq):
        return note("No decision was made.")
    if not e.routed:
        return _categories(e)
    forced = int(e.decisions.forced.sum())
    what = Course("arms", "Each colour and letter is one arm's share", "share of decisions")
    warm = ""
    if forced:
        warm = (
            f" {forced:,} of {len(e.decisions.seq):,} decisions were forced by warm-up, "
            "which tries every arm before the router may choose."
        )
    taken = _over_time(e, what, "Share of decisions over time", warm)
    parts = [grid([taken, _categories(e)])]
    parts.append(folded("Mean choice probabilities", _probabilities(e)))
    return "".join(parts)


@dataclass(frozen=True)
class Course:
    """What stacked shares over time show: the key in metrics.jsonl, what it is, and its axis."""

    key: str
    what: str
    y_label: str


def _probabilities(e: Evidence) -> str:
    what = (
        "The probability the router gave each arm before it drew one. "
        "Where this is all one colour the router was sure; "
        "where the bands are even it was still exploring"
    )
    router = e.summary["router"]
    if router in ROUTERS and ROUTERS[router].note:
        what += f". {ROUTERS[router].note.rstrip('.')}"
    return _over_time(e, Course("probs", what, "mean probability"), "")


def _over_time(e: Evidence, course: Course, title: str, more: str = "") -> str:
    key = course.key
    rows = []
    for record in e.records:
        values = record.get(key)
        if values and any(values.values()):
            rows.append((record["step"] + 1, values))
    if not rows:
        return "" if key == "probs" else note("No step was logged.")

    # Few steps are bars, each its own; many are smoothed over a twelfth of them.
    few = len(rows) <= charts.FEW_STEPS
    window = 1 if few else max(1, min(round(len(rows) / 12), 50))
    share = rolling_shares([values for _, values in rows], e.arms, window)

    drawn_rows = thin(range(len(rows)))
    x = [rows[i][0] for i in drawn_rows]
    drawn = {}
    for arm, arm_shares_over_time in share.items():
        drawn[arm] = [arm_shares_over_time[i] for i in drawn_rows]

    over = f"over the last {window} steps" if window > 1 else "of each step"
    caption = (
        f"{course.what}, {over}. A share that grows is an arm the router came to prefer.{more}"
    )
    chart = charts.shares(x, drawn, STEP, course.y_label)
    return figure(title, caption, chart, "half")


def judged_share(summary: Json, arm: str, category: str | None = None) -> float | None:
    """Share of the units that the arm judged, drawn or as a stand-in.

    Of decisions where the summary knows no better; ``category``: of its units alone.
    """
    row = summary["arms"][arm]
    kind = "share" if summary.get("committee") or "judged_share" not in row else "judged_share"
    if category is None:
        share = row.get(kind)
    else:
        share = (row.get(f"{kind}_by_category") or {}).get(category)
    return None if share is None else float(share)


def _categories(e: Evidence) -> str:
    arms = e.summary["arms"]
    names = sorted(set().union(*(row.get("share_by_category") or {} for row in arms.values())))
    title = "Share of decisions per category"
    if not names:
        return figure(
            title,
            "Not shown: a decision here covers a whole batch of mixed categories, "
            "or the prompts carry no category.",
            " ",
        )
    counts = e.summary.get("units_by_category") or {}
    shown = ["all", *names]
    values = [[judged_share(e.summary, a, None), *_by_category(e, a, names)] for a in e.arms]
    top = max([0.3, *(v for v in chain.from_iterable(values) if v is not None)])
    what = (
        "Per cent of a category's decisions that each arm judged "
        "(number of decisions in brackets); each column adds up to 100. "
        "Columns that differ: the router sends different kinds of prompt to different judges. "
        "Grey: too few to tell."
    )
    if e.summary.get("committee"):
        what = (
            "Per cent of a category's units in which each arm was asked; a column adds up to more "
            "than 100 where several arms were asked about one unit."
        )
    number = {**counts, "all": len(e.decisions.seq)}
    labels = [f"{c} ({number[c]:,})" if c in number else c for c in shown]
    few = [j for j, c in enumerate(shown) if counts.get(c, FEW) < FEW and c != "all"]
    shade = charts.Shade(0.0, top, percent=True, few=few)
    return figure(title, what, charts.heatmap(values, e.arms, labels, shade), "wide")


def _by_category(e: Evidence, arm: str, names: Sequence[str]) -> list[float | None]:
    return [judged_share(e.summary, arm, name) for name in names]


def payoffs_section(e: Evidence) -> str:
    """Mean payoff of each arm with its interval; over time, scaled and raw, folded away."""
    d = e.decisions
    name = e.summary["payoff"]
    if not np.isfinite(d.payoff).any() and not np.isfinite(d.raw).any():
        return note("No decision has a payoff.")
    paid = int((np.isfinite(d.payoff) | np.isfinite(d.raw)).sum())
    says = PAYOFFS[name].sentence if name in PAYOFFS else "see the configuration"
    lead = (
        f"{paid:,} of {len(d.seq):,} decisions were given a payoff, "
        f"what the router learns from ({name}: {says})."
    )
    parts = [note(lead), _mean_payoffs(e)]
    scaled = _payoff_panels(e, d.payoff, "payoff, 0 to 1", (0.0, 1.0))
    raw = _payoff_panels(e, d.raw, "raw payoff")
    if scaled:
        what = (
            "What the router learnt from. Dots: single decisions; line: mean of the arm's last "
            f"{SMOOTH}; grey: the other arms. Look for lines that stay apart: "
            "only then is there something to choose."
        )
        parts.append(folded("Payoffs over time, arm by arm", note(what) + scaled))
    if raw:
        what = (
            "Raw values (for a loss: minus nats a pair), before they are scaled into 0 to 1 "
            "against the range of earlier ones. "
            "A common drift of all arms is training going on, not a better judge."
        )
        saturated = e.summary.get("saturated")
        if saturated is not None:
            what += f" {whole_percent(saturated)} of them were clipped at 0 or 1 by the scaling."
        parts.append(folded("Raw payoffs over time", note(what) + raw))
    return "".join(parts)


def _mean_payoffs(e: Evidence) -> str:
    decisions = e.decisions
    scale = marks.Scale(0.0, 1.0)
    is_paid_B = np.isfinite(decisions.payoff)
    rows = []
    classes = []
    for k, (arm, its_B) in enumerate(decisions.deciders().items()):
        values = decisions.payoff[its_B & is_paid_B]
        n = len(values)
        if not n and e.ensemble:
            continue  # the ensemble decided, never an arm

        few = n < FEW
        ends = payoff_interval(values)
        mark = ""
        mean = "-"
        if n:
            ink = FAINT if few else colour(k)
            mark = marks.value(scale, float(values.mean()), ends, ink=ink, what=arm)
            mean = f"{values.mean():.2f}"
        span = "too few to tell"
        if not few and ends is not None:
            span = f"{ends[0]:.2f} to {ends[1]:.2f}"
        name = marks.coloured_name(cut(arm, 40), colour(k))
        rows.append([name, f"{n:,}", mean, span, mark])
        classes.append("dim" if few else "")

    header = ["arm", "payoffs", "mean", "95 % interval", marks.head(scale, "mean payoff, 0 to 1")]
    return table(header, rows, 1, classes) if rows else ""


def payoff_interval(values: Float) -> tuple[float, float] | None:
    """A 95 % interval of the mean of values in [0, 1], by their spread; None for fewer than two.

    It takes them for independent.
    """
    n_payoffs = len(values)
    if n_payoffs < 2:
        return None
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(n_payoffs)
    # No payoff lies outside of [0, 1], so no mean does.
    return max(0.0, mean - half), min(1.0, mean + half)


def _payoff_panels(e: Evidence, value_B: Float, y_label: str, within: Sequence[float] = ()) -> str:
    step_B = np.array(steps_of_decisions(e.decisions))
    drawn: dict[str, DotPanel] = {}
    for arm, its_B in e.decisions.deciders().items():
        mine = np.flatnonzero(its_B & np.isfinite(value_B))
        if e.ensemble and not len(mine):
            continue  # the ensemble decided, never an arm
        x = step_B[mine].tolist()
        y = value_B[mine].tolist()
        note_text = "none"
        if y:
            mean = math.fsum(y) / len(y)
            note_text = f"mean {mean:.3g}, n {len(y):,}"
        # Smoothed before it is thinned, so that the line is one of all payoffs.
        course = (thin(x), thin(trailing(y, SMOOTH)))
        drawn[arm] = DotPanel(line=course, dots=(thin(x, DOTS), thin(y, DOTS)), note=note_text)

    if not any(panel.line[0] for panel in drawn.values()):
        return ""
    return panels(drawn, STEP, y_label, within)


def posterior(e: Evidence) -> str:
    """What the router expects of each arm and what it adds when it chooses.

    At the end; step by step is folded away.
    """
    records = thin([r for r in e.records if r.get("posterior")], 200)
    if not records:
        return ""
    times, added = _added(e)
    believed = set().union(*(r["posterior"] for r in records))
    arms = [arm for arm in e.arms if arm in believed]
    steps = [r["step"] + 1 for r in records]
    scale = marks.Scale(0.0, 1.0)
    rows = []
    drawn = {}
    for arm in arms:
        moments = [_moments(r, arm) for r in records]
        mean = [m for m, _ in moments]
        half = [times * s for _, s in moments]
        low = [max(0.0, m - h) for m, h in zip(mean, half, strict=True)]
        high = [min(1.0, m + h) for m, h in zip(mean, half, strict=True)]
        last = f"{mean[-1]:.2f} \u00b1 {half[-1]:.2f} at the end"
        drawn[arm] = DotPanel((steps, mean), band=(low, high), note=last)
        rows.append(_belief(scale, arm, e.arms.index(arm), mean, half))
    what = (
        "The payoff the router expects of each arm for the mean prompt of the last step "
        f"(disc; ring: at the first step). The bar is {added}. "
        "For single prompts its belief differs, which is what it routes by."
    )
    header: list[str] = [
        "arm",
        "first step",
        "last step",
        marks.head(scale, "expected payoff, 0 to 1"),
    ]
    course = panels(drawn, STEP, "expected payoff", within=(0.0, 1.0))
    legend = (
        "Line: expected payoff; band: as above; grey: the other arms. "
        "A band that narrows is evidence coming in."
    )
    by_step = folded("Step by step, arm by arm", note(legend) + course)
    return note(what) + table(header, rows) + by_step


def _belief(
    scale: marks.Scale, arm: str, index: int, mean: list[float], half: list[float]
) -> list[str]:
    if math.isnan(mean[-1]):
        return [arm, "-", "-", "-"]
    last = min(max(mean[-1], 0.0), 1.0)
    ends = None
    if not math.isnan(half[-1]):
        ends = (max(0.0, mean[-1] - half[-1]), min(1.0, mean[-1] + half[-1]))
    start = None if math.isnan(mean[0]) else min(max(mean[0], 0.0), 1.0)
    words = f"{arm}: {mean[-1]:.2f} \u00b1 {half[-1]:.2f}"
    mark = marks.value(scale, last, ends, start, ink=colour(index), what=words)
    first = "-" if math.isnan(mean[0]) else f"{mean[0]:.2f} \u00b1 {half[0]:.2f}"
    return [
        marks.coloured_name(cut(arm, 40), colour(index)),
        first,
        f"{mean[-1]:.2f} \u00b1 {half[-1]:.2f}",
        mark,
    ]


def _added(e: Evidence) -> tuple[float, str]:
    """How many standard deviations the router adds when it chooses, and that in words."""
    router = e.config.get("router") or {}
    if "linucb" in e.summary["router"]:
        alpha = float(router["alpha"]) if router.get("alpha") is not None else 1.0
        what = f"alpha = {alpha:g} standard deviations of its own uncertainty"
        return alpha, f"what LinUCB adds when it chooses: {what}"
    return 1.0, (
        "one standard deviation of its uncertainty, "
        "which Thompson sampling draws from when it chooses"
    )


def _moments(record: Json, arm: str) -> tuple[float, float]:
    mean, sd = record["posterior"].get(arm) or (None, None)
    return math.nan if mean is None else mean, math.nan if sd is None else sd


def agree(e: Evidence) -> str:
    """Agreement of the arms on responses that several scored; nothing where none were."""
    measured = agreement_within_prompts(e.calls)
    if not measured.responses:
        return ""
    scoring = np.flatnonzero(np.isfinite(measured.ordered_K)).tolist()
    arms = [e.calls.arms[k] for k in scoring]
    alike = [_alike(measured.alike_KK, k, scoring) for k in scoring]
    what = (
        f"On {measured.responses:,} responses scored by more than one arm: "
        "of the pairs of responses to one prompt that both arms put in an order, "
        "the per cent they order the same way. "
        "50 is chance, 100 is two copies of one judge, below 50 they contradict each other. "
        "Routing needs arms that differ."
    )
    ordered = dict(zip(arms, measured.ordered_K[scoring].tolist(), strict=True))
    ties = (
        "Per cent of those pairs that an arm orders at all; the rest it ties "
        "(a rule that gives both the same, or two equal responses)."
    )
    shade = charts.Shade(0.0, 1.0, percent=True)
    chart = charts.heatmap(alike, arms, [cut(a, 16) for a in arms], shade)
    bars = charts.bars(ordered, "share of pairs ordered", percent=True)
    pairs = _pairs(measured.pairs_KK[np.ix_(scoring, scoring)].tolist(), arms)
    drawn = [
        figure("", what, chart, "wide"),
        figure("How many pairs each arm orders at all", ties, bars, "half"),
    ]
    more = (
        "Counting each pair both ways, agreement is also the F1 score between two arms "
        "that the LASER paper draws."
    )
    return grid(drawn) + folded("Pairs behind each figure", note(more) + pairs)


def _alike(alike_KK: Float, k: int, others: Sequence[int]) -> list[float | None]:
    """A row of the heat map; empty for an arm with itself and where no pair is shared."""
    row_K = alike_KK[k]
    return [float(row_K[j]) if j != k and np.isfinite(row_K[j]) else None for j in others]


def _pairs(pairs_KK: list[list[int]], arms: list[str]) -> str:
    rows = []
    for i, (arm, row) in enumerate(zip(arms, pairs_KK, strict=True)):
        # An arm always agrees with itself: its cell says nothing.
        cells = [str(pairs) if i != j else "" for j, pairs in enumerate(row)]
        rows.append([cut(arm, 40), *cells])
    short_names = [cut(arm, 16) for arm in arms]
    return table(["", *short_names], rows)
