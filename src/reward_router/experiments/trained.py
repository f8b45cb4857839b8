"""Experiments that train: one policy a variant and seed, on one or several tasks.

A variant is a few settings over a configuration: the embedded study's (``laptop``), a packaged
configuration with the papers' models (``gpu``), or the user's own (``--config``). The figure is
gold of the trained policy on prompts that it was not trained on.
"""

import hashlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reward_router import config as configuration
from reward_router.artifacts import demo_scores
from reward_router.assemble import arm_names
from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.experiments.kind import Job, Part, Place, Plan, Request
from reward_router.experiments.recorded import refuse
from reward_router.experiments.results import Cell, Results
from reward_router.jobs.study import folder_name, train_and_share
from reward_router.replay.importers import load_records
from reward_router.strict_json import dumps

SEEDS = 3
BEFORE = "before training"
KINDS = ("gold_test_sampled", "gold_test", "gold_sampled", "gold")
"""Which gold a figure is: of a test set where there is one, sampled where that was measured."""
GOLD = (
    "Share of right answers to prompts that were not trained on, in %; calls: reward-model calls "
    "of "
    "a run."
)


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


@dataclass(frozen=True)
class Variant:
    """One way of judging: its row, what it is, and its settings."""

    name: str
    sentence: str
    settings: tuple[str, ...]


REASONING = ("StrategyQA", "GSM8K", "MMLU")
EMBEDDED = "embedded tasks"
SHORTER = ("eval.limit=96", "eval.keep=last")
"""Of the study's configuration: fewer held-out prompts, and no looks in between."""


def tasks(request: Request, names: Sequence[str] = REASONING) -> list[Task]:
    """The columns of a profile: the embedded tasks, the packaged data sets, or the user's own."""
    if request.config is not None:
        return [own_task(request.config, Path(request.config).stem)]
    if request.profile == "laptop":
        return [Task(EMBEDDED, preset="study", settings=SHORTER)]
    return [Task(name, preset=f"laser-llama3-{name.lower()}") for name in names]


def own_task(given: str, name: str) -> Task:
    """The user's own: a configuration file, or a packaged one by its name."""
    if given in configuration.presets() and not Path(given).exists():
        return Task(name, preset=given)
    return Task(name, source=given)


def laser(request: Request, router: str = "linucb") -> Variant:
    """LASER: a bandit that is paid by the negative training loss, on the policy's embedding."""
    if router == "linucb":
        name = "LASER"
        options = f"alpha: 1.0, ridge: 1.0, warmup: {1 if _is_small(request) else 2}"
    else:
        name = "LASER (Exp3)"
        options = "gamma: 0.1"
    settings = (
        f"router={{name: {router}, unit: {_unit(request)}, {options}}}",
        "context={kind: policy, pooling: last_hidden}",
        "payoff={name: neg_loss, low: 0.2, high: 0.8}",
    )
    return Variant(name, f"{router}, paid by the negative training loss", settings)


def random_arm(request: Request) -> Variant:
    """Any arm, each alike often."""
    settings = (f"router={{name: uniform, unit: {_unit(request)}}}", *_longer(request))
    return Variant("random", "any reward model, each alike often", settings)


def sequential(request: Request) -> Variant:
    """The arms in turn: one after the other, or one a whole iteration as in the paper."""
    per = "decision" if _is_small(request) else "iteration"
    router = f"router={{name: round_robin, unit: {_unit(request)}, per: {per}}}"
    return Variant("sequential", "the reward models in turn", (router, *_longer(request)))


def ensemble(request: Request) -> Variant:
    """The mean score of all arms, each asked about everything."""
    how = "zscore" if _is_small(request) else "raw"
    settings = (f"router={{name: uniform, mode: ensemble, ensemble: {how}}}",)
    return Variant("offline ensemble", f"the mean of all {how} scores", settings)


def singles(config: Config) -> list[Variant]:
    """Every arm alone."""
    variants = []
    for arm in arm_names(config):
        settings = (f"router={{name: fixed, arm: {dumps(arm)}}}",)
        variants.append(Variant(f"only {arm}", f"{arm} judges everything", settings))
    return variants


def _is_small(request: Request) -> bool:
    return request.profile == "laptop"


def _unit(request: Request) -> str:
    return "prompt" if _is_small(request) else "batch"


def _longer(request: Request) -> tuple[str, ...]:
    """The paper trains random and sequential selection for 25 iterations, all others for 10."""
    return () if _is_small(request) else ("train.iterations=25",)


