"""What experiments train on, by profile: the embedded tasks, the papers' data, or the user's own.

And what there is to say of it: where it differs from the paper, what the paper leaves open, and
what a run costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_router import config as configuration
from reward_router.config import Config
from reward_router.experiments.in_place import settings_of
from reward_router.experiments.kind import Request
from reward_router.rewards.defaults import default_arms
from reward_router.strict_json import dumps


@dataclass(frozen=True)
class Task:
    """What is trained on.

    Args:
        name: the column.
        source: a configuration file; None: ``preset``.
        preset: a packaged configuration.
        settings: changes of it.
    """

    name: str
    source: str | None = None
    preset: str | None = None
    settings: tuple[str, ...] = ()

    def config(self, settings: Sequence[str]) -> Config:
        """The configuration with settings on top; InputError where it cannot be right."""
        return configuration.load(self.source, self.preset, [*self.settings, *settings])


REASONING = ("StrategyQA", "GSM8K", "MMLU")
EMBEDDED = "embedded tasks"
LEARNED = "[question, exclaim, short, title]"
TESTED = "[facts, include, number, past]"
LAPTOP = (
    f"data.categories={LEARNED}",
    f"eval.data.categories={LEARNED}",
    f"eval.test={{source: embedded, split: test, categories: {TESTED}}}",
    "pool.resident=4",
    "policy.n_responses=4",
    "policy.max_new_tokens=40",
    "pairs.per_prompt=1",
    "train.batches_per_iteration=4",
    "eval.limit=48",
    "eval.keep=last",
)
"""Of the study's configuration: half of its steps, fewer tokens, and no looks in between.

Four categories are learned, of which the policy gets 25 to 35 % right before training and which it
can learn; the other four are tested as well, so that `transfer` needs no runs of its own.
"""
FOUR = ("relevance", "thorough", "marks", "brief")
"""As many reward models as the paper has, of the embedded ones.

On the packaged sample `brief` is right about short texts and titles, `marks` about questions and
exclamations, `relevance` a little above chance, and `thorough` mostly wrong: a router has something
to find and something to leave.
"""


def laptop() -> tuple[str, ...]:
    """The settings of the laptop profile over the study's configuration."""
    return (*LAPTOP, f"arms={dumps(four_arms())}")


def four_arms() -> list[dict[str, Any]]:
    """The reward models of the laptop profile, as a configuration lists them."""
    specs = [spec for spec in default_arms() if spec.name in FOUR]
    return [{"name": s.name, "kind": s.kind, "model": s.model, **s.options} for s in specs]


def tasks(request: Request, names: Sequence[str] = REASONING) -> list[Task]:
    """The columns of a profile: the embedded tasks, the packaged data sets, or the user's own."""
    if request.config is not None:
        return [own_task(request.config, Path(request.config).stem)]
    if request.profile == "laptop":
        return [Task(EMBEDDED, preset="study", settings=laptop())]
    return [
        Task(name, preset=f"laser-llama3-{name.lower()}", settings=settings_of(name))
        for name in names
    ]


def own_task(given: str, name: str) -> Task:
    """The user's own: a configuration file, or a packaged one by its name."""
    if given in configuration.presets() and not Path(given).exists():
        return Task(name, preset=given)
    return Task(name, source=given)


def is_small(request: Request) -> bool:
    """Whether the laptop profile was asked for."""
    return request.profile == "laptop"


def unit_of(request: Request) -> str:
    """What the bandit decides for."""
    return "prompt" if is_small(request) else "batch"


def deviations(request: Request) -> tuple[str, ...]:
    """Where training differs from the paper: by the profile, or by the user's configuration."""
    if request.config is None:
        return TRAINING_DEVIATIONS[request.profile]
    return (
        f"Policy, reward models, data and training are those of {Path(request.config).name}, which "
        "every run holds resolved in its config.yaml.",
        f"The bandit decides for every {unit_of(request)} (the paper: for every batch).",
    )


TRAINING_DEVIATIONS = {
    "laptop": (
        "A 135M policy, embedded prompts of four categories whose answers rules verify, and four "
        "small reward models take the place of Llama-3-8B, the paper's data sets and its four 7B "
        "reward models.",
        "The bandit decides for every prompt, not for every batch: a run here has four batches of "
        "eight prompts, from which a decision a batch could not learn anything.",
        "All variants take the same number of steps (the paper: 25 iterations for random and "
        "sequential, 10 for the others).",
        "4 samples a prompt and the pair of the widest gap, a learning rate of 8e-4 and one "
        "iteration (the paper: 30, 10 random pairs, 5e-6 and 10), so that a run takes one or two "
        "minutes. Responses end at 40 tokens, and a cut one loses to every finished one.",
        "The ensemble is the mean of z-scored scores: those of these reward models have no "
        "common unit.",
    ),
    "gpu": (
        "Data sets as they lie on the Hub, or smaller ones in $REWARD_ROUTER_DATA/prompts; the "
        "splits come near table 3 and do not equal it.",
        "Accuracy is of one greedy answer to each test prompt (the paper samples 30 at T = 0.8 and "
        "does not say how they become an accuracy).",
    ),
}
"""Where training differs from the paper, by profile."""
UNKNOWN = (
    "alpha of LinUCB, gamma of Exp3 and the warm-up: alpha 1, gamma 0.1, one or two forced pulls "
    "here.",
    "beta of DPO, the weight of NLL, the limit of new tokens, the LoRA targets: those of the "
    "packaged configurations.",
    "Number of seeds, and intervals: the paper reports neither.",
)
COST = {
    "laptop": "one to three minutes a run on one core, 3 seeds; --dry-run counts the runs",
    "gpu": "a day or more a run on one GPU: `train --dry-run` says it",
}
