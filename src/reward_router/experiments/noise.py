"""LASER, figure 3: does the router hold its accuracy where reward models get noisy?"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

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
from reward_router.experiments.results import Cell, Results
from reward_router.keyed import rng
from reward_router.replay.records import Records
from reward_router.report import charts

SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.4)
METHODS = {
    "LASER (LinUCB)": "laser",
    "LASER (Exp3)": "exp3",
    "sequential": "round_robin",
}
SENTENCES = {
    "LASER (LinUCB)": "LinUCB, one decision for a batch of 16 prompts",
    "LASER (Exp3)": "Exp3, without contexts",
    "sequential": "the reward models in turn, whatever they are worth",
}


def noisy(records: Records, sigma: float, seed: int) -> Records:
    """The rows with N(0, (sigma x the arm's sd)^2) on every score; labels stay. O(P K)."""
    draw = rng(seed, "noise", 0, "experiment")
    scores = np.stack([records.first_PK, records.second_PK])
    sd_K = np.nanstd(scores, axis=(0, 1))
    noise = sigma * sd_K * draw.standard_normal(scores.shape)
    first_PK, second_PK = scores + noise
    return replace(records, first_PK=first_PK, second_PK=second_PK)


def _row(method: str, sigma: float) -> str:
    return f"{method}, sigma {sigma:g}"


def _work(
    recorded: Recording,
    with_noise: Callable[[float, int], Records],
    row: tuple[str, float],
    place: Place,
) -> Cell:
    method, sigma = row
    records = with_noise(sigma, place.seed)
    run = recorded.run(METHODS[method], place.seed, records)
    return accuracy_cell(records, {_row(method, sigma): run})


def plan(request: Request) -> Plan:
    """Three ways of choosing an arm, at five levels of noise, on recorded scores."""
    if request.profile == "gpu":
        from reward_router.experiments.trained import noise_plan

        return noise_plan(request, SIGMAS)
    recorded = recording(request, "noise", "merged_4rm")

    @cache
    def with_noise(sigma: float, seed: int) -> Records:
        return noisy(recorded.records, sigma, seed)

    jobs = []
    reference = {}
    for method in METHODS:
        for sigma in SIGMAS:
            name = _row(method, sigma)
            work = partial(_work, recorded, with_noise, (method, sigma))
            jobs.append(Job(name, f"{SENTENCES[method]}; noise of sd {sigma:g}", work))
            reference[name] = _row(method, 0.0)
    return Plan(
        jobs=jobs,
        seeds=request.seeds or SEEDS,
        subject=recorded.subject,
        metric=(
            "Accuracy of the chosen reward model's verdicts, in %. Sigma is in standard deviations "
            "of each reward model's scores; a difference is to the same method without noise."
        ),
        columns=[ACCURACY],
        reference=reference,
        notes=[*notes(recorded.records), *warmup_note(recorded.records)],
        identity=identity([recorded]),
        parts=drawn,
        deviations=(
            "Recorded scores of fixed pairs take the place of training on GSM8K: the figure is how "
            "often the chosen reward model orders a labelled pair rightly, not a policy's "
            "accuracy.",
            "The payoff is whether the noisy verdict was right (the paper: the negative training "
            "loss of the batch, scaled by quantiles).",
            "Exp3 and the sequential choice decide for every prompt; LinUCB decides for batches of "
            "16 as in the paper.",
        ),
    )


def drawn(results: Results) -> list[Part]:
    """Accuracy over sigma, a line a method."""
    series: dict[str, charts.Series] = {}
    bands = {}
    for method in METHODS:
        figures = []
        for sigma in SIGMAS:
            result = results.rows.get(_row(method, sigma))
            if result is not None and ACCURACY in result.figures:
                figures.append((sigma, result.figures[ACCURACY]))
        if len(figures) < 2:
            continue
        xs = [sigma for sigma, _ in figures]
        series[method] = (xs, [figure.mean for _, figure in figures])
        bands[method] = ([f.low for _, f in figures], [f.high for _, f in figures])
    if not series:
        return []
    drawing = charts.line(
        series, "sigma of the noise", "accuracy", bands, percent=True, size={"width": 760}
    )
    caption = "Accuracy at each level of noise, mean over seeds with its 95 % band."
    return [Part("Accuracy over noise", caption, drawing=drawing)]


KIND = ExperimentKind(
    "noise",
    plan,
    "noise of sd .1 to .4 on the scores: how much accuracy do LinUCB, Exp3 and the sequential "
    "choice lose",
    paper="LASER, figure 3 (section 5, Robustness to Noisy Rewards)",
    published=(
        Published.of(
            "LASER, section 5, the text beside figure 3",
            "published, Llama-3-8B on GSM8K",
            """
            method | accuracy drop at sigma = 0.3, in %
            LASER (LinUCB) | 0.55
            sequential | 1.6
            LASER (Exp3) | 0.26
            """,
            "Figure 3 is a drawing without figures; the text gives these three and no others. The "
            "paper calls 0.55 % and 0.26 % LASER's drops; its caption says RewardBench, its text "
            "GSM8K.",
        ),
    ),
    deviations=(
        "Noise is scaled by each reward model's own standard deviation, so that it means the same "
        "for all of them (the paper adds N(0, sigma I) to raw log-likelihoods).",
    ),
    unknown=(
        "alpha of LinUCB and gamma of Exp3: ours are the routers' defaults.",
        "Number of seeds, and intervals: the paper reports neither.",
    ),
    cost={"laptop": "half a minute, no model", "gpu": "15 runs of LASER on GSM8K a seed"},
)
