"""Report section about a prior: how far the payoffs spoke for what was learned offline."""

from reward_router.report.dots import DotPanel, panels
from reward_router.report.gather import Evidence, thin
from reward_router.report.judged import whole_percent
from reward_router.report.page import note


def trust(e: Evidence) -> str:
    """Weight of the informative prior over steps; empty where the router had no prior to doubt."""
    records = thin([r for r in e.records if r.get("trust") is not None])
    if not records:
        return ""
    steps = [r["step"] + 1 for r in records]
    weights = [r["trust"] for r in records]
    last = whole_percent(weights[-1])
    what = (
        "The prior, learned offline, is weighed against priors that do not know which arm is "
        "which, by how well each foresaw the payoffs of this run, all arms together. "
        "A line that falls to zero: what was learned offline does not hold here, and the router "
        "goes on from what it has seen itself. "
        "A line that stays where it began: too few payoffs to say."
    )
    panel = DotPanel((steps, weights), note=f"{last} at the end")
    drawn = panels({"prior": panel}, "training step", "weight of the prior", within=(0.0, 1.0))
    return note(what) + note(f"After the last step: {last}.") + drawn
