"""LASER, figure 6: which reward model does the bandit ask, by category and over training?"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.experiments.kind import ExperimentKind, Part, Plan, Published, Request
from reward_router.experiments.profiles import COST, UNKNOWN, Task, deviations, tasks
from reward_router.experiments.results import Cell, Results
from reward_router.experiments.trained import Done, Training
from reward_router.experiments.variants import Variant, laser
from reward_router.report import charts

ALL = "all"
THIRDS = ("first third", "second third", "last third")


def plan(request: Request) -> Plan:
    """One LASER run a seed; the rows are the reward models."""
    columns = tasks(request)
    if request.config is None and request.profile == "gpu":
        columns = [Task("WildChat", preset="laser-llama3-wildchat")]
    one = laser(request)
    # A decision for a whole batch belongs to no category.
    settings = tuple(setting.replace("unit: batch", "unit: prompt") for setting in one.settings)
    training = Training(
        "utilisation", request, columns, [Variant(one.name, one.sentence, settings)]
    )
    return training.plan(
        jobs=training.jobs(shares_cell),
        metric="Share of LASER's decisions that went to each reward model, in %, by category.",
        parts=drawn,
        deviations=deviations(request),
    )


def shares_cell(training: Training, done: Done) -> Cell:
    """Of every decision, whether it was for an arm: in all and by the prompt's category."""
    from reward_router.examples import load_examples
    from reward_router.ledger import Ledger

    category_of = {example.id: example.category for example in load_examples(done.config.data)}
    with Ledger(done.folder / "ledger.sqlite") as ledger:
        decisions = ledger.decisions(contexts=False)
    arms = list(done.summary["arms"])
    columns: dict[str, list[int]] = {ALL: list(range(len(decisions.unit)))}
    for row, unit in enumerate(decisions.unit):
        if category := category_of.get(unit, ""):
            columns.setdefault(category, []).append(row)
    values: dict[str, dict[str, list[float]]] = {}
    for k, arm in enumerate(arms):
        is_chosen = (decisions.arm == k).astype(float).tolist()
        values[arm] = {name: [is_chosen[row] for row in rows] for name, rows in columns.items()}
    return Cell(values=values, facts={"arms": arms, "chosen": decisions.arm.tolist()})


def drawn(results: Results) -> list[Part]:
    """A heat map by category, and shares over training."""
    arms = list(results.rows)
    columns = list(results.columns)
    values = []
    for arm in arms:
        figures = results.rows[arm].figures
        values.append([figures[c].mean if c in figures else None for c in columns])
    shade = charts.Shade(0.0, 1.0, percent=True)
    parts = [
        Part(
            "Shares by category",
            "Share of decisions in %; every column adds up to 100.",
            (),
            (),
            charts.heatmap(values, arms, columns, shade),
        )
    ]
    over_time = _thirds([cell.facts for cell in results.cells.values()])
    rows = [[arm, *(f"{100 * share:.0f}" for share in over_time[arm])] for arm in arms]
    bands = {arm: over_time[arm] for arm in arms}
    parts.append(
        Part(
            "Shares over training",
            "Share of decisions in each third of training, in %, the mean over seeds.",
            ["reward model", *THIRDS],
            rows,
            charts.shares([1, 2, 3], bands, "third of training"),
        )
    )
    return parts


def _thirds(runs: Sequence[Any]) -> dict[str, list[float]]:
    """Arm -> its share of each third of the decisions, the mean over runs."""
    shares: dict[str, list[list[float]]] = defaultdict(list)
    for facts in runs:
        thirds = np.array_split(np.array(facts["chosen"]), 3)
        for k, arm in enumerate(facts["arms"]):
            shares[arm].append(
                [float((third == k).mean()) if len(third) else 0.0 for third in thirds]
            )
    return {arm: np.mean(many, axis=0).tolist() for arm, many in shares.items()}


KIND = ExperimentKind(
    "utilisation",
    plan,
    "the share of each reward model in LASER's decisions, by category and over training",
    paper="LASER, figures 6 and 7",
    published=(
        Published(
            "LASER, section 5 and appendix B: figures 6 and 7 are drawings without figures",
            "published, Llama-3-8B on WildChat and LongBench",
            ("what the text says",),
            (
                ("WildChat, creative: Olmo and Eurus about 20 % more often than Qwen",),
                ("WildChat, math: Qwen roughly half the time, Olmo and Eurus sparingly",),
                ("LongBench, QA: nearly equal use of Zephyr and Qwen",),
                ("LongBench, multi-document QA: Qwen exceeds Zephyr",),
                (
                    "LongBench, summarization and few-shot: Zephyr by 59 % and 31 % over the "
                    "second "
                    "best, the least performant less than 3 %",
                ),
            ),
        ),
    ),
    deviations=(
        "Every prompt has its own decision, so that it belongs to a category (the paper decides "
        "for "
        "batches and does not say how their prompts are mixed).",
        "gpu: WildChat without the classifier that names the categories, unless your own file "
        "has a "
        "column for them (data.columns.category).",
    ),
    unknown=UNKNOWN,
    cost=COST,
)
