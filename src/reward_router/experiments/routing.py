"""BayesianRouter, table 2: is the offline router right in and out of its training distribution?"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from reward_router.experiments.encoders import SIZES
from reward_router.experiments.kind import (
    ExperimentKind,
    Job,
    Part,
    Place,
    Plan,
    Published,
    Request,
)
from reward_router.experiments.page import figure_text
from reward_router.experiments.pairs import MOST_ARMS
from reward_router.experiments.recorded import Recording, identity, notes, recording
from reward_router.experiments.results import Cell, Results, per_prompt
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.joined import Parts, parts_of
from reward_router.replay.protocols import Run, averaged
from reward_router.replay.records import Records
from reward_router.types import Float

SEEDS = 3
"""Foldings, where --seeds does not say otherwise."""
IN, IN_SOME = "in distribution", "in, some right"
OUT, OUT_SOME = "out", "out, some right"
RANDOM = "random"
OFFLINE = "offline router"
CHOSEN = {
    RANDOM: "uniform",
    "majority": "majority",
    OFFLINE: "bayesian:without=online",
    "offline router, w/o CLS": "bayesian:without=online,lambda_cls=0",
    "by category": "category_best",
    "logistic": "logistic",
}


def both_denominators(
    records: Records, accuracy_P: Float, names: tuple[str, str]
) -> dict[str, list[float]]:
    """Accuracy over all rows, and over those where some arm is right (the paper's)."""
    some_P = (records.correct_PK.max(axis=1) > 0.5).astype(np.float64)
    every, some = names
    return {
        every: per_prompt(accuracy_P, records.group_P),
        some: per_prompt(accuracy_P, records.group_P, some_P),
    }


class Sources:
    """The recorded rows with each source left out in turn; out of distribution needs two."""

    def __init__(self, recorded: Recording) -> None:
        """Nothing is computed yet."""
        self.recorded = recorded
        records = recorded.records
        self.names: list[str] = []
        if records.source_P is not None:
            present = np.unique(records.source_P)
            self.names = [records.sources[s] for s in present]

    @cache  # noqa: B019 - it lives as long as the command
    def parts(self, name: str) -> Parts:
        """Rows of the other sources to learn from, those of this one to judge."""
        records = self.recorded.records
        assert records.source_P is not None  # only asked where there are sources
        is_judged_P = records.source_P == records.sources.index(name)
        return parts_of(records, is_judged_P, name, False, False)

    def accuracy(self, method: str, seed: int) -> tuple[Records, Float]:
        """Every row judged by what the other sources taught, with the rows in that order."""
        judged_rows: list[Float] = []
        accuracies: list[Float] = []
        for name in self.names:
            parts = self.parts(name)
            run = self._run(method, parts, seed)
            judged_rows.append(parts.test_P.astype(np.float64))
            accuracies.append(run.accuracy_P)
        order_P = np.concatenate(judged_rows).astype(np.int64)
        return self.recorded.records.take(order_P), np.concatenate(accuracies)

    def _run(self, method: str, parts: Parts, seed: int) -> Run:
        records = self.recorded.records
        conditions = self.recorded.conditions(records, parts)
        [plan] = [p for p in methods.plan([method], records) if p.label == method]
        contexts = self.recorded.contexts
        with one_thread():
            if not plan.cross_fitted:
                return methods.run(plan, records, contexts, conditions, seed)
            judged = methods.run_crossfit([plan], records, contexts, conditions, seed)
            return averaged([judged[method]])


def _work(recorded: Recording, sources: Sources, row: str, method: str, place: Place) -> Cell:
    run = recorded.run(method, place.seed)
    values = both_denominators(recorded.records, run.accuracy_P, (IN, IN_SOME))
    if len(sources.names) > 1:
        records, accuracy_P = sources.accuracy(method, place.seed)
        values |= both_denominators(records, accuracy_P, (OUT, OUT_SOME))
    categories = _by_category(recorded.records, run.accuracy_P)
    return Cell(values={row: values | categories}, calls={row: run.calls})


MOST_CATEGORIES = 6


def _by_category(records: Records, accuracy_P: Float) -> dict[str, list[float]]:
    """Accuracy in each of the largest categories."""
    columns = {}
    for code, name in largest_categories(records):
        in_P = records.category_P == code
        columns[name] = per_prompt(accuracy_P[in_P], records.group_P[in_P])
    return columns


def largest_categories(records: Records) -> list[tuple[int, str]]:
    """(code, name) of the categories with the most rows; none where there is only one."""
    counts = np.bincount(records.category_P, minlength=len(records.categories))
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]][:MOST_CATEGORIES]
    return [(c, records.categories[c]) for c in order] if len(order) > 1 else []


