"""Gold before and after on held-out prompts, judged by their rules, with a paired interval.

It is measured in two ways: greedy, one response a prompt; and under sampling, k responses a prompt
at the training temperature. Sampled gold is what training optimises, and it is less noisy than one
greedy response. Before and after are drawn from the same uniforms. Intervals are over prompts: the
k responses of a prompt are averaged first.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reward_router.distributed import Ranks
from reward_router.examples import Example
from reward_router.keyed import rng
from reward_router.responses import Response, finished
from reward_router.types import Float

if TYPE_CHECKING:
    from reward_router.policy import Policy

DRAWS = 2000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True)
class GoldMeasured:
    """What was measured, one entry a prompt, in the order of the ids.

    Args:
        ids: of the prompts.
        categories: of the prompts; '' for a prompt without one.
        right: the share of its responses that was right, in [0, 1]; NaN where no rule judges it.
        finished: the share of its responses that ended by themselves.
    """

    ids: list[str]
    categories: list[str]
    right: list[float]
    finished: list[float]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """How gold is measured.

    Args:
        samples: responses a prompt at the policy's temperature (`Policy.trial`); 0: one greedy
            response.
        max_new_tokens: most tokens of a response; None: ``policy.max_new_tokens``.
        batch: responses that are generated at a time.
    """

    samples: int = 0
    max_new_tokens: int | None = None
    batch: int = 64


def measure_gold(
    policy: "Policy",
    examples: Sequence[Example],
    ranks: Ranks,
    how: Measurement,
    tick: Callable[[int, int], None] = lambda done, total: None,
    seen: Callable[[Example, Sequence[Response]], None] = lambda example, responses: None,
) -> GoldMeasured:
    """Gold under the policy's present weights, shared out over the processes.

    Args:
        policy: the language model.
        examples: prompts with what counts as right.
        ranks: the processes of the run; all of them must call this alike.
        how: sampled or greedy, and how long responses may get.
        tick: is told (prompts done, prompts in all) of this process.
        seen: is given each prompt of this process with its responses.
    """
    # Prompts of similar length go together, so that little padding is computed.
    own_examples = ranks.shard(list(examples))
    own_examples.sort(key=lambda example: len(str(example.prompt)))
    total = len(own_examples)

    rows: list[tuple[str, str, float, float]] = []
    responses_of_prompt = max(how.samples, 1)
    prompts_at_once = max(1, how.batch // responses_of_prompt)
    for start in range(0, total, prompts_at_once):
        part = own_examples[start : start + prompts_at_once]
        responses = _responses(policy, part, how)
        for example, group in zip(part, responses, strict=True):
            # Averaged over the responses first: intervals are over prompts.
            right = float(example.gold(group).mean())
            ended = float(finished(group).mean())
            rows.append((example.id, example.category, right, ended))
            seen(example, group)
        done = min(start + prompts_at_once, total)
        tick(done, total)

    # Sorted by id, so that the table does not depend on the number of processes.
    rows = sorted(ranks.gather(rows))
    ids, categories, right_B, finished_B = (list(column) for column in zip(*rows, strict=True))
    return GoldMeasured(ids, categories, right_B, finished_B)


def _responses(
    policy: "Policy", examples: Sequence[Example], how: Measurement
) -> list[list[Response]]:
    """The policy's responses to each prompt: ``how.samples`` drawn ones, or the greedy one."""
    limit = how.max_new_tokens or policy.config.max_new_tokens
    prompts = [example.prompt for example in examples]
    if how.samples:
        ids = [example.id for example in examples]
        return policy.trial(prompts, ids, how.samples, limit)
    return [[response] for response in policy.answer(prompts, limit)]


def bootstrap_interval(values: Float, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over prompts (percentile, 2,000 draws).

    It says nothing of training seeds. NaN for fewer than two values.
    """
    n_prompts = len(values)
    if n_prompts < 2:
        return float("nan"), float("nan")

    # Keyed, so that the same values always have the same interval.
    draw = rng(seed, "bootstrap", 0)
    drawn_RB = draw.integers(0, n_prompts, (DRAWS, n_prompts))
    mean_R = values[drawn_RB].mean(axis=1)
    low, high = np.quantile(mean_R, [0.025, 0.975])
    return float(low), float(high)


def compare_gold(before: GoldMeasured, after: GoldMeasured) -> dict[str, Any]:
    """Gold before and after, overall and by category.

    Each row has n, before, after, their difference, and its paired 95 % interval over prompts. The
    row ``all`` also says which share of responses ended by itself. ValueError where the two were
    measured on different prompts.
    """
    if before.ids != after.ids:
        raise ValueError("before and after were measured on different prompts")
    right_before = np.array(before.right)
    right_after = np.array(after.right)
    category = np.array(before.categories)

    table = {"all": _row(right_before, right_after)}
    for name in sorted(set(before.categories) - {""}):
        in_category = category == name
        table[name] = _row(right_before[in_category], right_after[in_category])

    # Gold may rise by shorter responses alone: these two shares tell.
    table["all"]["finished_before"] = float(np.mean(before.finished))
    table["all"]["finished_after"] = float(np.mean(after.finished))
    return table


def _row(before: Float, after: Float) -> dict[str, Any]:
    low, high = bootstrap_interval(after - before)
    return {
        "n": len(before),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "diff": float((after - before).mean()),
        "ci95": [low, high],
    }
