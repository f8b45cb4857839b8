"""Report sections about the arms: who judged when and what, what they were paid, what the router believes, do they agree."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from reward_router.report import charts, page
from reward_router.report.dots import panels
from reward_router.report.frame import cut
from reward_router.report.gather import Evidence, Json, agreement, places, rolling_shares, thin, trailing
from reward_router.types import Float

SMOOTH = 20
DOTS = 250


def note(text: str) -> str:
    """A caption: what to look for."""
    return f'<p class="note">{escape(text)}</p>'


def whole(share: float) -> str:
    """A share in whole per cent, as people write it."""
    return f"{100 * share:.0f} %"


def figure(drawing: str, fit: bool = False) -> str:
    """A chart that stays readable on a narrow screen: its text grows as it shrinks (``fit``), or it scrolls sideways."""
    return f'<div class="figure{" fit" if fit else ""}">{drawing}</div>' if drawing else ""


def shares(e: Evidence) -> str:
    """Arm share over time, mean choice probabilities, and share per category."""
    if e.ensemble:
        return note(
            "The ensemble asks every arm about every response, so each has the same share and there is nothing to draw."
        )
    if len(e.arms) == 1:
        return note("There is one arm, so it judged everything.")
    if not len(e.decisions.seq):
        return note("No decision was made.")
    if not e.routed:
        return _categories(e)
    forced = int(e.decisions.forced.sum())
    warm = f" {forced:,} of {len(e.decisions.seq):,} decisions were forced by warm-up, which tries every arm before the router may choose."
    parts = [
        "<h3>Share of decisions over time</h3>",
        *_over_time(e, "arms", "share of decisions", warm if forced else ""),
    ]
    parts += ["<h3>Share of decisions per category</h3>", _categories(e)]
    probs = _over_time(e, "probs", "mean probability", "")
    if probs:
        what = (
            "The probability the router gave each arm before it drew one. Where this is all one colour the router was sure; where the bands are "
            "even it was still exploring."
        )
        what += (
            " LinUCB puts everything on one arm per decision, so its bands only show how often."
            if "linucb" in e.summary["router"]
            else ""
        )
        parts += ["<h3>Mean choice probabilities</h3>", note(what), probs[-1]]
    return "".join(parts)


def _over_time(e: Evidence, key: str, y_label: str, more: str) -> list[str]:
    rows = [(r["step"] + 1, r[key]) for r in e.records if r.get(key) and any(v for v in r[key].values())]
    if not rows:
        return [] if key == "probs" else [note("No step was logged.")]
    window = max(1, min(round(len(rows) / 12), 50))
    share = rolling_shares([row for _, row in rows], e.arms, window)
    at = thin(range(len(rows)))
    x = [rows[i][0] for i in at]
    drawn = {arm: [values[i] for i in at] for arm, values in share.items()}
    if len(x) == 1:
        x, drawn = [x[0] - 1, x[0]], {arm: values * 2 for arm, values in drawn.items()}
    over = f"over the last {window} steps" if window > 1 else "of each step"
    what = f"Each band is one arm's share {over}. A band that widens is an arm the router came to prefer; bands that stay even mean it found no difference.{more}"
    return [note(what), figure(charts.shares(x, drawn, "training step", y_label), fit=True)]


def judged_share(summary: Json, arm: str, category: str | None = None) -> float | None:
    """Share of the units that the arm judged, drawn or as a stand-in; of decisions where the summary knows no better."""
    row = summary["arms"][arm]
    kind = "share" if summary.get("committee") or "judged_share" not in row else "judged_share"
    found = row.get(kind) if category is None else (row.get(f"{kind}_by_category") or {}).get(category)
    return None if found is None else float(found)


def _categories(e: Evidence) -> str:
    arms = e.summary["arms"]
    names = sorted({c for row in arms.values() for c in row.get("share_by_category") or {}})
    if not names:
        return note(
            "Not shown: a decision here covers a whole batch of mixed categories, or the prompts carry no category."
        )
    values = [[judged_share(e.summary, a), *(judged_share(e.summary, a, c) for c in names)] for a in e.arms]
    top = max([v for row in values for v in row if v is not None] + [0.3])
    what = (
        "Per cent of a category's decisions that each arm judged; each column adds up to 100. Columns that differ mean the router learnt to send "
        "different kinds of prompt to different judges; equal columns mean one ranking for all."
    )
    if e.summary.get("committee"):
        what = "Per cent of a category's units in which each arm was asked; a column adds up to more than 100 where several arms were asked about one unit."
    return note(what) + figure(charts.heatmap(values, e.arms, ["all", *names], 0.0, top, percent=True))


def payoffs(e: Evidence) -> str:
    """Scaled and raw payoffs over time, one panel an arm."""
    d, name = e.decisions, e.summary["payoff"]
    if not np.isfinite(d.payoff).any() and not np.isfinite(d.raw).any():
        return note("No decision has a payoff.")
    paid = int((np.isfinite(d.payoff) | np.isfinite(d.raw)).sum())
    lead = f"{paid:,} of {len(d.seq):,} decisions were given a payoff ({name}: {PAYOFFS.get(name, 'see the configuration')})."
    parts = [note(lead)]
    scaled, raw = _payoff_panels(e, d.payoff, "payoff, 0 to 1", (0.0, 1.0)), _payoff_panels(e, d.raw, "raw payoff")
    if scaled:
        what = (
            f"What the router learnt from. Dots: single decisions; line: mean of the arm's last {SMOOTH}; grey: the other arms. Look for lines that stay apart: "
            "only then is there something to choose."
        )
        parts += ["<h3>Payoffs the router learnt from</h3>", note(what), scaled]
    if raw:
        unit = "Raw values (for a loss: minus nats a pair), before they are scaled into 0 to 1 against the range of earlier ones."
        saturated = e.summary.get("saturated")
        clipped = f" {whole(saturated)} of them were clipped at 0 or 1 by the scaling." if saturated is not None else ""
        drift = " A common drift of all arms is training going on, not a better judge."
        parts += ["<h3>Raw payoffs</h3>", note(unit + drift + clipped), raw]
    return "".join(parts)


PAYOFFS = {
    "neg_loss": "minus the training loss on the arm's pairs, as in the paper; it rewards agreement with the policy, not truth",
    "improvement": "how much one step lowered the loss on the arm's pairs",
    "light_advantage": "the batch's mean training loss less the pair's own; like minus the loss, it rewards agreement with the policy",
    "full_advantage": "1 where the arm's label has a lower training loss than the mean over all arms' labels, else 0; it rewards agreement with the policy",
    "probe": "does the arm put right answers above wrong ones, on a sample of training prompts that have a rule",
    "verifier": "is the response the arm likes best right, by its prompt's rule",
    "python": "a function of the user's",
}


def _payoff_panels(e: Evidence, value_B: Float, y_label: str, within: Sequence[float] = ()) -> str:
    at = np.array(places(e.decisions))
    lines: dict[str, charts.Series] = {}
    dots: dict[str, charts.Series] = {}
    notes = {}
    for arm, its_B in e.decisions.deciders().items():
        mine = np.flatnonzero(its_B & np.isfinite(value_B))
        if e.ensemble and not len(mine):
            continue  # the ensemble decided, never an arm
        x, y = at[mine].tolist(), value_B[mine].tolist()
        lines[arm] = thin(x), thin(trailing(y, SMOOTH))
        dots[arm] = thin(x, DOTS), thin(y, DOTS)
        notes[arm] = f"mean {math.fsum(y) / len(y):.3g}, n {len(y):,}" if y else "none"
    if not any(x for x, _ in lines.values()):
        return ""
    return panels(lines, "training step", y_label, dots, notes=notes, within=within)


def posterior(e: Evidence) -> str:
    """Mean and band of each arm's expected payoff, step by step, one panel an arm."""
    records = thin([r for r in e.records if r.get("posterior")], 200)
    if not records:
        return ""
    lines, bands, notes = {}, {}, {}
    for arm in [a for a in e.arms if any(a in r["posterior"] for r in records)]:
        mean, sd = zip(*(_moments(r, arm) for r in records), strict=True)
        lines[arm] = ([r["step"] + 1 for r in records], list(mean))
        bands[arm] = ([m - s for m, s in zip(mean, sd, strict=True)], [m + s for m, s in zip(mean, sd, strict=True)])
        notes[arm] = f"{mean[-1]:.2f} ± {sd[-1]:.2f} at the end"
    what = (
        "The payoff the router expects of each arm for the mean prompt of a step (line) and one standard deviation of its own uncertainty (band); grey: the "
        "other arms. A band that narrows is evidence coming in; a band that stays wide is an arm hardly tried. For single prompts its belief differs."
    )
    return note(what) + panels(lines, "training step", "expected payoff", bands=bands, notes=notes)


