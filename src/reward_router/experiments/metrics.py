"""LASER, table 5 and figure 8: metrics of reasoning as arms, and metrics that are of no use."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rich.console import Console

from reward_router.errors import InputError
from reward_router.experiments import metric_arms
from reward_router.experiments.kind import ExperimentKind, Job, Place, Plan, Published, Request
from reward_router.experiments.metric_parts import (
    ADDED,
    LEARNING,
    METRICS,
    MODELS,
    drawn,
    row_name,
)
from reward_router.experiments.metric_training import trained_plan
from reward_router.experiments.recorded import (
    ACCURACY,
    SEEDS,
    Recording,
    accuracy_cell,
    identity,
    notes,
    scores_file,
)
from reward_router.experiments.results import Cell
from reward_router.replay.joined import with_arms
from reward_router.replay.protocols import Run

RANDOM = "random"
BOTH = "both"


class Pool:
    """The recorded rows, and the same with the metrics' columns once somebody asks for those."""

    def __init__(self, recorded: Recording) -> None:
        """Nothing is scored yet: --dry-run must not wait for it."""
        self.recorded = recorded
        self.models = list(recorded.records.arms)
        self.specs = metric_arms.specs()
        metric_arms.check_names(recorded.records, self.specs)
        self._scored: Recording | None = None
        self._error: InputError | None = None

    def sets(self) -> dict[str, list[str]]:
        """The sets of arms that are compared."""
        metrics = list(metric_arms.METRICS)
        return {METRICS: metrics, MODELS: self.models, BOTH: [*self.models, *metrics]}

    def run(self, method: str, arms: Sequence[str], place: Place) -> Run:
        """One run of a method among some of the arms."""
        recorded = self.scored(place.console)
        records = with_arms(recorded.records, arms) if len(arms) > 1 else recorded.records
        return recorded.run(method, place.seed, records)

    def scored(self, console: Console) -> Recording:
        """The rows with all columns; the first call scores what the cache does not hold."""
        if self._error is not None:
            raise self._error
        if self._scored is None:
            try:
                records = metric_arms.with_metrics(self.recorded.records, console, self.specs)
            except InputError as error:
                # Every job fails of it: once is enough to find it out.
                self._error = error
                raise
            self._scored = Recording(self.recorded.source, records)
        return self._scored


def _one(pool: Pool, row: str, method: str, arms: Sequence[str], place: Place) -> Cell:
    run = pool.run(method, arms, place)
    cell = accuracy_cell(pool.recorded.records, {row: run})
    shares = dict(zip(arms, run.share_K.tolist(), strict=True)) if len(arms) > 1 else {}
    return Cell(cell.values, calls=cell.calls, facts={"shares": {row: shares}})


def plan(request: Request) -> Plan:
    """Metrics and reward models as arms of recorded pairs, then metrics of no use beside them."""
    if request.config is not None or request.profile == "gpu":
        return trained_plan(request)
    if importlib.util.find_spec("torch") is None:
        raise InputError("metrics computes metrics: it needs pip install 'reward-router[train]'")
    most = metric_arms.most_pairs(request)
    file = scores_file(replace(request, settings=()), "metrics", "merged_4rm")
    records, without_texts = metric_arms.with_texts(file)
    n_recorded = len(records)
    if most is not None and most < n_recorded:
        records = records.take(metric_arms.drawn_rows(n_recorded, most))
    recorded = Recording(file, records.select())
    pool = Pool(recorded)
    jobs: list[Job] = []
    reference: dict[str, str] = {}
    for arm in [*metric_arms.METRICS, *pool.models, *metric_arms.IRRELEVANT]:
        row = f"only {arm}"
        jobs.append(Job(row, f"{arm} alone", partial(_one, pool, row, arm, [arm]), seeded=False))
    for name, arms in pool.sets().items():
        jobs += _among(pool, name, arms, reference)
    for name in (METRICS, MODELS):
        jobs += _with_irrelevant(pool, name, reference)
    said = notes(recorded.records)
    if without_texts:
        said.append(f"Left out: {without_texts:,} rows whose texts are not recorded.")
    if len(records) < n_recorded:
        said.append(f"Drawn at random: {len(records):,} of the {n_recorded:,} pairs.")
    named = ", ".join(metric_arms.IRRELEVANT)
    said.append(f"Of no use, in the order in which they are added: {named}.")
    return Plan(
        jobs=jobs,
        seeds=request.seeds or SEEDS,
        subject=recorded.subject,
        metric=(
            "Accuracy of the chosen arm's verdicts against the labels, in %. Differences are to a "
            "random arm of the same set; with metrics of no use, to the same method without them."
        ),
        columns=[ACCURACY],
        reference=reference,
        derived={"average of the single metrics": [f"only {arm}" for arm in metric_arms.METRICS]},
        notes=said,
        identity=identity([recorded]),
        parts=drawn,
        deviations=RECORDED,
    )