def plan(request: Request) -> Plan:
    """Offline rules on folds of the file, and on each source that they never saw."""
    sizes = SIZES[request.profile]
    # A GPU makes the encoders larger; the scores are the recorded ones either way.
    recorded = recording(replace(request, profile="laptop"), "routing", "merged_4rm")
    records = recorded.records
    sources = Sources(recorded)
    rows = {f"only {arm}": arm for arm in _best_arms(records)} | CHOSEN
    jobs = []
    for row, method in rows.items():
        is_seeded = row in CHOSEN and row not in (RANDOM, "majority")
        work = partial(_work, recorded, sources, row, method)
        jobs.append(Job(row, f"`{method}` of replay", work, is_seeded))
    for size, encoder in sizes.items():
        row = f"{OFFLINE}, {size}"
        other = replace(recorded, encoder=encoder.encoder())
        work = partial(_work, other, Sources(other), row, CHOSEN[OFFLINE])
        jobs.append(Job(row, f"`{CHOSEN[OFFLINE]}` of replay on {encoder.sentence}", work))
    columns = [IN, IN_SOME]
    if len(sources.names) > 1:
        columns += [OUT, OUT_SOME]
    said = notes(records)
    if len(sources.names) > 1:
        said.append(f"Out of distribution: each of {', '.join(sources.names)} is left out in turn.")
    else:
        said.append("The rows are of one source, so that nothing is out of distribution.")
    return Plan(
        jobs=jobs,
        seeds=request.seeds or SEEDS,
        subject=recorded.subject,
        metric=(
            "Accuracy of the verdicts, in %: over all pairs, and over those where some reward "
            "model "
            "is right (the paper's denominator, which flatters every method)."
        ),
        columns=columns,
        reference=RANDOM,
        compared=IN,
        parts=partial(by_category, [name for _, name in largest_categories(records)]),
        notes=said,
        identity=identity([recorded]),
    )


def by_category(categories: Sequence[str], results: Results) -> list[Part]:
    """Accuracy in the largest categories, in distribution."""
    rows = []
    for name, row in results.rows.items():
        cells = [figure_text(row.figures.get(category), True) for category in categories]
        rows.append([name, *cells])
    if not categories:
        return []
    header = ["variant", *(f"{category} [95 %]" for category in categories)]
    caption = "In distribution, over all pairs, in %; the categories with the most pairs."
    return [Part("By category", caption, header, rows)]


def _best_arms(records: Records) -> list[str]:
    accuracy_K = records.correct_PK.mean(axis=0)
    return [records.arms[k] for k in np.argsort(-accuracy_K, kind="stable")[:MOST_ARMS]]


KIND = ExperimentKind(
    "routing",
    plan,
    "accuracy of offline routing, in and out of its training distribution and by category, with "
    "both "
    "denominators",
    paper="BayesianRouter, table 2",
    published=(
        Published.of(
            "BayesianRouter, table 2 of the poster",
            "published, BayesianRouter",
            """
            method | in-distribution score | Factuality | Precise IF | Math | Safety | Focus | All
            RM_0 | 77.54 | 75.44 | 59.22 | 78.76 | 85.10 | 75.61 | 77.61
            RM_1 | 81.43 | 84.33 | 68.44 | 81.18 | 96.00 | 95.73 | 87.65
            RM_2 | 79.51 | 80.04 | 67.38 | 79.03 | 97.60 | 90.85 | 85.88
            RM_3 | 81.14 | 77.64 | 70.92 | 90.05 | 92.70 | 92.38 | 85.34
            Majority | 83.17 | 77.74 | 67.73 | 85.75 | 96.50 | 90.85 | 85.64
            Random | 79.80 | 79.94 | 65.96 | 82.80 | 92.80 | 87.80 | 84.48
            Ours (w/o CLS) | 89.73 | 84.12 | 66.67 | 85.22 | 96.20 | 92.99 | 87.34
            Ours (135M) | 90.31 | 84.85 | 65.60 | 86.83 | 96.20 | 92.07 | 87.92
            Ours (0.5B) | 90.77 | 85.16 | 66.31 | 87.90 | 95.90 | 91.46 | 88.06
            """,
            "The six columns from Factuality on are out of distribution (the categories of "
            "RewardBench 2).",
        ),
    ),
    deviations=(
        "Encoders are frozen (the paper trains its 135M or 0.5B encoder along with the head). "
        "Where no size is named the encoder is MiniLM, of 22M weights.",
        "An encoder reads the prompt where some row lacks its responses, else prompt and response, "
        "and on the laptop the first and last 64 tokens of a text.",
        "In distribution: five folds of the recorded file by prompt. Out of distribution: each "
        "source "
        "of the file left out in turn, not RewardBench 2.",
        "No checkpoint is chosen on the judged rows (the authors' code chooses it on RewardBench "
        "2).",
    ),
    unknown=(
        "The reward models' names and the in-distribution set: the poster does not give them.",
        "Whether its scores leave out pairs on which every reward model is wrong: the authors' "
        "code "
        "does, so that both denominators stand here.",
    ),
    cost={
        "laptop": "ten minutes: the 135M states of all prompts, which are kept, are most of it",
        "gpu": "minutes: the states of the 0.5B encoder; scores are the recorded ones",
    },
)
