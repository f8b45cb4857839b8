"""LASER, figure 2: whose answers does a judge prefer, length taken into account?

Every variant is trained; then a judge that took no part compares, held-out prompt by held-out
prompt, what LASER's policy and another's answered, in both orders.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reward_router import config as configuration
from reward_router.assemble import evaluation_spec
from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.experiments.kind import (
    ExperimentKind,
    Job,
    Part,
    Place,
    Plan,
    Published,
    Request,
)
from reward_router.experiments.page import figure_text
from reward_router.experiments.profiles import COST, UNKNOWN, Task, deviations, four_arms, tasks
from reward_router.experiments.results import Cell, Results
from reward_router.experiments.trained import Done, Training
from reward_router.experiments.training_runs import run_folder
from reward_router.experiments.variants import (
    Variant,
    best_beforehand,
    laser,
    random_arm,
    sequential,
    singles,
)
from reward_router.headline import MEASURED
from reward_router.jobs.study import folder_name
from reward_router.rewards.pool import RewardPool
from reward_router.strict_json import dumps
from reward_router.types import Float
from reward_router.win_rate import wins_of

PLAIN, CONTROLLED = "win rate", "win rate, length-controlled"
JUDGES = {"laptop": "smollm2-135m-instruct", "gpu": "meta-llama/Meta-Llama-3-8B-Instruct"}
"""The judge where no configuration names one: a local model that is asked yes or no."""


def plan(request: Request) -> Plan:
    """LASER, the best single reward model, sequential and random; then LASER against each."""
    columns = _tasks(request)
    base = columns[0].config(request.settings)
    named = best_beforehand(base, request)
    [single] = [variant for variant in singles(base) if variant.name == f"only {named}"]
    ours = laser(request)
    others = [single, sequential(request), random_arm(request)]
    training = Training("instructions", request, columns, [ours, *others])
    first = training.check()
    if evaluation_spec(first) is None:
        raise InputError(
            "instructions needs a judge that takes no part in training: list it among the arms "
            "(kind judge or local_judge) and name it in eval.arm, "
            "e.g. --config mine.yaml --set eval.arm=judge"
        )
    jobs = training.jobs(_trained)
    column = columns[0]
    for other in others:
        pair = _Pair(training, column, ours, other)
        needs = (training.job_name(ours, column), training.job_name(other, column))
        name = f"{ours.name} against {other.name}"
        jobs.append(Job(name, "the judge's verdicts", partial(_compare, pair, name), needs=needs))
    return training.plan(
        jobs=jobs,
        metric=(
            f"Share of held-out prompts on which {first.eval.arm} prefers LASER's answer, in %, "
            "both orders averaged, a tie one half; 50 is no difference."
        ),
        columns=[PLAIN, CONTROLLED],
        parts=by_category,
        deviations=deviations(request),
    )


def by_category(results: Results) -> list[Part]:
    """Plain win rates in each category."""
    categories: dict[str, None] = {}
    for row in results.rows.values():
        categories |= dict.fromkeys(name for name in row.figures if name not in results.columns)
    if not categories:
        return []
    rows = []
    for name, row in results.rows.items():
        cells = [figure_text(row.figures.get(category), True) for category in categories]
        rows.append([name, *cells])
    header = ["variant", *(f"{category} [95 %]" for category in categories)]
    return [Part("By category", "Plain win rates, in %.", header, rows)]


def _tasks(request: Request) -> list[Task]:
    """One task, with a judge among its arms that judges nothing in training."""
    if request.config is not None:
        return tasks(request)
    if request.profile == "laptop":
        [task] = tasks(request)
        return [replace(task, settings=(*task.settings, *_judged(four_arms(), request)))]
    preset = "laser-llama3-wildchat"
    base = configuration.load(None, preset)
    arms = [arm.model_dump(mode="json") for arm in base.arms]
    held_out = base.data.model_dump(mode="json") | {"split": "train#8:10", "limit": 1000}
    settings = (*_judged(arms, request), f"eval.data={dumps(held_out)}", "eval.samples=1")
    return [Task("WildChat", preset=preset, settings=settings)]


def _judged(arms: Sequence[dict[str, Any]], request: Request) -> tuple[str, ...]:
    judge = {"name": "judge", "kind": "local_judge", "model": JUDGES[request.profile]}
    return (f"arms={dumps([*arms, judge])}", "eval.arm=judge")


def _trained(training: Training, done: Done) -> Cell:
    """A trained policy is no row by itself: what it answered lies in its run."""
    return Cell(facts={"calls": done.summary["calls"]["made"]})


@dataclass(frozen=True)
class _Pair:
    """Two variants whose answers are compared."""

    training: Training
    task: Task
    ours: Variant
    other: Variant

    def answers(self, variant: Variant, place: Place) -> dict[tuple[str, int], dict[str, Any]]:
        """(prompt id, sample) -> the trained policy's answer, or the base model's where kept."""
        name = self.training.job_name(variant, self.task)
        own = place.shared / "runs" / folder_name(name) / f"seed-{place.seed}"
        config = self.training.config(self.task, variant, place.seed)
        folder = run_folder(config, replace(place, folder=own))
        return read_answers(folder / "samples.jsonl")


def read_answers(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The answers of a run after training, else, where the base model was kept, before it."""
    if not path.is_file():
        raise RunError(f"{path} is missing: a run keeps what held-out prompts were answered")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kinds = {row["kind"] for row in rows}
    kind = next((name for name in MEASURED if name in kinds), "")
    answers: dict[tuple[str, int], dict[str, Any]] = {}
    for when in ("before", "after"):
        for row in rows:
            if row["when"] == when and row["kind"] == kind:
                answers[row["id"], row["sample"]] = row
    return answers