def best_beforehand(config: Config, request: Request) -> str:
    """The single arm that one would have taken without running anything.

    Of the packaged arms: the most accurate one on the packaged sample of scores. Of others: the one
    that the configuration lists first, as the packaged ones list the paper's choice.
    """
    names = arm_names(config)
    if request.config is not None or not _is_small(request):
        return names[0]
    [sample] = load_records([str(demo_scores())], keep_prompts=0, keep_responses=False)
    accuracy = dict(zip(sample.arms, sample.correct_PK.mean(axis=0).tolist(), strict=True))
    return max(names, key=lambda arm: accuracy.get(arm, 0.0))


@dataclass(frozen=True)
class Training:
    """The variants of an experiment on its tasks.

    Args:
        name: of the experiment.
        request: what was asked for.
        tasks: the columns.
        variants: the rows.
        common: settings of every variant, under its own.
    """

    name: str
    request: Request
    tasks: Sequence[Task]
    variants: Sequence[Variant]
    common: tuple[str, ...] = ()

    def config(self, task: Task, variant: Variant, seed: int) -> Config:
        """The configuration of one run."""
        asked = self.request.settings
        return task.config([*self.common, *asked, *variant.settings, f"seed={seed}"])

    def check(self) -> Config:
        """Read every configuration before anything is run; the first one's."""
        refuse(self.request, self.name, ("scores", "responses"))
        if importlib.util.find_spec("torch") is None:
            raise InputError(f"{self.name} trains: it needs pip install 'reward-router[train]'")
        configs = []
        for task in self.tasks:
            configs += [self.config(task, variant, 0) for variant in self.variants]
        return configs[0]

    def job_name(self, variant: Variant, task: Task) -> str:
        """Of one variant on one task; the task is named where there are several."""
        return variant.name if len(self.tasks) == 1 else f"{variant.name} on {task.name}"

    def jobs(self, cell: "Callable[[Training, Done], Cell]") -> list[Job]:
        """A run for every variant and task; ``cell`` says what is read from it."""
        jobs = []
        for task in self.tasks:
            for variant in self.variants:
                work = partial(self._work, cell, task, variant)
                jobs.append(Job(self.job_name(variant, task), variant.sentence, work))
        return jobs

    def _work(
        self, cell: "Callable[[Training, Done], Cell]", task: Task, variant: Variant, place: Place
    ) -> Cell:
        config = self.config(task, variant, place.seed)
        folder = place.folder / "run"
        before = place.shared / f"before-{folder_name(task.name)}.json"
        summary = _finished(folder)
        if summary is None:
            summary = train_and_share(config, folder, before, place.console)
        return cell(self, Done(task, variant, config, folder, summary))

    def plan(self, jobs: Sequence[Job], **laid_out: Any) -> Plan:
        """The plan of these jobs, with what every plan that trains has.

        All configurations are read first. ``laid_out``: the other fields of a `Plan`.
        """
        self.check()
        return Plan(
            jobs=jobs,
            seeds=self.request.seeds or SEEDS,
            example=self.first,
            subject=self.subject,
            identity=self.identity,
            **laid_out,
        )

    @property
    def first(self) -> Config:
        """The configuration of the first run."""
        return self.config(self.tasks[0], self.variants[0], 0)

    @property
    def subject(self) -> str:
        """Whose figures these are."""
        config = self.first
        where = ", ".join(task.name for task in self.tasks)
        return f"here, {config.policy.model} on {where}, {len(arm_names(config))} reward models"

    @property
    def identity(self) -> dict[str, str]:
        """A digest of every configuration: a changed file is another experiment."""
        total = hashlib.blake2b(digest_size=16)
        for task in self.tasks:
            for variant in self.variants:
                total.update(configuration.dump(self.config(task, variant, 0)).encode())
        return {"configurations": total.hexdigest()}


@dataclass(frozen=True)
class Done:
    """A finished run: what was trained, where it lies, and its summary."""

    task: Task
    variant: Variant
    config: Config
    folder: Path
    summary: Mapping[str, Any] = field(default_factory=dict)


def _finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that finished before its cell was written."""
    import json

    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def gold_cell(training: Training, done: Done) -> Cell:
    """Gold after training, prompt by prompt, with the base model's as a row of its own."""
    rows = gold_rows(done.summary, done.variant.name)
    column = done.task.name
    return Cell(
        values={
            done.variant.name: {column: rows["after"]["right"]},
            BEFORE: {column: rows["before"]["right"]},
        },
        calls={done.variant.name: float(done.summary["calls"]["made"])},
        seconds={done.variant.name: float(sum(done.summary["seconds"].values()))},
        facts={"shares": _shares(done.summary), "steps": done.summary["steps"]},
    )


