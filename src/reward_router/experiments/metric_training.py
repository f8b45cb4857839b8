"""`metrics` in training: a policy is trained on ROSCOE's metrics as arms, then on some of no use.

Models are the packaged ones, or, with ``--profile gpu``, the paper's policy with ROSCOE's own
language model and NLI model.
"""

from collections.abc import Mapping, Sequence

from reward_router.experiments import metric_arms
from reward_router.experiments.kind import Plan, Request
from reward_router.experiments.metric_parts import ADDED
from reward_router.experiments.profiles import deviations, tasks
from reward_router.experiments.trained import GOLD, Training, gold_cell, shares_part
from reward_router.experiments.variants import Variant, laser, random_arm, sequential
from reward_router.strict_json import dumps

SINGLES = ("perplexity", "informativeness")
"""The two metrics that the paper trains on alone."""
FIGURE_8 = "GSM8K"
"""The data set that metrics of no use are tried on, of several."""
GPU_MODELS: Mapping[str, Mapping[str, object]] = {
    "perplexity": {
        "kind": "roscoe_lm",
        "model": "openai-community/gpt2-large",
        "metric": "perplexity_chain",
    },
    "coherence": {
        "kind": "roscoe_classifier",
        "model": "MoritzLaurer/DeBERTa-v3-large-mnli-fever-anli-ling-wanli",
        "metric": "self_consistency",
    },
}
"""ROSCOE's own models, where a small one stands in on the laptop."""


def trained_plan(request: Request) -> Plan:
    """LASER, random, sequential and two single metrics, then LASER and sequential with more."""
    columns = tasks(request)
    variants, reference = _variants(request)
    training = Training("metrics", request, columns, variants)
    several = len(columns) > 1
    jobs = training.jobs(gold_cell)
    if several:
        table_5 = [variant.name for variant in variants if reference.get(variant.name) == "random"]
        jobs = [job for job in jobs if _belongs(job.name, table_5)]
    return training.plan(
        jobs=jobs,
        metric=(
            f"{GOLD} Differences are to random; with metrics of no use, to the same method without "
            f"them{f'; both on {FIGURE_8}' if several else ''}."
        ),
        columns=[task.name for task in columns],
        reference=reference,
        compared=FIGURE_8 if several else "",
        average=several,
        parts=shares_part,
        deviations=(
            *deviations(request),
            "An arm reads the prompt as the policy does, its instructions included, as the source.",
        ),
    )


def _variants(request: Request) -> tuple[list[Variant], dict[str, str]]:
    """The rows of table 5, those of figure 8, and what each is compared with."""
    is_large = request.config is None
    table_5 = [laser(request), random_arm(request), sequential(request)]
    for metric in SINGLES:
        router = f"router={{name: fixed, arm: {dumps(metric)}}}"
        table_5.append(Variant(f"only {metric}", f"{metric} judges everything", (router,)))
    reference = {one.name: "random" for one in table_5}
    exp3 = laser(request, "exp3")
    variants = [_among(one, 0, is_large) for one in [*table_5, exp3]]
    for one in [laser(request), exp3, sequential(request)]:
        for count in ADDED:
            more = _among(one, count, is_large)
            variants.append(more)
            reference[more.name] = one.name
    return variants, reference


def _belongs(job: str, table_5: Sequence[str]) -> bool:
    """Whether a run is one of the paper's: what table 5 does not have is trained on one set."""
    variant, _, task = job.rpartition(" on ")
    return task == FIGURE_8 or variant in table_5


def _among(one: Variant, count: int, is_large: bool) -> Variant:
    """The variant with the metrics as its arms, and ``count`` of no use beside them."""
    written = {**metric_arms.METRICS, **(GPU_MODELS if is_large else {})}
    added = list(metric_arms.IRRELEVANT)[:count]
    written |= {name: metric_arms.IRRELEVANT[name] for name in added}
    arms = [{"name": name, **options} for name, options in written.items()]
    name = f"{one.name} + {count} of no use" if count else one.name
    sentence = f"{one.sentence}; with {', '.join(added)}" if count else one.sentence
    return Variant(name, sentence, (*one.settings, f"arms={dumps(arms)}"))
