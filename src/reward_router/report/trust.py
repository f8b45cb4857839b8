"""Report section about a prior: how far each arm's payoffs spoke for what the offline stage had learned."""

import math

from reward_router.report.dots import panels
from reward_router.report.gather import Evidence, thin
from reward_router.report.judged import note, whole

GONE, HELD = 0.1, 0.9


def trust(e: Evidence) -> str:
    """Weight of the informative prior per arm over steps; empty where the router had no prior to doubt."""
    records = thin([r for r in e.records if r.get("trust")])
    if not records:
        return ""
    x = [r["step"] + 1 for r in records]
    last = records[-1]["trust"]
    lines = {arm: (x, [r["trust"].get(arm, math.nan) for r in records]) for arm in e.arms if arm in last}
    notes = {arm: f"{whole(last[arm])} at the end" for arm in lines}
    what = (
        "Each arm weighs its prior, learned offline, against no prior at all by how well either foresaw the payoffs it got in this run. A line that falls to zero: what was "
        "learned offline does not hold here, and the arm goes on as if it had never been told. A line that stays where it began: too few payoffs to say."
    )
    drawn = panels(lines, "training step", "weight of the prior", notes=notes, within=(0.0, 1.0))
    return note(what) + note(_said(last)) + drawn


def _said(last: dict[str, float]) -> str:
    """Which arms kept their prior at the end."""
    parts = []
    if kept := [arm for arm, w in last.items() if w >= HELD]:
        parts.append(f"at 90 % or more: {', '.join(kept)}")
    if unsure := [f"{arm} ({whole(w)})" for arm, w in last.items() if GONE <= w < HELD]:
        parts.append(f"in between: {', '.join(unsure)}")
    if gone := [arm for arm, w in last.items() if w < GONE]:
        parts.append(f"under 10 %: {', '.join(gone)}")
    return f"After the last step, {'; '.join(parts)}."
