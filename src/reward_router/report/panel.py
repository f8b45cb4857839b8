"""Report section about a committee.

How many arms it asked, what it learned from, and whether its gate let it play.
"""

from reward_router.report import charts, page
from reward_router.report.gather import Evidence, thin
from reward_router.report.page import figure, note


def committee_panel(e: Evidence) -> str:
    """Calls a response over time, the gate, and the refits; empty where no committee judged."""
    c = e.summary.get("committee")
    if not c:
        return ""
    counts = c["counts"]
    gate = c["gate"]
    state = "gated: its best single arm judged alone"
    if c["voting"]:
        state = "voting, not fitted yet"
    elif c["playing"]:
        state = "playing"
    ended = f"It ended {state}"
    if gate:
        ended += (
            f"; out of fold it was right on {100 * gate['committee']:.1f} % of the labelled pairs, "
            f"the best single arm on {100 * gate['single']:.1f} % "
            f"(gain {100 * gate['gain']:+.1f} points, "
            f"one-sided lower 95 % bound {100 * gate['lower']:+.1f})"
        )
    learned = (
        f"It learned from {counts['rows']:,} (better, worse) pairs of {counts['labelled']:,} "
        f"labelled units; {counts['no_pair']:,} drawn units had no such pair, "
        f"{counts['not_scored']:,} were not scored by all arms for want of budget. "
        f"{counts['below']:,} pairs were below the confidence asked for. "
        f"Price {c['price']:.3g}; order {', '.join(c['order'])}."
    )
    return note(ended + ".") + note(learned) + _over_time(e) + _refits(e)


def _over_time(e: Evidence) -> str:
    rows = [
        (r["step"] + 1, r["committee"]["calls_per_response"])
        for r in e.records
        if r.get("committee")
    ]
    if len(rows) < 2:
        return ""
    shown = thin(rows)
    series = {"calls a response": ([x for x, _ in shown], [y for _, y in shown])}
    drawn = charts.line(series, "training step", "calls a response")
    return figure("Calls a response over time", "", drawn, "half")


def _refits(e: Evidence) -> str:
    refits = e.summary["committee"]["refits"]
    if not refits:
        return note("It was never fitted: fewer than ten labelled pairs.")
    cells = [
        [
            f"{r['step'] + 1:,}",
            f"{r['n_labels']:,}",
            "plays" if r["playing"] else "gated",
            r["single"],
            "-" if r["gain"] is None else f"{100 * r['gain']:+.1f}",
            "-" if r["lower"] is None else f"{100 * r['lower']:+.1f}",
        ]
        for r in refits
    ]
    header = ["after step", "labels", "committee", "best single arm", "gain, pp", "lower bound, pp"]
    return "<h3>Refits</h3>" + page.table(header, cells, 1)
