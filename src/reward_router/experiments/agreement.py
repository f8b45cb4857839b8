"""LASER, figure 5: how far do the reward models prefer the same responses?"""

from functools import partial

import numpy as np

from reward_router.experiments.kind import (
    ExperimentKind,
    Job,
    Part,
    Place,
    Plan,
    Published,
    Request,
)
from reward_router.experiments.recorded import Recording, identity, notes, recording
from reward_router.experiments.results import Cell, Results, per_prompt
from reward_router.replay.records import Records
from reward_router.report import charts
from reward_router.types import Float

MOST = 12
"""So many reward models are compared, the most accurate ones of a file."""


def f1_values(records: Records, arm: str, other: str) -> list[float]:
    """A value for every prompt whose mean is the F1 of "a is better", one arm the other's truth.

    F1 = 2 both / (one + other) over the pairs that both judged, a ratio of sums over rows; a row
    that neither prefers a on adds nothing to either sum.
    """
    margin_P2 = records.margins_PK[:, [records.arms.index(arm), records.arms.index(other)]]
    judged_P1 = ~np.isnan(margin_P2).any(axis=1, keepdims=True)
    prefers_P2 = (margin_P2 > 0) & judged_P1
    weight_P = prefers_P2.sum(axis=1).astype(np.float64)
    both_P = 2.0 * prefers_P2.all(axis=1)
    value_P: Float = np.divide(both_P, weight_P, out=np.zeros_like(both_P), where=weight_P > 0)
    return per_prompt(value_P, records.group_P, weight_P)


def _work(recorded: Recording, arm: str, arms: list[str], place: Place) -> Cell:
    by_arm = {other: f1_values(recorded.records, arm, other) for other in arms if other != arm}
    return Cell(values={arm: {other: numbers for other, numbers in by_arm.items() if numbers}})


def compared(records: Records) -> list[str]:
    """The arms that are compared, the most accurate first."""
    accuracy_K = records.correct_PK.mean(axis=0)
    order = np.argsort(-accuracy_K, kind="stable")[:MOST]
    return [records.arms[k] for k in order]


def plan(request: Request) -> Plan:
    """F1 of every two reward models over recorded pairs."""
    recorded = recording(request, "agreement", "merged_4rm")
    records = recorded.records
    arms = compared(records)
    jobs = [
        Job(
            arm,
            f"F1 of the others with {arm} as the truth",
            partial(_work, recorded, arm, arms),
            False,
        )
        for arm in arms
    ]
    said = notes(records)
    if len(arms) < len(records.arms):
        said.append(f"The {MOST} most accurate of {len(records.arms)} reward models are compared.")
    return Plan(
        jobs=jobs,
        seeds=1,
        subject=recorded.subject,
        metric=(
            "F1 of «the first response is better», one reward model's verdicts the other's truth."
        ),
        columns=arms,
        percent=False,
        notes=said,
        identity=identity([recorded]),
        parts=drawn,
    )


def drawn(results: Results) -> list[Part]:
    """The heat map."""
    arms = [arm for arm in results.columns if arm in results.rows]
    values: list[list[float | None]] = []
    for arm in arms:
        figures = results.rows[arm].figures
        row: list[float | None] = []
        for other in arms:
            figure = figures.get(other)
            row.append(1.0 if other == arm else None if figure is None else figure.mean)
        values.append(row)
    if len(arms) < 2:
        return []
    drawing = charts.heatmap(values, arms, arms, charts.Shade(0.0, 1.0))
    caption = (
        "1: the same verdicts; two that toss coins agree at 0.50. "
        "The best reward model stands first."
    )
    return [Part("Agreement of the reward models", caption, (), (), drawing)]


KIND = ExperimentKind(
    "agreement",
    plan,
    "how far the reward models prefer the same responses: F1 of every two, as a heat map",
    paper="LASER, figure 5 (section 5, Presence of Conflicting Signals)",
    published=(
        Published.of(
            "LASER, section 5, the text beside figure 5 (left)",
            "published, pairs of Llama-3-8B on MMLU",
            """
            two reward models | F1
            Qwen and Zephyr | 0.77
            Qwen and Eurus | 0.58
            Qwen and Olmo | 0.43
            Zephyr and Olmo | 0.57
            """,
            "Figure 5 is a drawing; the text gives these four figures. Of WildChat (right) it "
            "gives "
            "none: disagreement grows there.",
        ),
    ),
    deviations=(
        "The pairs are those of the recorded file, not pairs of one policy's samples on MMLU and "
        "WildChat. The packaged sample holds such pairs: the embedded policy's own answers.",
        "Which response stands first is a fixed coin, so that F1 does not depend on an order that "
        "a benchmark has; the paper does not say how its pairs are ordered.",
    ),
    unknown=(
        "How many pairs were sampled.",
        "What counts where a reward model gives equal scores.",
    ),
    cost={"laptop": "a second, no model", "gpu": "none: it reads recorded scores"},
)