def _moments(record: Json, arm: str) -> tuple[float, float]:
    mean, sd = record["posterior"].get(arm) or (None, None)
    return math.nan if mean is None else mean, math.nan if sd is None else sd


def agree(e: Evidence) -> str:
    """Agreement of the arms on responses that several scored; nothing where none were."""
    found = agreement(e.calls)
    if not found.responses:
        return ""
    asked = np.flatnonzero(np.isfinite(found.ordered_K))
    arms = [e.calls.arms[k] for k in asked]
    alike = [
        [None if i == j or not np.isfinite(found.alike_KK[i, j]) else float(found.alike_KK[i, j]) for j in asked]
        for i in asked
    ]
    what = (
        f"On {found.responses:,} responses scored by more than one arm: of the pairs of responses to one prompt that both arms put in an order, the per cent they "
        "order the same way. 50 is chance, 100 is two copies of one judge, below 50 they contradict each other. Routing needs arms that differ. (Counting each pair "
        "both ways, this is also the F1 score between two arms that the LASER paper draws.)"
    )
    ordered = dict(zip(arms, found.ordered_K[asked].tolist(), strict=True))
    ties = "Per cent of those pairs that an arm orders at all; the rest it ties (a rule that gives both the same, or two equal responses)."
    return (
        note(what)
        + figure(charts.heatmap(alike, arms, [cut(a, 16) for a in arms], 0.0, 1.0, percent=True))
        + f"<details><summary>How many pairs each arm orders at all</summary>{note(ties)}{figure(charts.bars(ordered, 'share of pairs ordered', percent=True))}{_pairs(found.pairs_KK[np.ix_(asked, asked)].tolist(), arms)}</details>"
    )


def _pairs(pairs_KK: list[list[int]], arms: list[str]) -> str:
    rows = [
        [cut(arm, 40), *(str(v) if i != j else "" for j, v in enumerate(row))]
        for i, (arm, row) in enumerate(zip(arms, pairs_KK, strict=True))
    ]
    return note("Pairs behind each figure:") + page.table(["", *(cut(a, 16) for a in arms)], rows)
