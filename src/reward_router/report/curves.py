"""Report section with the curves that one watches while a policy is trained, from metrics.jsonl."""

from dataclasses import dataclass

from reward_router.report.dots import trend
from reward_router.report.gather import Evidence, Json, thin, trailing
from reward_router.report.page import figure, folded, grid, note


@dataclass(frozen=True)
class Curve:
    """One chart.

    Args:
        title: of the chart.
        key: in metrics.jsonl.
        axis: how the axis is called.
        caption: what the curve says.
        share: whether it is a share.
    """

    title: str
    key: str
    axis: str
    caption: str
    share: bool = False

    @property
    def heading(self) -> str:
        """Its title with the unit."""
        return f"{self.title}, {self.axis}" if self.axis else self.title

    def value(self, record: Json) -> float | None:
        """What a line of the log says; of several values (rates of steps) the last one."""
        value = record.get(self.key)
        if isinstance(value, list):
            value = value[-1] if value else None
        return None if value is None else float(value)


CURVES = (
    Curve(
        "Training loss",
        "loss",
        "nats a pair",
        "Falling: agreement with its judges, right or wrong.",
    ),
    Curve(
        "Gold of the sampled responses",
        "gold_sampled",
        "share right",
        "By their rules; other prompts each step, hence the noise.",
        share=True,
    ),
    Curve(
        "Reward margin",
        "margin",
        "nats",
        "Implicit reward, chosen less rejected, before the step.",
    ),
    Curve(
        "Pair accuracy",
        "pair_accuracy",
        "share of pairs",
        "Ordered by the policy as by its judge; it starts at 50 %.",
        share=True,
    ),
    Curve(
        "KL to the reference",
        "kl",
        "nats a response",
        "How far the policy has moved, on its own responses.",
    ),
    Curve(
        "Share of responses finished",
        "finished",
        "",
        "Ended by themselves, not by the token limit.",
        share=True,
    ),
    Curve("Response length", "words", "words", "A drift often means that a judge rewards length."),
    Curve(
        "Gradient norm", "grad_norm", "", "Before clipping; spikes say that train.lr is too high."
    ),
    Curve("Learning rate", "lr", "", "Of the last optimiser step of each batch."),
)


def training(e: Evidence) -> str:
    """All curves that the log holds, in small charts on one numbering of steps."""
    drawn = [_drawn(e, curve) for curve in CURVES]
    shown = [part for part in drawn if part]
    if not shown:
        return note("No step was logged.")
    loss = str((e.config.get("train") or {}).get("loss", ""))
    lead = f"Dots: single steps; line: their trailing mean. Loss: {loss}."
    if loss == "dpo":
        lead += (
            " It starts near log 2 = 0.693 in every iteration, "
            "because the reference moves up to the policy."
        )
    absent = [c.title.lower() for c, part in zip(CURVES, drawn, strict=True) if not part]
    missing = ""
    if absent:
        text = f"Not in this run's log: {', '.join(absent)}."
        missing = folded("What is missing here", note(text))
    return note(lead) + grid(shown, 3) + missing


def _drawn(e: Evidence, curve: Curve) -> str:
    points = []
    for record in e.records:
        value = curve.value(record)
        if value is not None:
            points.append((record["step"] + 1, value))
    if not points:
        return ""

    window = max(1, min(len(points) // 8, 50))
    mean = trailing([y for _, y in points], window)
    # Thinned after the mean was taken, so that it is one of all steps.
    all_three = [(x, y, m) for (x, y), m in zip(points, mean, strict=True)]
    x, y, m = (list(column) for column in zip(*thin(all_three), strict=True))
    chart = trend((x, y), m, "training step", curve.axis, percent=curve.share)
    return figure(curve.heading, curve.caption, chart)


def length_change(e: Evidence) -> tuple[float, float] | None:
    """Mean words of a response in the first and in the last quarter of the run.

    None before there are four steps.
    """
    words = [float(record["words"]) for record in e.records if record.get("words") is not None]
    quarter = len(words) // 4
    if not quarter:
        return None
    first = sum(words[:quarter]) / quarter
    last = sum(words[-quarter:]) / quarter
    return first, last
