"""What a user's configuration leaves out and only its data can say.

That is the payoff, the held-out prompts, which adapter is kept, and sizes on a GPU.

The schema's defaults are sizes that a laptop finishes with. What follows here depends on the data
(has it answers?) and on the machine, and is written into the resolved configuration, so that a run
directory says it and `--resume` finds it. Packaged presets are whole and pass as they are. Each
choice is told in one line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reward_router import config as configuration
from reward_router.config import Config, DataConfig
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED_TASKS, load_examples
from reward_router.jobs.estimate import parameters

Tree = dict[str, Any]
HELD_OUT = 20
"""Per cent of a file's prompts that are held out where nothing else is said."""
LEAST = 10
"""Fewer held-out prompts than this say nothing and are left to training."""
LOOK = 24
"""Train prompts of a look."""
LOOKS = {"keep": "best", "look": LOOK, "look_samples": 2, "look_every": 4}


def load_filled(
    source: str | Path | None,
    preset: str | None,
    settings: Sequence[str],
    say: Callable[[str], None],
) -> Config:
    """A configuration as `config.load` reads it, with a user's own file filled in.

    ``say`` is told each choice in a line.
    """
    tree, where = configuration.read_plain(source, preset, settings)
    if source is None:
        return configuration.validate(tree, where)
    configuration.validate(tree, where)  # what is wrong in the file is said before the data is read
    return configuration.validate(filled(tree, say), where)


def filled(tree: Tree, say: Callable[[str], None]) -> Tree:
    """The same configuration with what it leaves out; what it says, an explicit null too, stays."""
    whole = {
        **tree,
        **{
            name: dict(tree.get(name) or {})
            for name in ("data", "payoff", "eval", "policy", "train")
        },
    }
    data = DataConfig.model_validate(whole["data"])
    gold = data.source == EMBEDDED_TASKS or data.answer_kind is not None
    if whole["payoff"].get("arm") is not None:
        whole["payoff"].setdefault("name", "judge")
        say(
            "payoff   judge: the router learns which arm orders responses as "
            f"{whole['payoff']['arm']} does, which judges no prompt itself"
        )
    elif "name" not in whole["payoff"]:
        _payoff(whole, gold, say)
    measured = gold or whole["eval"].get("arm") is not None
    if "data" not in whole["eval"] and data.source != EMBEDDED_TASKS and measured:
        _hold_out(whole, data, say)
    if gold and "keep" not in whole["eval"] and _labelled(whole) >= LOOK:
        whole["eval"] = LOOKS | whole["eval"]
    for name, value in _gpu(whole, say).items():
        section, key = name.split(".")
        whole[section].setdefault(key, value)
    return {name: section for name, section in whole.items() if section != {} or name in tree}


def _payoff(whole: Tree, gold: bool, say: Callable[[str], None]) -> None:
    if gold:
        whole["payoff"]["name"] = "probe"
        say(
            "payoff   probe: the router learns which arm puts right answers "
            "above wrong ones (the data has answers)"
        )
        return
    whole["payoff"]["name"] = "neg_loss"
    say(
        "payoff   neg_loss: the router learns which arm agrees with the policy, not which is "
        "right. Better: data.answer_kind, where the data has answers; payoff: {arm: NAME}, a "
        "strong judge among your arms; payoff: {name: python, path: ...}, a function of yours"
    )
    if whole["eval"].get("arm") is None:
        say(
            "measured nothing: there is no gold. eval: {arm: NAME} keeps one of your arms apart, "
            "which says at the end how often responses got better"
        )


def _hold_out(whole: Tree, data: DataConfig, say: Callable[[str], None]) -> None:
    """Part the prompts by a hash of each.

    A prompt is then on one side only, whatever else the file holds.
    """
    if not Path(data.source).is_file() or any(mark in data.split for mark in "#[+"):
        return
    train = data.model_copy(update={"split": f"{data.split}#0:{100 - HELD_OUT}"})
    held_out = data.model_copy(
        update={"split": f"{data.split}#{100 - HELD_OUT}:100", "limit": None}
    )
    try:
        kept = len(load_examples(train))
        apart = len(load_examples(held_out))
    except InputError:
        # So few that one side is empty. A file that cannot be read is refused where it is loaded.
        return
    if apart < LEAST:
        say(
            f"held out nothing: {HELD_OUT} % of {kept + apart} prompts are {apart}, "
            "which would say nothing. "
            "Give a hundred prompts or more, or name a set to measure on in eval.data"
        )
        return
    whole["data"]["split"] = train.split
    whole["eval"]["data"] = {**whole["data"], "split": held_out.split, "limit": None}
    say(
        f"held out {apart} of the {kept + apart} prompts, measured before and "
        "after (eval.data: null trains on all)"
    )


def _labelled(whole: Tree) -> int:
    """Labelled train prompts, for the looks that choose which adapter is kept."""
    try:
        return sum(
            e.verify is not None for e in load_examples(DataConfig.model_validate(whole["data"]))
        )
    except InputError:
        return 0


def _gpu(whole: Tree, say: Callable[[str], None]) -> dict[str, Any]:
    if whole["policy"].get("device") == "cpu":
        return {}
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    model = configuration.PolicyConfig.model_validate(whole["policy"]).model
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    chosen = gpu_sizes(memory, parameters(model)[0])
    told = ", ".join(f"{name} {value}" for name, value in chosen.items() if not _given(whole, name))
    say(
        f"sizes    for {torch.cuda.get_device_name()} ({memory:.0f} GiB) and {model}: "
        f"{told or 'all given'}"
    )
    return chosen


def _given(whole: Tree, name: str) -> bool:
    section, key = name.split(".")
    return key in whole[section]


def gpu_sizes(memory_gib: float, weights: float) -> dict[str, Any]:
    """Larger settings for a GPU.

    Args:
        memory_gib: of the card.
        weights: of the policy; 0: unknown, taken for 1.5 thousand million.

    The model in bfloat16 takes 2 bytes a weight; what is left bounds the pairs a forward pass
    (about 1.5 GiB each at 512 tokens for a model of 7 thousand million weights, in proportion to
    the square root of its size for smaller ones).

    >>> gpu_sizes(80, 135e6)["train.micro_batch"], gpu_sizes(24, 7e9)["train.micro_batch"]
    (16, 4)
    """
    billions = (weights or 1.5e9) / 1e9
    left = max(memory_gib * 0.9 - 2 * billions, 0.0)
    each = 1.5 * (billions / 7) ** 0.5
    fits = int(left / each)
    micro = next((size for size in (16, 8, 4, 2) if size <= fits), 1)
    return {
        "policy.dtype": "bfloat16",
        "policy.n_responses": 8,
        "policy.max_new_tokens": 256,
        "train.batch_prompts": 16 if billions < 3 else 8,
        "train.batches_per_iteration": 40,
        "train.lr": 2e-4 if billions < 1 else 5e-5 if billions < 5 else 2e-5,
        "train.micro_batch": micro,
        "train.gradient_checkpointing": fits < 2,
    }