def _compare(pair: _Pair, name: str, place: Place) -> Cell:
    config = pair.training.config(pair.task, pair.ours, place.seed)
    ours = pair.answers(pair.ours, place)
    others = pair.answers(pair.other, place)
    keys = sorted(ours.keys() & others.keys())
    if not keys:
        raise RunError(f"{name}: the two runs answered no prompt in common")
    mine = [ours[key]["response"] for key in keys]
    theirs = [others[key]["response"] for key in keys]
    prompts = [ours[key]["prompt"] for key in keys]
    wins_R = both_orders(config, prompts, mine, theirs)
    gap_R = np.array([len(a) - len(b) for a, b in zip(mine, theirs, strict=True)], dtype=np.float64)
    prompt_R = np.array([key[0] for key in keys])
    category = {key[0]: ours[key]["category"] for key in keys}
    values = {
        PLAIN: _by_prompt(wins_R, prompt_R),
        CONTROLLED: _by_prompt(length_controlled(wins_R, gap_R), prompt_R),
    }
    for wanted in sorted(set(category.values()) - {""}):
        in_R = np.array([category[one] == wanted for one in prompt_R.tolist()])
        values[wanted] = _by_prompt(wins_R[in_R], prompt_R[in_R])
    return Cell(values={name: values}, calls={name: 4.0 * len(keys)})


def _by_prompt(value_R: Float, prompt_R: Any) -> list[float]:
    """Several samples of a prompt are averaged: one value for each."""
    _, row_R = np.unique(prompt_R, return_inverse=True)
    return [float(x) for x in np.bincount(row_R, value_R) / np.bincount(row_R)]


def both_orders(
    config: Config, prompts: Sequence[Any], mine: Sequence[str], theirs: Sequence[str]
) -> Float:
    """(R,) 1 where the judge prefers mine, 0 where theirs, the mean of both orders.

    A judge that likes whatever stands first gets one half of both. RunError where it cannot score.
    """
    spec = evaluation_spec(config)
    assert spec is not None  # the plan refuses a configuration without one
    device = config.policy.device if config.pool.device == "auto" else config.pool.device
    pool = RewardPool(
        {spec.name: spec}, device=device, dtype=config.pool.dtype, timeout=config.pool.timeout
    )
    wins = []
    for first, second, is_mine_first in ((theirs, mine, False), (mine, theirs, True)):
        texts = [list(two) for two in zip(first, second, strict=True)]
        result = pool.score(spec.name, list(prompts), texts)
        if not result.ok:
            raise RunError(f"judge {spec.name!r} cannot compare the answers: {result.error}")
        second_wins_R = wins_of(np.asarray(result.scores_BN, dtype=np.float64))
        wins.append(1 - second_wins_R if is_mine_first else second_wins_R)
    return np.asarray(np.mean(wins, axis=0), dtype=np.float64)


