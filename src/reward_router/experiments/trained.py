"""Experiments that train: one policy a variant and seed, on one or several tasks.

A variant is a few settings over a configuration: the embedded study's (``laptop``), a packaged
configuration with the papers' models (``gpu``), or the user's own (``--config``). The figure is
gold of the trained policy on prompts that it was not trained on. `profiles` says what is trained
on, `variants` how a reward model is chosen.
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
from reward_router.assemble import arm_names
from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.experiments.kind import Job, Part, Place, Plan, Request
from reward_router.experiments.profiles import (
    Task,
    tasks,
)
from reward_router.experiments.recorded import refuse
from reward_router.experiments.results import Cell, Results
from reward_router.experiments.training_runs import run_once
from reward_router.experiments.variants import (
    Variant,
    laser,
    sequential,
)

SEEDS = 3
BEFORE = "before training"
KINDS = ("gold_test_sampled", "gold_test", "gold_sampled", "gold")
"""Which gold a figure is: of a test set where there is one, sampled where that was measured."""
HELD_OUT = ("gold_sampled", "gold")
"""The same where the test set is of another kind than what is learned."""
GOLD = (
    "Share of right answers to prompts that were not trained on, in %; calls: reward-model calls "
    "of a run."
)


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
        return next(iter(self.configs.values()))

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
        folder, summary = run_once(config, place)
        return cell(self, Done(task, variant, config, folder, summary))

    def plan(self, jobs: Sequence[Job], **laid_out: Any) -> Plan:
        """The plan of these jobs, with what every plan that trains has.

        All configurations are read first. ``laid_out``: the other fields of a `Plan`.
        """
        self.check()
        return Plan(
            jobs=jobs,
            seeds=self.request.seeds or SEEDS,
            configs=self.configs,
            subject=self.subject,
            identity=self.identity,
            **laid_out,
        )

    @property
    def configs(self) -> dict[str, Config]:
        """Job -> the configuration of its first run."""
        configs = {}
        for task in self.tasks:
            for variant in self.variants:
                configs[self.job_name(variant, task)] = self.config(task, variant, 0)
        return configs

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


def gold_cell(training: Training, done: Done) -> Cell:
    """Gold after training, prompt by prompt, with the base model's as a row of its own."""
    is_embedded = training.request.config is None and training.request.profile == "laptop"
    return measured_cell(done, HELD_OUT if is_embedded else KINDS)


def measured_cell(done: Done, kinds: Sequence[str] = KINDS) -> Cell:
    """The same of the first of these kinds of gold that was measured."""
    rows = gold_rows(done.summary, done.variant.name, kinds)
    column = done.task.name
    return Cell(
        values={
            done.variant.name: {column: rows["after"]["right"]},
            BEFORE: {column: rows["before"]["right"]},
        },
        calls={done.variant.name: float(done.summary["calls"]["made"])},
        seconds={done.variant.name: training_seconds(done.summary)},
        facts={
            "shares": _shares(done.summary),
            "steps": done.summary["steps"],
            "run": done.folder.name,
        },
    )


APART = ("load", "eval")
"""Phases that are no training: the first run of a process loads what later ones have."""


def training_seconds(summary: Mapping[str, Any]) -> float:
    """Wall-clock of sampling, scoring and training."""
    return float(sum(spent for name, spent in summary["seconds"].items() if name not in APART))


def gold_rows(
    summary: Mapping[str, Any], variant: str, kinds: Sequence[str] = KINDS
) -> dict[str, Any]:
    """The gold that figures are made of; RunError where none is known."""
    for kind in kinds:
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