def gold_rows(summary: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The gold that figures are made of; RunError where none is known."""
    for kind in KINDS:
        rows: dict[str, Any] | None = summary["gold_rows"].get(kind)
        if rows is not None and not any(map(_unknown, rows["after"]["right"])):
            return rows
    raise RunError(f"{variant}: no held-out prompt has gold; give eval.data with answers")


def _unknown(right: float | None) -> bool:
    return right is None or math.isnan(right)


def _shares(summary: Mapping[str, Any]) -> dict[str, float]:
    return {arm: float(entry["share"]) for arm, entry in summary["arms"].items()}


def shares_part(results: Results) -> list[Part]:
    """How often each variant asked each reward model, the mean over its runs."""
    shares: dict[str, list[Mapping[str, float]]] = {}
    for (name, _), cell in results.cells.items():
        shares.setdefault(name, []).append(cell.facts.get("shares", {}))
    arms = list(dict.fromkeys(arm for many in shares.values() for one in many for arm in one))
    rows = []
    for name, many in shares.items():
        cells = [f"{100 * np.mean([one.get(arm, 0.0) for one in many]):.0f}" for arm in arms]
        rows.append([name, *cells])
    caption = "Share of decisions that went to each reward model, in %, the mean over seeds."
    return [Part("Who judged", caption, ["variant", *arms], rows)] if rows else []


def noise_plan(request: Request, sigmas: Sequence[float]) -> Plan:
    """`noise` in training: each way of choosing with noise of each size on z-scored rewards."""
    variants = []
    reference = {}
    chosen = [laser(request), laser(request, "exp3"), sequential(request)]
    for one in chosen:
        for sigma in sigmas:
            name = f"{one.name}, sigma {sigma:g}"
            sentence = f"{one.sentence}; noise of sd {sigma:g}"
            variants.append(Variant(name, sentence, (*one.settings, f"noise={sigma:g}")))
            reference[name] = f"{one.name}, sigma 0"
    training = Training("noise", request, tasks(request, ("GSM8K",)), variants)
    return training.plan(
        jobs=training.jobs(gold_cell),
        metric=f"{GOLD} A difference is to the same method without noise.",
        reference=reference,
        parts=shares_part,
    )


def deviations(request: Request) -> tuple[str, ...]:
    """Where training differs from the paper: by the profile, or by the user's configuration."""
    if request.config is None:
        return TRAINING_DEVIATIONS[request.profile]
    return (
        f"Policy, reward models, data and training are those of {Path(request.config).name}, which "
        "every run holds resolved in its config.yaml.",
        f"The bandit decides for every {_unit(request)} (the paper: for every batch).",
    )


TRAINING_DEVIATIONS = {
    "laptop": (
        "A 135M policy, the embedded prompts whose answers rules verify, and seven small reward "
        "models take the place of Llama-3-8B, the paper's data sets and its four 7B reward models.",
        "The bandit decides for every prompt, not for every batch: a run here has eight batches, "
        "and "
        "with seven reward models a decision a batch could not learn anything.",
        "All variants take the same number of steps (the paper: 25 iterations for random and "
        "sequential, 10 for the others).",
        "6 samples a prompt and 2 pairs, a learning rate of 8e-4 and one iteration (the paper: "
        "30, 10, "
        "5e-6 and 10), so that a run takes minutes on two cores.",
        "The ensemble is the mean of z-scored scores: those of these reward models have no "
        "common unit.",
    ),
    "gpu": (
        "Data sets as they lie on the Hub; the splits of the packaged configurations come near "
        "table "
        "3 and do not equal it.",
        "Accuracy is of one greedy answer to each test prompt (the paper samples 30 at T = 0.8 and "
        "does not say how they become an accuracy).",
    ),
}
"""Where training differs from the paper, by profile."""
UNKNOWN = (
    "alpha of LinUCB, gamma of Exp3 and the warm-up: alpha 1, gamma 0.1, one or two forced pulls "
    "here.",
    "beta of DPO, the weight of NLL, the limit of new tokens, the LoRA targets: those of the "
    "packaged "
    "configurations.",
    "Number of seeds, and intervals: the paper reports neither.",
)
COST = {
    "laptop": "about five minutes a run on 2 cores, 3 seeds; --dry-run counts the runs",
    "gpu": "a day or more a run on one GPU: `train --dry-run` says it",
}
