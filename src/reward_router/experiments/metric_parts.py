"""The further sections of the experiment `metrics`: shares of arms, accuracy as arms are added."""

from collections.abc import Mapping

import numpy as np

from reward_router.experiments import metric_arms
from reward_router.experiments.kind import Part
from reward_router.experiments.recorded import ACCURACY
from reward_router.experiments.results import Results
from reward_router.report import charts

LEARNING = {
    "LASER (LinUCB)": ("linucb", "LinUCB, a decision for every prompt"),
    "LASER (Exp3)": ("exp3", "Exp3, without contexts"),
    "adaptive": ("adaptive", "strengths of all arms pooled, contexts as far as evidence goes"),
    "sequential": ("round_robin", "the arms in turn, whatever they are worth"),
}
"""Row -> the method of `replay`, and what it is."""
METRICS = "metrics"
MODELS = "reward models"
ADDED = (1, 3, 5)
"""How many metrics that are of no use join the others."""


def row_name(name: str, count: int, method: str) -> str:
    """The row of a method in a set of arms with so many metrics of no use beside them."""
    return f"{name} + {count}, {method}" if count else f"{name}, {method}"


def drawn(results: Results) -> list[Part]:
    """Shares of the metrics of no use, accuracy over their number, and shares of every arm."""
    shares = _shares(results)
    parts = [_left(shares), _who(shares)]
    for name in (METRICS, MODELS):
        series: dict[str, charts.Series] = {}
        bands = {}
        for method in LEARNING:
            figures = []
            for count in (0, *ADDED):
                row = results.rows.get(row_name(name, count, method))
                if row is not None and ACCURACY in row.figures:
                    figures.append((count, row.figures[ACCURACY]))
            if len(figures) > 1:
                counts = [count for count, _ in figures]
                series[method] = (counts, [figure.mean for _, figure in figures])
                bands[method] = ([f.low for _, f in figures], [f.high for _, f in figures])
        if series:
            label = "metrics of no use"
            size = {"width": 760}
            drawing = charts.line(series, label, ACCURACY, bands, percent=True, size=size)
            caption = f"Accuracy among the {name} as metrics of no use are added, with 95 % bands."
            parts.append(Part(f"Metrics of no use beside {name}", caption, drawing=drawing))
    return [part for part in parts if part.rows or part.drawing]


def _shares(results: Results) -> Mapping[str, Mapping[str, float]]:
    """Row -> arm -> share of the calls, the mean over seeds."""
    by_row: dict[str, list[Mapping[str, float]]] = {}
    for cell in results.cells.values():
        for row, shares in cell.facts.get("shares", {}).items():
            if shares:
                by_row.setdefault(row, []).append(shares)
    means = {}
    for row, several in by_row.items():
        means[row] = {arm: float(np.mean([one[arm] for one in several])) for arm in several[0]}
    return means


def _left(shares: Mapping[str, Mapping[str, float]]) -> Part:
    """What share of the calls went to metrics of no use."""
    rows = []
    for name in (METRICS, MODELS):
        for method in LEARNING:
            cells = []
            for count in ADDED:
                by_arm = shares.get(row_name(name, count, method), {})
                wasted = sum(by_arm.get(arm, 0.0) for arm in metric_arms.IRRELEVANT)
                cells.append(f"{100 * wasted:.0f}" if by_arm else "-")
            if set(cells) != {"-"}:
                rows.append([f"{name}, {method}", *cells])
    caption = (
        "Share of the calls that went to metrics of no use, in %, the mean over seeds. The "
        "sequential choice gives each arm the same: that is what a router must stay under."
    )
    return Part("Are they left?", caption, ["variant", *(f"{n} added" for n in ADDED)], rows)


def _who(shares: Mapping[str, Mapping[str, float]]) -> Part:
    """Each arm's share of the calls with all metrics of no use among the arms."""
    rows = []
    methods = [method for method in LEARNING if method != "sequential"]
    for name in (METRICS, MODELS):
        by_method = [shares.get(row_name(name, max(ADDED), method), {}) for method in methods]
        arms = list(dict.fromkeys(arm for by_arm in by_method for arm in by_arm))
        for arm in arms:
            cells = [f"{100 * by_arm[arm]:.0f}" if arm in by_arm else "-" for by_arm in by_method]
            rows.append([f"{name} + {max(ADDED)}: {arm}", *cells])
    caption = "Share of the calls that went to each arm, in %, the mean over seeds."
    return Part("Who was asked", caption, ["arm", *methods], rows)