STEPS = 50
RIDGE = 1e-3
"""A little shrinking of the length's weight, so that separable verdicts have an optimum."""


def length_controlled(wins_R: Float, gap_R: Float) -> Float:
    """(R,) numbers whose mean is the win rate at equal lengths, after AlpacaEval 2's regression.

    A logistic regression, P(win) = sigmoid(theta + phi tanh(gap / sd)), is fitted by Newton's
    method; the figure is sigmoid(theta), the win rate with the length's term at zero. Each number
    adds its row's influence on theta (H^-1 x (win - p)), so that the spread of the numbers is the
    standard error of the figure. Left out: the difficulty of each instruction, which needs many
    models' answers to it.
    """
    sd = float(gap_R.std())
    length_R = np.tanh(gap_R / sd) if sd > 0 else np.zeros(len(gap_R))
    x_R2 = np.column_stack([np.ones(len(gap_R)), length_R])
    weight_2 = np.zeros(2)
    for _ in range(STEPS):
        p_R, hessian_22 = _curvature(x_R2, weight_2)
        gradient_2 = x_R2.T @ (wins_R - p_R) - RIDGE * weight_2
        weight_2 = weight_2 + np.linalg.solve(hessian_22, gradient_2)
        # Verdicts that all agree push theta out without end.
        weight_2 = np.clip(weight_2, -20, 20)
    p_R, hessian_22 = _curvature(x_R2, weight_2)
    influence_R = np.linalg.solve(hessian_22, (x_R2 * (wins_R - p_R)[:, None]).T)[0]
    rate = 1 / (1 + np.exp(-weight_2[0]))
    slope = rate * (1 - rate)
    spread_R = len(wins_R) * slope * influence_R
    return np.asarray(rate + spread_R - spread_R.mean())


def _curvature(x_R2: Float, weight_2: Float) -> tuple[Float, Float]:
    """Fitted probabilities, and the negative Hessian of the penalised log-likelihood."""
    p_R = 1 / (1 + np.exp(-(x_R2 @ weight_2)))
    hessian_22 = (x_R2 * (p_R * (1 - p_R))[:, None]).T @ x_R2 + RIDGE * np.eye(2)
    return p_R, hessian_22


KIND = ExperimentKind(
    "instructions",
    plan,
    "pairwise win rate of LASER's policy, plain and length-controlled, against the best single "
    "one, "
    "sequential and random, by a judge that took no part",
    paper="LASER, figure 2",
    published=(
        Published.of(
            "LASER, figure 2 (section 4.2): length-controlled AlpacaEval win rates on WildChat",
            "published",
            """
            policy | LASER : Best RM | LASER : Seq. RM Selection | LASER : Random RM Selection
            Llama-3-8B | 56.34 : 43.66 | 71.45 : 29.55 | 78.33 : 21.67
            Mistral-7B | 58.72 : 41.28 | 63.72 : 36.28 | 70.61 : 29.39
            """,
            "Wins in %. 71.45 and 29.55 add up to 101, as printed. The caption names Llama-3-8B "
            "alone; the "
            "figure has both policies.",
        ),
    ),
    deviations=(
        "The judge is an arm of your own (eval.arm; the paper: GPT-4), asked in both orders.",
        "Length control is AlpacaEval's regression without the difficulty of each instruction, "
        "which "
        "needs many models' answers.",
        "By category: plain win rates.",
        "Without --config the judge is a local model that is asked yes or no: SmolLM2-135M on the "
        "laptop, Llama-3-8B-Instruct on a GPU. A 135M model is hardly a judge: give a better one.",
    ),
    unknown=UNKNOWN,
    cost=COST,
)
