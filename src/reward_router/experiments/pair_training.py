"""BayesianRouter, table 1, in training: an arm for every pair of responses.

The user's configuration (``--config``, or the packaged ``bayesian-demo``) gives policy, arms, data
and, in ``router.prior``, what `fit-prior` learned; the poster names no models to take instead.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reward_router.config import Config
from reward_router.experiments.kind import Plan, Request
from reward_router.experiments.profiles import own_task
from reward_router.experiments.trained import GOLD, Training, gold_cell, shares_part
from reward_router.experiments.variants import Variant, laser, singles, supervised
from reward_router.strict_json import dumps

PAYOFFS = {
    "neg_loss": "neg_loss",
    "light advantage": "light_advantage",
    "full advantage": "full_advantage",
}
RANDOM = "random"
TOGETHER = (
    ("majority vote", "majority", "each reward model has one vote on each pair; a tie is no pair"),
    ("UWO", "uwo", "the mean of z-scores less their variance over reward models (Coste et al.)"),
    ("offline ensemble", "zscore", "the mean of all z-scores"),
)
"""Row, ``router.ensemble``, and what it is."""


def trained_plan(request: Request) -> Plan:
    """BayesianRouter under its three payoffs, without its stages, and the baselines."""
    given = request.config or ""
    task = own_task(given, Path(given).stem)
    base = task.config(request.settings)
    prior = base.router.prior or (None if base.arms else "embedded-prior")
    variants = [*bayesian(prior), *baselines(request, base)]
    training = Training("pairs", request, [task], variants)
    deviations = [
        f"Policy, reward models, data and training are those of {Path(given).name}.",
        "UWO is the mean of z-scores over the batch less their variance, with the weight 1 "
        "(router.ensemble_penalty); the majority vote and UWO judge the same pairs as the others.",
    ]
    if prior is None:
        deviations.append(
            "The configuration has no router.prior, so that BayesianRouter starts without its "
            "offline stage: its rows and `w/o offline` are the same router."
        )
    return training.plan(
        jobs=training.jobs(gold_cell),
        metric=GOLD,
        reference=RANDOM,
        parts=shares_part,
        deviations=deviations,
    )


def bayesian(prior: str | None) -> list[Variant]:
    """BayesianRouter, whole under each payoff, and without one of its stages."""
    start = f", prior: {dumps(prior)}" if prior else ""
    start += ", width: 1"  # Thompson's rule, as in the paper
    whole = f"router={{name: bayesian, unit: pair{start}}}"
    variants = []
    for name, payoff in PAYOFFS.items():
        settings = (whole, f"payoff={{name: {payoff}}}")
        variants.append(Variant(f"BayesianRouter, {name}", f"paid by {payoff}", settings))
    none = "router={name: bayesian, unit: pair}"
    variants.append(
        Variant("w/o offline", "starts from nothing", (none, "payoff={name: neg_loss}"))
    )
    if prior:
        frozen = f"router={{name: bayesian, unit: pair{start}, without: online}}"
        variants.append(
            Variant("w/o online", "the prior's own choice, which never learns", (frozen,))
        )
    return variants


def baselines(request: Request, base: Config) -> list[Variant]:
    """Random pairs, LASER, all reward models by vote, by UWO and by their mean, each single one."""
    alone = []
    for single in singles(base):
        [router] = single.settings
        settings = (router.replace("name: fixed", "name: fixed, unit: pair"),)
        alone.append(Variant(single.name, single.sentence, settings))
    # A tie is for an arm's verdict about one pair: these judge whole prompts, together, or nothing.
    [whole] = _untied([laser(request)])
    uniform = ("router={name: uniform, unit: pair}",)
    return [
        Variant(RANDOM, "any reward model for each pair, each alike often", uniform),
        whole,
        *_untied(supervised(base)),
        *_untied([_together(*how) for how in TOGETHER]),
        *alone,
    ]


def _together(name: str, how: str, sentence: str) -> Variant:
    """All reward models judge every pair; nobody is routed, so that no payoff is learned from."""
    settings = (
        f"router={{name: uniform, unit: pair, mode: ensemble, ensemble: {how}}}",
        "payoff={name: neg_loss}",
    )
    return Variant(name, sentence, settings)


def _untied(variants: Sequence[Variant]) -> list[Variant]:
    return [replace(one, settings=(*one.settings, "pairs.tie=null")) for one in variants]
