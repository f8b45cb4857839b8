"""LASER, tables 1 and 4: LASER against every usual way of using several reward models."""

from reward_router.experiments.kind import ExperimentKind, Plan, Published, Request
from reward_router.experiments.profiles import COST, UNKNOWN, deviations, tasks
from reward_router.experiments.trained import GOLD, Training, gold_cell, shares_part
from reward_router.experiments.variants import (
    best_beforehand,
    ensemble,
    laser,
    random_arm,
    sequential,
    singles,
    supervised,
)


def plan(request: Request) -> Plan:
    """SFT, LASER, random, sequential, the ensemble and every single reward model."""
    columns = tasks(request)
    base = columns[0].config(request.settings)
    single = singles(base)
    chosen = [laser(request), random_arm(request), sequential(request), ensemble(request)]
    variants = [*supervised(base), *chosen, *single]
    training = Training("reasoning", request, columns, variants)
    named = best_beforehand(base, request)
    several = len(columns) > 1
    return training.plan(
        jobs=training.jobs(gold_cell),
        metric=GOLD,
        columns=[task.name for task in columns],
        reference="random",
        average=several,
        derived={
            f"best single, named beforehand ({named})": [f"only {named}"],
            "average of the single ones": [variant.name for variant in single],
        },
        parts=shares_part,
        deviations=deviations(request),
    )


HEADER_1 = "method | StrategyQA | GSM8K | MMLU | Avg."

KIND = ExperimentKind(
    "reasoning",
    plan,
    "LASER against the best single reward model named beforehand, each single one, random, "
    "sequential "
    "and the offline ensemble",
    paper="LASER, tables 1 and 4",
    published=(
        Published.of(
            "LASER, table 1 (section 4.2)",
            "published, Llama-3-8B",
            f"""
            {HEADER_1}
            SFT | 80.41 | 69.43 | 65.66 | 71.83
            Best RM | 84.29 | 73.16 | 67.15 | 74.87
            Avg. RM | 82.62 | 71.57 | 66.67 | 73.62
            Offline RM Ensemble | 82.96 | 70.94 | 67.04 | 73.65
            Random RM Selection | 84.37 | 71.99 | 67.85 | 74.74
            Sequential RM Selection | 83.90 | 72.94 | 68.02 | 74.95
            LASER (Ours) | 85.96 | 74.75 | 68.24 | 76.32
            """,
        ),
        Published.of(
            "LASER, table 1 (section 4.2)",
            "published, Mistral-7B",
            f"""
            {HEADER_1}
            SFT | 68.57 | 43.62 | 56.48 | 56.22
            Best RM | 70.06 | 45.81 | 62.04 | 59.30
            Avg. RM | 69.62 | 45.47 | 59.58 | 58.22
            Offline RM Ensemble | 68.89 | 44.53 | 58.23 | 57.22
            Random RM Selection | 69.97 | 45.12 | 59.88 | 58.32
            Sequential RM Selection | 70.59 | 46.11 | 59.66 | 58.79
            LASER (Ours) | 73.06 | 46.89 | 62.27 | 60.74
            """,
        ),
        Published.of(
            "LASER, table 4 (appendix B), each reward model alone",
            "published, Llama-3-8B",
            """
            reward model | StrategyQA | GSM8K | MMLU
            OLMo-7B-Instruct | 80.23 | 68.91 | 65.74
            Eurus-7b-kto | 81.15 | 71.13 | 66.26
            Zephyr-7b-alpha | 84.29 | 73.16 | 67.15
            Qwen1.5-7B-Chat | 84.79 | 73.07 | 67.53
            """,
        ),
        Published.of(
            "LASER, table 4 (appendix B), each reward model alone",
            "published, Mistral-7B",
            """
            reward model | StrategyQA | GSM8K | MMLU
            OLMo-7B-Instruct | 68.73 | 44.96 | 56.94
            Eurus-7b-kto | 68.64 | 45.37 | 56.96
            Zephyr-7b-alpha | 70.06 | 45.81 | 62.04
            Qwen1.5-7B-Chat | 71.05 | 45.74 | 62.38
            """,
        ),
    ),
    deviations=(
        "SFT trains on the data's answers, for as many steps and on the same prompts as every "
        "other row: GSM8K's worked solutions, `Final answer: ...` alone for StrategyQA and MMLU "
        "(the paper: human-written responses). For the embedded tasks they are made by two "
        "patterns a category that the rule accepts, which are easier to learn than people's.",
        "Best single: the reward model that leads on the packaged sample of scores, or that the "
        "configuration lists first (the paper: the leader of RewardBench, Zephyr).",
    ),
    unknown=UNKNOWN,
    cost=COST,
)
