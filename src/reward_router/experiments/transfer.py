"""LASER, table 7: trained on one kind of question, tested on another."""

from typing import Any

from reward_router.errors import InputError
from reward_router.experiments.in_place import TEMPLATE, prompts_file, settings_of
from reward_router.experiments.kind import ExperimentKind, Plan, Published, Request
from reward_router.experiments.profiles import COST, UNKNOWN, Task, deviations, laptop, own_task
from reward_router.experiments.results import Cell
from reward_router.experiments.trained import GOLD, Done, Training, measured_cell, shares_part
from reward_router.experiments.variants import (
    best_beforehand,
    laser,
    random_arm,
    sequential,
    singles,
    supervised,
)
from reward_router.strict_json import dumps


def _tasks(request: Request) -> list[Task]:
    if request.config is not None:
        return [own_task(request.config, "out of distribution")]
    if request.profile == "laptop":
        return [Task("embedded, other categories", preset="study", settings=laptop())]
    maths = f"eval.test={dumps(_maths())}"
    csqa = f"eval.test={dumps(_csqa())}"
    strategyqa = "laser-llama3-strategyqa"
    gsm8k = "laser-llama3-gsm8k"
    return [
        Task(
            "CSQA, from StrategyQA", preset=strategyqa, settings=(*settings_of("StrategyQA"), csqa)
        ),
        Task("MATH, from GSM8K", preset=gsm8k, settings=(*settings_of("GSM8K"), maths)),
    ]


def _maths() -> dict[str, Any]:
    """The 500 problems of MATH-500, as a file or from the Hub."""
    path = prompts_file("math500.jsonl.gz")
    section = {"answer_kind": "math", "template": TEMPLATE}
    if path is not None:
        return {**section, "source": str(path)}
    columns = {"prompt": "problem", "answer": "answer"}
    hub = "HuggingFaceH4/MATH-500"
    return {**section, "source": hub, "split": "test", "columns": columns}


def _csqa() -> dict[str, Any]:
    """CommonsenseQA with lettered choices in the prompt, as a file: on the Hub it is nested."""
    path = prompts_file("commonsenseqa.jsonl.gz")
    if path is None:
        raise InputError(
            "transfer: CommonsenseQA is read from "
            "$REWARD_ROUTER_DATA/prompts/commonsenseqa.jsonl.gz "
            "{prompt, answer}; set it, or give --config with data and eval.test of your own"
        )
    return {"source": str(path), "answer_kind": "letter", "template": TEMPLATE, "split": "dev"}


def plan(request: Request) -> Plan:
    """SFT, LASER, the best single arm, random and sequential, judged where they never trained."""
    columns = _tasks(request)
    base = columns[0].config(request.settings)
    if base.eval.test is None:
        raise InputError(
            f"transfer: {request.config} has no eval.test, the prompts of another kind that the "
            "policy is tested on"
        )
    named = best_beforehand(base, request)
    [single] = [variant for variant in singles(base) if variant.name == f"only {named}"]
    chosen = [
        *supervised(base),
        laser(request),
        random_arm(request),
        sequential(request),
        single,
    ]
    training = Training("transfer", request, columns, chosen)
    return training.plan(
        jobs=training.jobs(_tested_cell),
        metric=GOLD,
        columns=[task.name for task in columns],
        reference="random",
        average=len(columns) > 1,
        derived={f"best single, named beforehand ({named})": [single.name]},
        parts=shares_part,
        deviations=deviations(request),
    )


def _tested_cell(training: Training, done: Done) -> Cell:
    """Gold on prompts of the other kind."""
    return measured_cell(done)


KIND = ExperimentKind(
    "transfer",
    plan,
    "trained on one kind of question, tested on another that was never trained on",
    paper="LASER, table 7 (appendix C)",
    published=(
        Published.of(
            "LASER, table 7 (appendix C)",
            "published, Llama-3-8B",
            """
            method | CSQA | MATH | Avg.
            SFT | 65.64 | 29.13 | 47.39
            Best RM | 67.59 | 31.54 | 49.57
            Avg. RM | 67.16 | 30.36 | 48.76
            Random RM Selection | 68.31 | 30.21 | 49.26
            Sequential RM Selection | 67.73 | 30.25 | 48.99
            LASER (Ours) | 69.26 | 31.67 | 50.47
            """,
        ),
        Published.of(
            "LASER, table 7 (appendix C)",
            "published, Mistral-7B",
            """
            method | CSQA | MATH | Avg.
            SFT | 59.06 | 16.38 | 37.72
            Best RM | 60.46 | 18.08 | 39.27
            Avg. RM | 60.06 | 17.25 | 38.66
            Random RM Selection | 60.19 | 16.96 | 38.58
            Sequential RM Selection | 60.56 | 17.96 | 39.26
            LASER (Ours) | 61.65 | 18.97 | 40.31
            """,
        ),
    ),
    deviations=(
        "laptop: trained on four of the embedded categories, tested on the four others.",
        "SFT trains on what the data gives as answers, as in `reasoning`.",
        "gpu: CommonsenseQA after StrategyQA alone (the paper: StrategyQA and MMLU), and the "
        "problems of MATH-500 (a file of $REWARD_ROUTER_DATA may hold fewer).",
    ),
    unknown=UNKNOWN,
    cost=COST,
)
