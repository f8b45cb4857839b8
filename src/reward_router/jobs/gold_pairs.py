"""Preference data out of nothing but prompts with gold.

The policy's own right answers are preferred to its own wrong ones.

What ``fit-prior`` learns from such pairs is which arm tells right from wrong on the responses that
will be judged, before any training. It costs samples and no human: a rule or a known answer
decides. Left out: prompts that the policy always or never gets right, which say nothing of an arm;
they are counted.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TextColumn

from reward_router import keyed
from reward_router.assemble import fitting
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.examples import Example, load_examples, taken_in_turn
from reward_router.policy import Policy
from reward_router.progress import bar, say
from reward_router.responses import finished
from reward_router.rundir import make_folder, refuse_folder, write_atomically
from reward_router.strict_json import dumps

CHUNK = 16
"""Prompts that are sampled at a time."""
STEP = 2**40
"""No training step has this number: these samples are not those of a run with the same seed."""


def gold_pairs(
    config: Config, out: Path, prompts: int | None, per_prompt: int, console: Console
) -> int:
    """Write (prompt, chosen, rejected, category, source) rows to ``out`` as JSONL.

    Returns how many.

    ``prompts``: so many, taken from the categories in turn (None: all); ``per_prompt``: pairs of
    each, at most. ``policy.n_responses`` samples a prompt; cut ones are left out unless
    ``pairs.truncated: keep``, for no arm decides about them in a run. InputError where no prompt
    has gold, or no prompt got a right and a wrong answer.
    """
    refuse_folder(out, "--out")
    judged = [e for e in load_examples(config.data) if e.verify]
    if not judged:
        raise InputError(
            f"data {config.data.source}: no prompt has gold; give "
            "data.answer_kind and an answer column"
        )
    # Before anything is sampled, so that a place which cannot be written costs nothing.
    make_folder(out.parent)
    policy = Policy(config.policy, config.train, config.seed)
    n = config.policy.n_responses
    examples = taken_in_turn(
        fitting(judged, config.data, policy, lambda note: say(console, note)), prompts
    )
    keep_cut = config.pairs.truncated == "keep"
    rows: list[dict[str, Any]] = []
    prompts_with_pairs = cut = 0
    with bar(console, TextColumn(f"sampling {n} responses a prompt", markup=False)) as progress:
        task = progress.add_task("prompts", total=len(examples))
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            prompts_of_part = [example.prompt for example in part]
            ids = [example.id for example in part]
            groups = policy.sample(prompts_of_part, ids, n, STEP)
            for example, responses in zip(part, groups, strict=True):
                ended_N = finished(responses).tolist()
                both = zip(responses, ended_N, strict=True)
                usable = [response for response, ended in both if ended or keep_cut]
                pairs = gold_pairs_of(example, usable, per_prompt, config.seed)
                cut += len(responses) - len(usable)
                prompts_with_pairs += bool(pairs)
                rows += pairs
            progress.update(task, completed=start + len(part))
    left_out = (
        f"{cut} of {n * len(examples)} responses were cut by policy.max_new_tokens and left out"
    )
    if not rows:
        why = f" ({left_out})" if cut else ""
        raise InputError(
            f"data {config.data.source}: of {len(examples)} prompts none got a "
            f"right and a wrong answer{why}"
        )
    write_atomically(out, "".join(dumps(row, ensure_ascii=False) + "\n" for row in rows))
    alike = f"{len(examples) - prompts_with_pairs} prompts were all right or all wrong"
    summary = f"pairs    {len(rows)} of {prompts_with_pairs} prompts in {out}; {alike}"
    if cut:
        summary += f"; {left_out}"
    say(console, summary)
    return len(rows)


def gold_pairs_of(
    example: Example, responses: Sequence[str], per_prompt: int, seed: int
) -> list[dict[str, Any]]:
    """Up to ``per_prompt`` different (right, wrong) pairs of one prompt, drawn by key.

    Empty where all responses are alike.
    """
    texts = list(dict.fromkeys(str(response) for response in responses if response.strip()))
    gold = example.gold(texts).tolist()
    right = [text for text, value in zip(texts, gold, strict=True) if value == 1]
    wrong = [text for text, value in zip(texts, gold, strict=True) if value == 0]
    every_pair = list(itertools.product(right, wrong))
    if not every_pair:
        return []

    draw = keyed.rng(seed, "pairs", STEP, example.id)
    most = min(per_prompt, len(every_pair))
    drawn = draw.choice(len(every_pair), size=most, replace=False).tolist()

    base = {"prompt": example.prompt, "category": example.category, "source": "gold-pairs"}
    rows = []
    # The number of a pair is its id, so that a larger draw names the same pairs alike.
    for i in sorted(drawn):
        chosen, rejected = every_pair[i]
        rows.append({"id": f"{example.id}/{i}", **base, "chosen": chosen, "rejected": rejected})
    return rows
