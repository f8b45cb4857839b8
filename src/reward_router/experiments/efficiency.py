"""LASER, figure 4: accuracy against wall-clock, and against calls."""

from reward_router.experiments.kind import ExperimentKind, Part, Plan, Published, Request
from reward_router.experiments.profiles import COST, UNKNOWN, deviations, tasks
from reward_router.experiments.results import Results
from reward_router.experiments.trained import BEFORE, GOLD, Training, gold_cell
from reward_router.experiments.variants import ensemble, laser, sequential
from reward_router.report import charts


def plan(request: Request) -> Plan:
    """LASER with LinUCB and with Exp3, the sequential choice, and the ensemble."""
    columns = tasks(request, ("GSM8K",))
    variants = [
        laser(request),
        laser(request, "exp3"),
        sequential(request),
        ensemble(request),
    ]
    training = Training("efficiency", request, columns, variants)
    return training.plan(
        jobs=training.jobs(gold_cell),
        metric=GOLD,
        columns=[task.name for task in columns],
        reference="LASER",
        parts=drawn,
        deviations=deviations(request),
    )


def drawn(results: Results) -> list[Part]:
    """Accuracy against seconds and against calls, with the cost in multiples of LASER's."""
    column = results.columns[0]
    first = results.rows.get("LASER")
    points: dict[str, list[charts.Point]] = {"seconds": [], "calls": []}
    rows = []
    for name, row in results.rows.items():
        figure = row.figures.get(column)
        if name == BEFORE or figure is None or row.seconds is None or row.calls is None:
            continue
        for what, x in (("seconds", row.seconds), ("calls", row.calls)):
            points[what].append(charts.Point(x, figure.mean, figure.low, figure.high, name, name))
        times = "-"
        more = "-"
        if first is not None and first.seconds and first.calls:
            times = f"{row.seconds / first.seconds:.2f}"
            more = f"{row.calls / first.calls:.2f}"
        rows.append([name, f"{row.seconds:,.0f}", times, f"{row.calls:,.0f}", more])
    if len(rows) < 2:
        return []
    header = ["variant", "seconds a run", "times LASER's", "calls a run", "times LASER's calls"]
    return [
        Part(
            "Accuracy against wall-clock",
            "Up is better, left is quicker. Seconds are those of sampling, scoring and training, "
            "measured in the run: what else the machine did is part of them.",
            header,
            rows,
            charts.scatter(points["seconds"], "seconds a run", "gold"),
        ),
        Part(
            "Accuracy against calls",
            "Calls are counted, not measured: they are the same on every machine.",
            (),
            (),
            charts.scatter(points["calls"], "reward-model calls a run", "gold"),
        ),
    ]


KIND = ExperimentKind(
    "efficiency",
    plan,
    "accuracy against wall-clock and against calls: LASER with LinUCB and Exp3, sequential, "
    "ensemble",
    paper="LASER, figure 4 (section 5, Training Efficiency)",
    published=(
        Published.of(
            "LASER, section 5, the text beside figure 4",
            "published, Llama-3-8B on GSM8K",
            """
            method | training time, in multiples of LASER's
            sequential | 3
            offline RM ensemble | 2
            """,
            "Figure 4 is a drawing; the text gives these two multiples and no hours. It says that "
            "Exp3 is slower than LinUCB and the most accurate, and the ensemble the least "
            "accurate.",
        ),
    ),
    deviations=(
        "Time is that of sampling, scoring and training; loading and evaluation are left out.",
    ),
    unknown=UNKNOWN,
    cost=COST,
)