def _among(pool: Pool, name: str, arms: Sequence[str], reference: dict[str, str]) -> list[Job]:
    """Every way of choosing among the arms of a set."""
    row = f"{name}, {RANDOM}"
    sentence = f"any arm of {name}, each alike often"
    work = partial(_one, pool, row, "uniform", arms)
    jobs = [Job(row, sentence, work, seeded=False)]
    for method, (router, what) in LEARNING.items():
        row = f"{name}, {method}"
        work = partial(_one, pool, row, router, arms)
        jobs.append(Job(row, f"{what}; {len(arms)} arms", work))
        reference[row] = f"{name}, {RANDOM}"
    return jobs


def _with_irrelevant(pool: Pool, name: str, reference: dict[str, str]) -> list[Job]:
    """The same with some metrics of no use, compared with itself without them."""
    jobs = []
    for count in ADDED:
        added = list(metric_arms.IRRELEVANT)[:count]
        arms = [*pool.sets()[name], *added]
        for method, (router, what) in LEARNING.items():
            row = row_name(name, count, method)
            work = partial(_one, pool, row, router, arms)
            jobs.append(Job(row, f"{what}; with {', '.join(added)}", work))
            reference[row] = f"{name}, {method}"
    return jobs


RECORDED = (
    "Recorded pairs take the place of training on StrategyQA, GSM8K and MMLU: the figure is how "
    "often the chosen arm orders a labelled pair rightly, not a policy's accuracy. `--config` "
    "trains.",
    "The payoff is whether the verdict was right (the paper: the negative training loss of the "
    "batch, scaled by quantiles).",
    "Every way of choosing decides for every prompt (the paper: for every batch): two batches of "
    "each arm, which LASER begins with, would be half of these pairs.",
    f"Perplexity is that of the first {metric_arms.READ} tokens under SmolLM2-135M (ROSCOE: "
    "GPT-2 large, whole chains).",
)
"""Where the replay differs from the paper."""

HEADER_5 = "method | StrategyQA | GSM8K | MMLU | Avg."

KIND = ExperimentKind(
    "metrics",
    plan,
    "ROSCOE's metrics of reasoning as arms, beside reward models, and whether routers leave "
    "metrics of no use that are added",
    paper="LASER, table 5 and figure 8 (appendix C)",
    published=(
        Published.of(
            "LASER, table 5 (appendix C)",
            "published, Llama-3-8B",
            f"""
            {HEADER_5}
            SFT | 80.41 | 69.43 | 65.66 | 71.83
            Perplexity | 80.55 | 69.21 | 65.62 | 71.79
            Informativeness | 82.87 | 73.55 | 66.69 | 74.37
            Random RM Selection | 82.72 | 70.93 | 66.10 | 73.25
            Sequential RM Selection | 83.15 | 73.38 | 66.17 | 74.23
            LASER (Ours) | 83.54 | 73.80 | 66.79 | 74.71
            """,
        ),
        Published.of(
            "LASER, table 5 (appendix C)",
            "published, Mistral-7B",
            f"""
            {HEADER_5}
            SFT | 68.57 | 43.62 | 56.48 | 56.22
            Perplexity | 68.83 | 43.47 | 57.14 | 56.48
            Informativeness | 70.29 | 44.98 | 59.29 | 58.19
            Random RM Selection | 69.24 | 44.05 | 57.68 | 56.99
            Sequential RM Selection | 70.40 | 44.79 | 59.07 | 58.09
            LASER (Ours) | 70.91 | 44.93 | 59.63 | 58.49
            """,
        ),
        Published.of(
            "LASER, appendix C, the text beside figure 8",
            "published, Llama-3-8B on GSM8K, irrelevant metrics added",
            """
            method | average accuracy drop, in %
            LASER | 0.13
            LASER (Exp3) | 0.4
            Sequential | 2.15
            """,
            "Figure 8 is a drawing; the text gives these three figures. It does not name the "
            "metrics that were added, but says that ROSCOE found them to go little with human "
            "labels.",
        ),
    ),
    deviations=(
        "The metrics are ours, after ROSCOE's formulas, on MiniLM's vectors "
        "(docs/reward-models.md has each with its formula).",
        "There are no reference chains: the source stands for them in reasoning alignment, "
        "hallucination and semantic coverage, and `common sense` is the missing-step metric "
        "against the source.",
        "Coherence is the cosine of neighbouring steps: ROSCOE's needs an NLI model, which the "
        "profile gpu takes.",
        "Metrics of no use are two of repetition, readability, and two that are random numbers: "
        "chosen for looking at no question, before anything was measured.",
    ),
    unknown=(
        "Which variant of each metric (step, token, chain) was used, and under which encoder.",
        "Where reference chains came from for the metrics that compare one.",
        "Which metrics were added as irrelevant, how many, and in which order.",
        "Number of seeds, and intervals: the paper reports neither.",
    ),
    cost={
        "laptop": "1.3 s of CPU a pair of long texts, scored once and kept; then two minutes",
        "gpu": "25 runs of LASER a seed, on three data sets",
    },
)
