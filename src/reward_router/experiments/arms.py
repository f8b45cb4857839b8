"""BayesianRouter with 2, 4 and 8 arms: what more reward models bring, and what they cost."""

from functools import cache, partial

from reward_router.errors import InputError
from reward_router.experiments.kind import ExperimentKind, Job, Place, Plan, Published, Request
from reward_router.experiments.recorded import (
    ACCURACY,
    accuracy_cell,
    identity,
    notes,
    recording,
    warmup_note,
)
from reward_router.experiments.results import Cell
from reward_router.keyed import rng
from reward_router.replay.joined import with_arms
from reward_router.replay.records import Records

SEEDS = 10
"""Each draws other sets, which differ much: fewer seeds would say little."""
SIZES = (2, 4, 8)
METHODS = {
    "random": "uniform",
    "best of training": "best_train",
    "LASER": "laser",
    "BayesianRouter": "bayesian",
    "majority vote": "majority",
}


def subset(records: Records, size: int, seed: int) -> list[str]:
    """So many arms of a seed's own random order: the smaller sets lie in the larger ones."""
    order = rng(seed, "order", 0, "arms").permutation(len(records.arms)).tolist()
    return [records.arms[k] for k in sorted(order[:size])]


def _row(method: str, size: int) -> str:
    return f"{size} arms, {method}"


def plan(request: Request) -> Plan:
    """Random sets of 2, 4 and 8 of the recorded arms, drawn anew with every seed."""
    recorded = recording(request, "arms", "judgebench_gpt4o")
    records = recorded.records
    # All of them take the place of a size that the file cannot give.
    sizes = sorted({min(size, len(records.arms)) for size in SIZES})
    if len(sizes) < 2:
        raise InputError(f"{records.name}: arms compares sets of 2, 4 and 8 arms, and there are 2")

    @cache
    def chosen(size: int, seed: int) -> Records:
        return with_arms(records, subset(records, size, seed))

    def work(method: str, size: int, place: Place) -> Cell:
        few = chosen(size, place.seed)
        run = recorded.run(METHODS[method], place.seed, few)
        return accuracy_cell(few, {_row(method, size): run})

    jobs = []
    reference = {}
    for size in sizes:
        for method in METHODS:
            name = _row(method, size)
            sentence = f"{METHODS[method]} of replay, among {size} arms"
            jobs.append(Job(name, sentence, partial(work, method, size)))
            reference[name] = _row("best of training", size)
    return Plan(
        jobs=jobs,
        seeds=request.seeds or SEEDS,
        subject=recorded.subject,
        metric=(
            "Accuracy of the verdicts against the labels, in %; calls: reward models asked about a "
            "pair. A difference is to the best single arm of the training folds, among as many "
            "arms."
        ),
        columns=[ACCURACY],
        reference=reference,
        notes=[*notes(records), *warmup_note(with_arms(records, records.arms[: sizes[-1]]))],
        identity=identity([recorded]),
        deviations=(f"Sizes here: {', '.join(map(str, sizes))} of {len(records.arms)} arms.",),
    )


KIND = ExperimentKind(
    "arms",
    plan,
    "2, 4 and 8 reward models: quality and cost of BayesianRouter, LASER, a vote and the best one",
    paper="BayesianRouter (number of reward models)",
    published=(
        Published(
            "The poster has no table and gives no figure for it",
            "published, BayesianRouter",
            (),
            (),
        ),
    ),
    deviations=(
        "A replay of recorded scores, whose payoff is whether the verdict was right.",
        "Which arms make up a set is drawn with every seed, so that the intervals hold the luck "
        "of the "
        "draw as well; the smaller sets lie in the larger ones.",
    ),
    unknown=("Which sets of reward models were compared: the poster does not say.",),
    cost={"laptop": "a few minutes, no model to load", "gpu": "none: it reads recorded scores"},
)
