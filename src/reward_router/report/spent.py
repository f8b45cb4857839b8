"""Report sections about what it took: seconds, calls, and what was left out on the way."""

from collections import Counter

import numpy as np

from reward_router.ledger.columns import Calls
from reward_router.ledger.rows import STATUSES
from reward_router.report import charts, page
from reward_router.report.frame import cut
from reward_router.report.gather import Evidence
from reward_router.report.judged import figure, note
from reward_router.show import duration
from reward_router.types import Int

PHASES = {
    "load": "load: models and data",
    "eval": "eval: gold before and after",
    "sample": "sample: the policy answers",
    "embed": "embed: contexts for the router",
    "route": "route: router and ledger",
    "score": "score: reward models",
    "step": "step: training the policy",
    "payoff": "payoff",
    "audit": "audit",
    "checkpoint": "checkpoint: saving",
}
COUNTS = {
    "skipped_prompts": "prompts without a pair: all responses tied or equal, so there was nothing to learn from",
    "tied_pairs": "pairs whose two scores were too close for their arm to call: not trained on",
    "equal_pairs": "pairs of equal responses, which nobody was asked about",
    "truncated": "sampled responses that the token limit cut (pairs.truncated says what became of them)",
    "agreed": "pairs without a payoff because all arms agreed on them",
    "skipped_steps": "training steps skipped: no pairs, or a loss that was not a number",
    "uninformative": "losses that say nothing of the arm (policy still equal to its reference), not given to the router",
    "no_payoff": "decisions without a payoff: outside the sampled fraction, without right and wrong answers, or failed",
    "arm_failures": "failures of an arm, audits among them: where it was to judge another did, the router was told nothing",
}


def cost(e: Evidence) -> str:
    """Seconds by phase; calls and seconds by arm."""
    seconds = {k: float(v or 0.0) for k, v in e.summary["seconds"].items()}
    total = sum(seconds.values()) or 1.0
    phases = {PHASES.get(k, k): v for k, v in sorted(seconds.items(), key=lambda item: -item[1])}
    what = f"Wall-clock by phase, in seconds ({duration(total)} in all). The router and its ledger took {100 * seconds.get('route', 0.0) / total:.2g} %; "
    what += f"without loading and evaluation, {100 * seconds.get('route', 0.0) / (total - seconds.get('load', 0.0) - seconds.get('eval', 0.0) or 1.0):.2g} %."
    return f"<h3>Time</h3>{note(what)}{figure(charts.bars(phases, 'seconds'))}<h3>Calls</h3>{_calls(e)}"


def _calls(e: Evidence) -> str:
    calls, arms = e.calls, e.summary["arms"]
    shown = [s for s in STATUSES if s in set(calls.status)]
    priced = bool((np.isfinite(calls.price) & (calls.price != 1.0)).any())
    rows = []
    for k, arm in enumerate(calls.arms):
        if not e.routed and arm not in arms:
            continue  # the name that the decisions of an ensemble or a committee bear
        row = arms.get(arm, {})
        mean = row.get("mean_payoff")
        head = [cut(arm, 48), f"{row.get('decisions', 0):,}", "-" if mean is None else f"{mean:.2f}"]
        rows.append(head + _effort(calls, np.flatnonzero(calls.arm == k), shown, priced))
    total = f"{sum(a.get('decisions', 0) for a in arms.values()):,}"
    rows.append(["all", total, "", *_effort(calls, np.arange(len(calls.arm)), shown, priced)])
    kinds = ["calls: judged" if s == "ok" else f"calls: {s}" for s in shown]
    header = ["arm", "decisions", "mean payoff", *kinds, "calls in all", "seconds", "ms a call"]
    what = (
        "One call is one arm scoring one response. Audits serve this report only: neither router nor training sees them. Calls for a label are "
        "for the committee to learn from: labelled responses by the arms that had not been asked, and by the arm that labels. "
        "Seconds leave out the loading of models."
    )
    table = page.table([*header, "price"] if priced else header, rows, 1, [""] * (len(rows) - 1) + ["best"])
    return note(what) + table


def _effort(calls: Calls, mine: Int, shown: list[str], priced: bool) -> list[str]:
    """Calls by status, calls, seconds, milliseconds a call and price of the calls ``mine``, as text."""
    by = Counter(calls.status[i] for i in mine)
    seconds, n = float(np.nansum(calls.seconds[mine])), len(mine)
    cells = [*(f"{by[s]:,}" for s in shown), f"{n:,}", f"{seconds:.2f}", f"{1000 * seconds / n:.1f}" if n else "-"]
    return [*cells, f"{float(np.nansum(calls.price[mine])):,.4g}"] if priced else cells


def left_out(e: Evidence) -> str:
    """Counts of what was skipped, and why arms failed."""
    counts = {k: v for k, v in e.summary.get("counts", {}).items() if v and k != "pairs"}
    pairs = e.summary.get("counts", {}).get("pairs")
    trained = note(f"{pairs:,} preference pairs were trained on.") if pairs is not None else ""
    if not counts:
        return trained + note(
            "Nothing was left out: every prompt gave a pair, every step trained, every decision got its payoff, no arm failed."
        )
    rows = [[f"{v:,}", COUNTS.get(k, k.replace("_", " "))] for k, v in counts.items()]
    reasons = Counter(e.failures).most_common(12)
    failed = (
        page.table(
            ["arm", "reason", "times"], [[cut(arm, 48), cut(reason, 300), f"{n:,}"] for (arm, reason), n in reasons], 2
        )
        if reasons
        else ""
    )
    failed = f"<h3>Failures of arms</h3>{_rests(e)}{failed}" if failed else ""
    return trained + page.table(["times", "what"], rows, 2) + failed


def _rests(e: Evidence) -> str:
    """Per arm: units asked about and judged, failures, and decisions made while it rested."""
    kinds = ("asked", "judged", "failed", "rested")
    known = {arm: row for arm, row in e.summary["arms"].items() if all(kind in row for kind in kinds)}
    if not known:
        return ""
    what = (
        "An arm that fails again and again rests: it gets no decision but a probe now and then, until it answers. Asked: units it was asked about. "
        "Judged: units whose verdict is its own, also where it stood in for another. Rested: decisions that were made while it rested."
    )
    rows = [[cut(arm, 48), *(f"{row[kind]:,}" for kind in kinds)] for arm, row in known.items()]
    return note(what) + page.table(["arm", *kinds], rows, 1)
