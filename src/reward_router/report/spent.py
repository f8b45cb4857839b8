"""Report sections about what it took: seconds, calls, and what was left out on the way."""

from collections import Counter

import numpy as np

from reward_router.ledger.columns import Calls
from reward_router.ledger.rows import STATUSES
from reward_router.progress import duration
from reward_router.report import charts, page
from reward_router.report.frame import cut
from reward_router.report.gather import Evidence
from reward_router.report.page import figure, grid, note
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
LEFT_OUT = {
    "skipped_prompts": "prompts without a pair: all responses tied or equal, "
    "so there was nothing to learn from",
    "tied_pairs": "pairs whose two scores were too close for their arm to call: not trained on",
    "equal_pairs": "pairs of equal responses, which nobody was asked about",
    "agreed": "pairs without a payoff because all arms agreed on them",
    "skipped_steps": "training steps skipped: no pairs, or a loss that was not a number",
    "uninformative": "losses that say nothing of the arm (policy still equal to its reference), "
    "not given to the router",
    "no_payoff": "decisions without a payoff: outside the sampled fraction, "
    "without right and wrong answers, or failed",
    "abstained": "prompts on which the arm that was drawn gave no order: another judged, or nobody",
    "failed_rows": "rows that an arm failed on though it answered others: another arm judged them",
    "arm_failures": "failures of an arm, audits among them: where it was to judge another did, "
    "the router was told nothing",
    "long_prompts": "prompts longer than policy.max_prompt_tokens, left out of the data "
    "(data.long_prompts: skip)",
}
"""Counts of what a run left out; other counts (pairs, responses) are of what it did."""
CUT = {
    "lose": "each loses to every finished one",
    "drop": "they make no pairs",
    "keep": "they are judged as any other",
}


def cost(e: Evidence) -> str:
    """Seconds by phase; calls, seconds and price by arm."""
    seconds = {phase: float(spent or 0.0) for phase, spent in e.summary["seconds"].items()}
    longest_first = sorted(seconds.items(), key=lambda item: -item[1])
    phases = {PHASES.get(phase, phase): spent for phase, spent in longest_first}

    # Shares of nothing are 0, so a run without any time counts as one second.
    total = sum(seconds.values()) or 1.0
    apart = seconds.get("load", 0.0) + seconds.get("eval", 0.0)
    steps_alone = total - apart or 1.0
    route = 100 * seconds.get("route", 0.0)
    what = (
        f"In seconds, {duration(total)} in all. "
        f"The router and its ledger took {route / total:.2g} %; "
        f"without loading and evaluation, {route / steps_alone:.2g} %."
    )
    drawn = figure("Time by phase", what, charts.bars(phases, "seconds"), "half")
    return grid([drawn, _calls(e)])


def _calls(e: Evidence) -> str:
    calls = e.calls
    arms = e.summary["arms"]
    shown = [s for s in STATUSES if s in set(calls.status)]
    rows = []
    for k, arm in enumerate(calls.arms):
        row = arms.get(arm, {})
        head = [cut(arm, 40), f"{row.get('decisions', 0):,}"]
        rows.append(head + _effort(calls, np.flatnonzero(calls.arm == k), shown))
    total = f"{sum(a.get('decisions', 0) for a in arms.values()):,}"
    rows.append(["all", total, *_effort(calls, np.arange(len(calls.arm)), shown)])
    kinds = [f"calls: {'judged' if s == 'ok' else s}" for s in shown] if len(shown) > 1 else []
    header = ["arm", "decisions", *kinds, "calls", "seconds", "ms a call", "price"]
    what = (
        "One call is one arm scoring one response; price: the arms' cost, one a call by default. "
        "Seconds leave out the loading of models."
    )
    if "audit" in shown:
        what += " Audits serve this report only: neither router nor training sees them."
    if "label" in shown:
        what += " Calls for a label are for the committee to learn from."
    classes = [""] * (len(rows) - 1) + ["total"]
    return figure("Calls", what, page.table(header, rows, 1, classes, sortable=len(rows) > 3))


def _effort(calls: Calls, mine: Int, shown: list[str]) -> list[str]:
    """What the calls ``mine`` took, as text.

    Calls by status (where there are several), calls, seconds, milliseconds a call and price.
    """
    by = Counter(calls.status[i] for i in mine)
    seconds = float(np.nansum(calls.seconds[mine]))
    n = len(mine)
    kinds = [f"{by[s]:,}" for s in shown] if len(shown) > 1 else []
    price = float(np.nansum(calls.price[mine]))
    return [
        *kinds,
        f"{n:,}",
        f"{seconds:.2f}",
        f"{1000 * seconds / n:.1f}" if n else "-",
        f"{price:,.4g}",
    ]


def left_out(e: Evidence) -> str:
    """Counts of what was skipped, and why arms failed."""
    tally = e.summary.get("counts", {})
    counts = {k: tally[k] for k in LEFT_OUT if tally.get(k)}
    trained = ""
    if tally.get("pairs") is not None:
        trained = f"{tally['pairs']:,} preference pairs were trained on."
    if tally.get("truncated"):
        fate = CUT.get(str(e.summary.get("truncated")), "")
        what = f": {fate}" if fate else ""
        trained += f" {tally['truncated']:,} sampled responses were cut by the token limit{what}."
    if not counts:
        return note(
            f"{trained} Nothing was left out: every prompt gave a pair, every step trained, "
            "every decision got its payoff, no arm failed."
        )
    rows = [[f"{v:,}", LEFT_OUT[k]] for k, v in counts.items()]
    return note(trained) + page.table(["times", "what"], rows, 2) + _failures(e)


def _failures(e: Evidence) -> str:
    reasons = Counter(e.failures).most_common(12)
    if not reasons:
        return ""
    rows = []
    for (arm, reason), times in reasons:
        rows.append([cut(arm, 48), cut(reason, 300), f"{times:,}"])
    shown = page.table(["arm", "reason", "times"], rows, 2)
    return f"<h3>Failures of arms</h3>{_rests(e)}{shown}"


def _rests(e: Evidence) -> str:
    """Of each arm: units asked about and judged, failures, and decisions made while it rested."""
    kinds = ("asked", "judged", "failed", "rested")
    rows = []
    for arm, row in e.summary["arms"].items():
        if row.keys() >= set(kinds):
            rows.append([cut(arm, 48), *(f"{row[kind]:,}" for kind in kinds)])
    if not rows:
        return ""
    what = (
        "An arm that fails again and again rests: it gets no decision but a probe now and then, "
        "until it answers. Asked: units it was asked about. "
        "Judged: units whose verdict is its own, also where it stood in for another. "
        "Rested: decisions that were made while it rested."
    )
    return note(what) + page.table(["arm", *kinds], rows, 1)
