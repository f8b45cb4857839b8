"""The papers' ways of choosing a reward model, each as settings over a configuration."""

from dataclasses import dataclass

from reward_router.artifacts import demo_scores
from reward_router.assemble import arm_names
from reward_router.config import Config
from reward_router.examples import EMBEDDED_TASKS
from reward_router.experiments.kind import Request
from reward_router.experiments.profiles import is_small, unit_of
from reward_router.replay.importers import load_records
from reward_router.strict_json import dumps


@dataclass(frozen=True)
class Variant:
    """One way of judging: its row, what it is, and its settings."""

    name: str
    sentence: str
    settings: tuple[str, ...]


def laser(request: Request, router: str = "linucb") -> Variant:
    """LASER: a bandit that is paid by the negative training loss, on the policy's embedding."""
    if router == "linucb":
        name = "LASER"
        options = f"alpha: 1.0, ridge: 1.0, warmup: {1 if is_small(request) else 2}"
    else:
        name = "LASER (Exp3)"
        options = "gamma: 0.1"
    settings = (
        f"router={{name: {router}, unit: {unit_of(request)}, {options}}}",
        "context={kind: policy, pooling: last_hidden}",
        "payoff={name: neg_loss, low: 0.2, high: 0.8}",
    )
    return Variant(name, f"{router}, paid by the negative training loss", settings)


def random_arm(request: Request) -> Variant:
    """Any arm, each alike often."""
    settings = (f"router={{name: uniform, unit: {unit_of(request)}}}", *_longer(request))
    return Variant("random", "any reward model, each alike often", settings)


def sequential(request: Request) -> Variant:
    """The arms in turn: one after the other, or one a whole iteration as in the paper."""
    per = "decision" if is_small(request) else "iteration"
    router = f"router={{name: round_robin, unit: {unit_of(request)}, per: {per}}}"
    return Variant("sequential", "the reward models in turn", (router, *_longer(request)))


def ensemble(request: Request) -> Variant:
    """The mean score of all arms, each asked about everything."""
    how = "zscore" if is_small(request) else "raw"
    settings = (f"router={{name: uniform, mode: ensemble, ensemble: {how}}}",)
    return Variant("offline ensemble", f"the mean of all {how} scores", settings)


def supervised(config: Config) -> list[Variant]:
    """SFT, where the data has answers to train on; else nothing."""
    if config.data.source != EMBEDDED_TASKS and config.data.answer_kind is None:
        return []
    settings = (
        "train.loss=sft",
        "router={name: uniform, unit: prompt}",
        "payoff={name: neg_loss}",
        "eval.best_of=false",
    )
    return [Variant("SFT", "trained on the data's answers; no reward model is asked", settings)]


def singles(config: Config) -> list[Variant]:
    """Every arm alone."""
    variants = []
    for arm in arm_names(config):
        settings = (f"router={{name: fixed, arm: {dumps(arm)}}}",)
        variants.append(Variant(f"only {arm}", f"{arm} judges everything", settings))
    return variants


def _longer(request: Request) -> tuple[str, ...]:
    """The paper trains random and sequential selection for 25 iterations, all others for 10."""
    return () if is_small(request) else ("train.iterations=25",)


def best_beforehand(config: Config, request: Request) -> str:
    """The single arm that one would have taken without running anything.

    Of the packaged arms: the most accurate one on the packaged sample of scores. Of others: the one
    that the configuration lists first, as the packaged ones list the paper's choice.
    """
    names = arm_names(config)
    if request.config is not None or not is_small(request):
        return names[0]
    [sample] = load_records([str(demo_scores())], keep_prompts=0, keep_responses=False)
    accuracy = dict(zip(sample.arms, sample.correct_PK.mean(axis=0).tolist(), strict=True))
    return max(names, key=lambda arm: accuracy.get(arm, 0.0))
