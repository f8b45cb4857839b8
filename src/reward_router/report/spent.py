"""Report sections about what it took: seconds, calls, and what was left out on the way."""

from collections import Counter

import numpy as np

from reward_router.report import charts, page
from reward_router.report.gather import Evidence
from reward_router.report.judged import figure, note
from reward_router.show import duration

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
    "skipped_steps": "training steps skipped: no pairs, or a loss that was not a number",
    "uninformative": "losses that say nothing of the arm (policy still equal to its reference), not given to the router",
    "no_payoff": "decisions without a payoff: outside the sampled fraction, without right and wrong answers, or failed",
    "arm_failures": "failures of an arm: another arm judged in its place, the router was told nothing",
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
    statuses = Counter(zip(e.calls.arm.tolist(), e.calls.status, strict=True))
    spent = (
        np.bincount(e.calls.arm, np.nan_to_num(e.calls.seconds), len(e.calls.arms))
        if len(e.calls.arm)
        else np.zeros(len(e.calls.arms))
    )
    shown = [
        s for s in ("ok", "audit", "fallback", "abstained", "failed", "timeout") if any(key[1] == s for key in statuses)
    ]
    rows = []
    for k, arm in enumerate(e.calls.arms):
        n, row = sum(statuses[k, s] for s in shown), e.summary["arms"].get(arm, {})
        mean = row.get("mean_payoff")
        rows.append(
            [
                arm,
                f"{row.get('decisions', 0):,}",
                "-" if mean is None else f"{mean:.2f}",
                *(f"{statuses[k, s]:,}" for s in shown),
                f"{n:,}",
                f"{spent[k]:.2f}",
                f"{1000 * spent[k] / n:.1f}" if n else "-",
            ]
        )
    sums = [f"{sum(statuses[k, s] for k in range(len(e.calls.arms))):,}" for s in shown]
    decisions = sum(a["decisions"] for a in e.summary["arms"].values())
    rows.append(
        [
            "all",
            f"{decisions:,}",
            "",
            *sums,
            f"{len(e.calls.arm):,}",
            f"{float(spent.sum()):.2f}",
            f"{1000 * float(spent.sum()) / len(e.calls.arm):.1f}" if len(e.calls.arm) else "-",
        ]
    )
    header = [
        "arm",
        "decisions",
        "mean payoff",
        *({"ok": "calls: judged"}.get(s, f"calls: {s}") for s in shown),
        "calls in all",
        "seconds",
        "ms a call",
    ]
    what = "One call is one arm scoring one response. Audits serve this report only: neither router nor training sees them. Seconds leave out the loading of models."
    classes = [""] * (len(rows) - 1) + ["best"]
    return note(what) + page.table(header, rows, 1, classes)


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
        page.table(["arm", "reason", "times"], [[arm, reason[:300], f"{n:,}"] for (arm, reason), n in reasons], 2)
        if reasons
        else ""
    )
    return trained + page.table(["times", "what"], rows, 2) + (f"<h3>Failures of arms</h3>{failed}" if failed else "")
