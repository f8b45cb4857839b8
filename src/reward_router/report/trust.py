"""Report section about a prior: how far each arm's payoffs spoke for what the offline stage had learned."""

from reward_router.report import charts
from reward_router.report.gather import Evidence, thin
from reward_router.report.judged import figure, note, whole

GONE, HELD = 0.1, 0.9


def trust(e: Evidence) -> str:
    """Weight of the informative prior per arm over steps; empty where the router had no prior to doubt."""
    records = thin([r for r in e.records if r.get("trust")])
    if not records:
        return ""
    x = [r["step"] + 1 for r in records]
    series = {arm: (x, [r["trust"].get(arm) for r in records]) for arm in e.arms if arm in records[-1]["trust"]}
    what = (
        "Each arm weighs its prior, learned offline, against no prior at all by how well either foresaw the payoffs it got in this run. A line that falls to zero: what was "
        "learned offline does not hold here, and the arm goes on as if it had never been told. A line that stays where it began: too few payoffs to say."
    )
    drawn = charts.line(series, "training step", "weight of the prior", percent=True)
    return note(what) + note(_said(records[-1]["trust"])) + figure(drawn, fit=True)


def _said(last: dict[str, float]) -> str:
    """Which arms kept their prior at the end."""
    parts = []
    if kept := [arm for arm, w in last.items() if w >= HELD]:
        parts.append(f"believed: {', '.join(kept)}")
    if unsure := [f"{arm} ({whole(w)})" for arm, w in last.items() if GONE <= w < HELD]:
        parts.append(f"in between: {', '.join(unsure)}")
    if gone := [arm for arm, w in last.items() if w < GONE]:
        parts.append(f"given up: {', '.join(gone)}")
    return f"After the last step, {'; '.join(parts)}."
