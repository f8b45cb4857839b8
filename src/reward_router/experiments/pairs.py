"""BayesianRouter, table 1, as a replay: which arm judges each recorded pair?"""

from collections.abc import Mapping
from functools import partial

from reward_router.experiments.kind import ExperimentKind, Job, Place, Plan, Published, Request
from reward_router.experiments.pair_training import trained_plan
from reward_router.experiments.recorded import (
    ACCURACY,
    SEEDS,
    Recording,
    accuracy_cell,
    identity,
    notes,
    recording,
    warmup_note,
)
from reward_router.experiments.results import Cell

RANDOM = "random"
MOST_ARMS = 12
"""More single arms than these are left out of the table, the weakest first."""
ONE_BY_ONE = {
    RANDOM: ("uniform", "any reward model, each alike often"),
    "majority vote": ("majority", "all reward models vote, a tie counts one half"),
    "UWO, raw scores": ("uwo:scores=raw", "mean less variance of the raw scores (Coste et al.)"),
    "UWO, calibrated": ("uwo", "mean less variance of scores on each reward model's own scale"),
    "LASER": ("laser", "LinUCB, one decision for a batch of 16 prompts"),
    "LinUCB, by prompt": ("linucb", "LinUCB, a decision for every prompt"),
    "committee": ("committee", "asks another reward model only where that pays"),
}
"""Row -> the method of `replay`, and what it is."""
TOGETHER = {
    "BayesianRouter": "bayesian",
    "w/o offline": "bayesian:without=offline",
    "w/o online": "bayesian:without=online",
    "w/o CLS": "bayesian:without=cls",
    "weighted score": "weighted_score",
}
"""Row -> the method; they share one offline stage, so that they are one job."""


def _one(recorded: Recording, row: str, method: str, place: Place) -> Cell:
    return accuracy_cell(recorded.records, {row: recorded.run(method, place.seed)})


def _offline(recorded: Recording, rows: Mapping[str, str], place: Place) -> Cell:
    runs = recorded.crossfit(list(rows.values()), place.seed)
    by_row = {row: runs[method] for row, method in rows.items()}
    return accuracy_cell(recorded.records, by_row)


def single_jobs(recorded: Recording) -> list[Job]:
    """Every arm alone, the most accurate first."""
    records = recorded.records
    accuracy = dict(zip(records.arms, records.correct_PK.mean(axis=0).tolist(), strict=True))
    arms = sorted(records.arms, key=lambda arm: -accuracy[arm])[:MOST_ARMS]
    jobs = []
    for arm in arms:
        row = f"only {arm}"
        jobs.append(Job(row, f"{arm} alone", partial(_one, recorded, row, arm), seeded=False))
    return jobs


def plan(request: Request) -> Plan:
    """Single arms, votes, LASER, and BayesianRouter with and without its parts."""
    if request.config is not None:
        return trained_plan(request)
    recorded = recording(request, "pairs", "merged_4rm")
    jobs = single_jobs(recorded)
    for row, (method, sentence) in ONE_BY_ONE.items():
        jobs.append(Job(row, sentence, partial(_one, recorded, row, method), row != RANDOM))
    jobs.append(
        Job(
            "BayesianRouter and its ablations",
            "Thompson sampling from a prior learned on the other folds, whole and without each "
            "part",
            partial(_offline, recorded, TOGETHER),
        )
    )
    records = recorded.records
    said = [*notes(records), *warmup_note(records)]
    if len(records.arms) > MOST_ARMS:
        said.append(f"The {MOST_ARMS} most accurate of {len(records.arms)} single arms are shown.")
    return Plan(
        jobs=jobs,
        seeds=request.seeds or SEEDS,
        subject=recorded.subject,
        metric=(
            "Accuracy of the verdicts against the labels, in %; calls: reward models asked about a "
            "pair."
        ),
        columns=[ACCURACY],
        reference=RANDOM,
        notes=said,
        identity=identity([recorded]),
        deviations=REPLAYED,
    )


REPLAYED = (
    "A replay of recorded scores: the figure is how often the verdict is right, not what a policy "
    "came to that was trained on it.",
    "The payoff is whether the verdict was right (the paper: the negative DPO loss of the pair, "
    "scaled by quantiles). With neg_loss the payoff needs a policy.",
    "Strengths are learned on the other four folds of the file, on a small encoding of prompt or "
    "pair, not on 50k preference pairs with a 135M encoder; a fifth of the prompts is the stream.",
    "Prior scale, noise and precision are fitted on a dev split (the paper's code: fixed), and "
    "an intercept is added; docs/bayesian-router.md says why.",
    "SFT has no meaning here: nothing is trained.",
)
"""Where the replay differs from the paper."""

TABLE_1 = Published.of(
    "BayesianRouter, table 1 of the poster",
    "published, BayesianRouter",
    """
    method | AlpacaEval-2 | MT-Bench | Chat-Arena-Hard | GSM8K | MMLU
    SFT | 50.00 | 50.00 | 50.00 | 67.63 | 54.29
    RM0 | 56.02 | 52.50 | 59.60 | 72.78 | 56.00
    RM1 | 61.86 | 56.25 | 64.80 | 74.22 | 57.03
    RM2 | 59.50 | 53.75 | 63.20 | 73.92 | 56.57
    RM3 | 60.37 | 52.50 | 62.00 | 74.53 | 56.28
    Majority vote | 60.75 | 53.75 | 63.40 | 74.22 | 56.71
    Random router | 58.39 | 52.50 | 61.20 | 73.46 | 56.07
    UWO (Coste et al., 2023) | 61.74 | 56.25 | 63.60 | 74.30 | 56.43
    LASER (Nguyen et al., 2024) | 60.50 | 51.25 | 62.40 | 74.00 | 56.35
    w/o offline | 60.99 | 53.75 | 63.20 | 74.37 | 56.64
    w/o online | 61.61 | 57.50 | 64.40 | 74.68 | 56.85
    BayesianRouter | 63.23 | 58.75 | 66.20 | 75.66 | 57.39
    """,
    "Figures of a policy after training; the first three columns put SFT at 50. The poster names "
    "no "
    "policy, no seeds and no intervals.",
)

KIND = ExperimentKind(
    "pairs",
    plan,
    "BayesianRouter against single arms, votes, UWO and LASER, whole, without its offline stage "
    "and "
    "without its online stage",
    paper="BayesianRouter, table 1",
    published=(TABLE_1,),
    deviations=(
        "Every figure has several seeds and an interval; no arm is chosen by looking at the test.",
    ),
    unknown=(
        "The policy, the four reward models' names and the training data: the poster does not give "
        "them.",
        "Number of seeds and intervals: the poster gives neither.",
        "The weight of the variance in UWO: ours is 1.",
    ),
    cost={"laptop": "a few minutes, no model to load", "gpu": "none: it reads recorded scores"},
)
