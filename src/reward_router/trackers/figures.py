"""A line of metrics.jsonl as the figures that trackers show.

Figures that TRL has, too, carry TRL's names, so that curves of both lie over each other; the
router's own stand under ``router/``. Where a step cannot say a figure it is left out.
"""

from collections.abc import Mapping
from typing import Any

TRL_NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "margin": "rewards/margins",
    "pair_accuracy": "rewards/accuracies",
    # TRL's `kl` (GRPO) is a mean over tokens. Ours is over responses, which OnlineDPOTrainer has.
    "kl": "objective/kl",
    "tokens": "completions/mean_length",
}
"""Key of metrics.jsonl -> TRL's name of the same quantity."""
ROUTER_NAMES = (
    "payoff",
    "payoffs",
    "calls",
    "failures",
    "failed_rows",
    "abstained",
    "pairs",
    "gold_order",
    "gold_sampled",
    "truncated",
    "words",
)
"""Keys of metrics.jsonl that stand under ``router/`` by the same name."""
GOLD_NAMES = {
    "gold": "held_out",
    "gold_sampled": "held_out_sampled",
    "gold_test": "test",
    "gold_test_sampled": "test_sampled",
}
"""Kind of gold in summary.json -> its name under ``router/gold/``."""


def step_figures(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The figures of one step.

    Args:
        record: a line of metrics.jsonl.
        prefix: what stands before TRL's names.

    >>> line = {"loss": 0.5, "lr": [1e-3], "finished": 0.75, "arms": {"a": 3, "b": 1}}
    >>> step_figures(line, "train/")["train/loss"], step_figures(line)["router/share/a"]
    (0.5, 0.75)
    """
    trl = {name: record.get(key) for key, name in TRL_NAMES.items()}
    if record.get("lr"):
        trl["learning_rate"] = record["lr"][-1]
    if record.get("finished") is not None:
        trl["completions/clipped_ratio"] = 1 - record["finished"]

    router = {name: record.get(name) for name in ROUTER_NAMES}
    router |= _by_arm(record)
    router |= _of_committee(record.get("committee") or {})
    router |= _of_look(record.get("look") or {})
    router["skipped"] = record.get("skipped")
    router["resting_arms"] = len(record.get("resting", ()))
    for phase, seconds in record.get("seconds", {}).items():
        router[f"seconds/{phase}"] = seconds

    named = {f"{prefix}{name}": value for name, value in trl.items()}
    named |= {f"router/{name}": value for name, value in router.items()}
    return {name: float(value) for name, value in named.items() if value is not None}


def gold_figures(kind: str, when: str, share: float) -> dict[str, float]:
    """Gold ``when`` (before or after) training, of one kind that a summary holds.

    >>> gold_figures("gold", "before", 0.25)
    {'router/gold/held_out/before': 0.25}
    """
    return {f"router/gold/{GOLD_NAMES[kind]}/{when}": share}


def _by_arm(record: Mapping[str, Any]) -> dict[str, float]:
    """Share of the decisions, mean probability and posterior of each arm."""
    figures: dict[str, float] = {}
    drawn = record.get("arms", {})
    decisions = sum(drawn.values())
    for arm, count in drawn.items():
        figures[f"share/{arm}"] = count / max(1, decisions)
    for arm, probability in record.get("probs", {}).items():
        figures[f"probability/{arm}"] = probability
    for arm, (mean, sd) in record.get("posterior", {}).items():
        figures[f"posterior_mean/{arm}"] = mean
        figures[f"posterior_sd/{arm}"] = sd
    return figures


def _of_committee(committee: Mapping[str, Any]) -> dict[str, float]:
    """What a committee says of itself in plain numbers."""
    figures: dict[str, float] = {}
    for name, value in committee.items():
        if isinstance(value, int | float):
            figures[f"committee/{name}"] = value
    return figures


def _of_look(look: Mapping[str, Any]) -> dict[str, float]:
    """Gold on train prompts, where a look was due: of this adapter, the base model and the best."""
    return {f"look/{name}": look[name] for name in ("gold", "finished", "base", "best") if look}
