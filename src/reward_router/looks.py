"""Do no harm: a run looks at labelled train prompts, and keeps an adapter that they speak for.

A look is gold under sampling at the training temperature. Every look draws from the same uniforms,
so that two looks differ by the policy and not by luck, and their difference is taken prompt by
prompt. A look is noisy all the same, and the best of many noisy looks is partly the luckiest.
`kept` therefore asks for more than a standard error of that difference on both sides: an adapter
has to be that much better than the base model to be kept at all, and an earlier adapter that much
better than the last one to be preferred to it. The held-out prompts take no part in this: their
gold stays an honest measure of what was kept.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.chat import Prompt
from reward_router.config import Config
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import Measurement, measure_gold
from reward_router.examples import Example, taken_in_turn
from reward_router.policy import Policy


@dataclass(frozen=True)
class Look:
    """Gold of the policy as it stood after some step.

    Args:
        step: steps done; 0: the base model.
        right: per prompt, the share of its samples that was right.
        finished: the share of all samples that ended by themselves.
    """

    step: int
    right: list[float]
    finished: float

    @property
    def gold(self) -> float:
        """The mean over prompts, in [0, 1]."""
        return float(np.mean(self.right))


def best(looks: Sequence[Look]) -> Look:
    """The look with the highest gold, the earlier of equal ones. O(looks)."""
    return max(looks, key=lambda look: look.gold)


def kept_look(looks: Sequence[Look]) -> Look:
    """The look whose adapter a run keeps.

    It is the base model, unless the best look is clearly above it. Else it is the last one, where
    that is clearly above the base model and the best is not clearly above it. Else it is the best.
    Clearly means: by more than a standard error of their paired difference over prompts.
    O(looks + prompts).

    Args:
        looks: in order, the base model's first, the last adapter's last.

    >>> flat, up = Look(0, [0.0, 0.5, 0.5, 0.0], 1.0), Look(2, [1.0, 0.5, 1.0, 0.5], 1.0)
    >>> kept_look([flat, up, Look(4, [1.0, 1.0, 0.5, 0.0], 1.0)]).step
    4
    >>> kept_look([flat, up, Look(4, [0.0] * 4, 1.0)]).step
    2
    """
    base = looks[0]
    last = looks[-1]
    highest = best(looks)
    if not _clearly_above(highest, base):
        return base
    if _clearly_above(last, base) and not _clearly_above(highest, last):
        return last
    return highest


def _clearly_above(look: Look, other: Look) -> bool:
    """Whether a look is better by more than a standard error of the paired difference."""
    gain_P = np.subtract(look.right, other.right)
    standard_error = 0.0
    if len(gain_P) > 1:
        deviation = float(gain_P.std(ddof=1))
        standard_error = deviation / float(np.sqrt(len(gain_P)))
    # One prompt that alone changed is better by exactly a standard error: not more than it,
    # whatever the rounding.
    return float(gain_P.mean()) > standard_error * (1 + 1e-9)


def _without_effect(adapter: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter that makes the model its base again.

    A LoRA layer adds B A, so a B of zeros adds nothing, as before the first step.
    """
    return {name: value * 0 if "lora_B" in name else value for name, value in adapter.items()}


def look_prompts(
    examples: Sequence[Example], routed: Collection[str], held_out: Sequence[Prompt], limit: int
) -> list[Example]:
    """Labelled train prompts to look at, evenly from the categories.

    Args:
        examples: the run's prompts.
        routed: ids of those that some step routes; they are looked at last, because what is
            trained on flatters the policy.
        held_out: prompts that are measured elsewhere; none of them is looked at.
        limit: at most so many.

    InputError where no prompt is left.
    """
    measured = {str(prompt) for prompt in held_out}
    labelled = [
        example
        for example in examples
        if example.verify is not None and str(example.prompt) not in measured
    ]
    if not labelled:
        raise InputError(
            "eval.keep: best looks at labelled train prompts, and none is left that is not held "
            "out; give data.answer_kind and an answer column, or use eval.keep: last"
        )

    def routed_last(example: Example) -> tuple[bool, float]:
        return example.id in routed, keyed.uniform(0, "look", 0, example.id)

    return taken_in_turn(sorted(labelled, key=routed_last), limit)


class Looks:
    """The looks of one run and the best adapter so far.

    All processes of a run must call :meth:`look` alike.
    """

    def __init__(
        self, config: Config, examples: Sequence[Example], policy: Policy, ranks: Ranks
    ) -> None:
        """``examples``: what is looked at."""
        self.config = config.eval
        self.examples = list(examples)
        self.policy = policy
        self.ranks = ranks
        self.looks: list[Look] = []
        self.adapter: dict[str, Any] = {}

    def due(self, step: int, steps: int) -> bool:
        """Whether there is a look after ``step`` of ``steps`` steps.

        There is one before the first step, after every ``look_every`` steps, and after the last.
        """
        return step % self.config.look_every == 0 or step == steps

    @property
    def stopped(self) -> bool:
        """Whether ``patience`` looks in a row brought nothing better."""
        if self.config.patience is None or not self.looks:
            return False
        best_place = self.looks.index(best(self.looks))
        looks_since_best = len(self.looks) - 1 - best_place
        return looks_since_best >= self.config.patience

    def look(
        self, step: int, tick: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[str, Any]:
        """Measure the present policy; returns the entry for the log."""
        settings = self.config
        how = Measurement(settings.look_samples, settings.max_new_tokens, settings.batch)
        gold = measure_gold(self.policy, self.examples, self.ranks, how, tick)
        ended = float(np.mean(gold.finished))
        newest = Look(step, gold.right, ended)
        self.looks.append(newest)

        # The weights of the best look are kept now: later steps will have changed them.
        if best(self.looks) is newest:
            self.adapter = self.policy.adapter_state("policy")
        return self.entry(newest)

    def entry(self, look: Look) -> dict[str, Any]:
        """One look for metrics.jsonl, beside the base model's and the best so far."""
        top = best(self.looks)
        return {
            "step": look.step,
            "gold": look.gold,
            "finished": look.finished,
            "base": self.looks[0].gold,
            "best": top.gold,
            "best_step": top.step,
        }

    def settle(self) -> Look:
        """Put the adapter that is kept into the policy; returns its look."""
        chosen = kept_look(self.looks)
        if chosen is self.looks[-1]:
            return chosen
        # The best adapter is at hand, the base model's is not: it is made of the best.
        is_base = chosen is self.looks[0]
        self.policy.load_adapter(_without_effect(self.adapter) if is_base else self.adapter)
        self.policy.sync()
        return chosen

    def summary(self) -> dict[str, Any]:
        """What summary.json says of it."""
        chosen = kept_look(self.looks)
        entries = [
            {"step": look.step, "gold": look.gold, "finished": look.finished} for look in self.looks
        ]
        return {
            "step": chosen.step,
            "last_step": self.looks[-1].step,
            "stopped_early": self.stopped,
            "gold": chosen.gold,
            "base": self.looks[0].gold,
            "last": self.looks[-1].gold,
            "prompts": len(self.examples),
            "samples": self.config.look_samples,
            "looks": entries,
        }

    def state_dict(self) -> list[dict[str, Any]]:
        """All looks as plain data; the best adapter's tensors are :attr:`adapter`."""
        return [asdict(look) for look in self.looks]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], adapter: dict[str, Any]) -> None:
        """Restore what a checkpoint holds."""
        self.looks = [Look(**look) for look in state]
        self.adapter = adapter
