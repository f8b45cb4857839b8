"""Do no harm: a few labelled train prompts are looked at during a run, and the adapter that is kept is one that they speak for.

A look is gold under sampling at the training temperature. Every look draws from the same uniforms, so that two looks differ by
the policy and not by luck, and their difference is taken prompt by prompt. A look is noisy all the same, and the best of many
noisy looks is partly the luckiest. `kept` therefore asks for more than a standard error of that difference on both sides: an
adapter has to be that much better than the base model to be kept at all, and an earlier adapter that much better than the last
one to be preferred to it. The held-out prompts take no part in this: their gold stays an honest measure of what was kept.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.config import Config
from reward_router.data import Prompt
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import measure
from reward_router.examples import Example, balanced
from reward_router.policy import Policy


@dataclass(frozen=True)
class Look:
    """Gold after ``step`` steps (0: the base model): per prompt the share of right samples, and the share that was finished."""

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


def kept(looks: Sequence[Look]) -> Look:
    """The look whose adapter a run keeps; ``looks``: in order, the base model's first, the last adapter's last.

    The base model, unless the best look is clearly above its own. Else the last one, where it is clearly above the base's and
    the best is not clearly above it. Else the best. Clearly: by more than a standard error of their paired difference over
    prompts. O(looks + prompts).

    >>> flat, up = Look(0, [0.0, 0.5, 0.5, 0.0], 1.0), Look(2, [1.0, 0.5, 1.0, 0.5], 1.0)
    >>> kept([flat, up, Look(4, [1.0, 1.0, 0.5, 0.0], 1.0)]).step, kept([flat, up, Look(4, [0.0] * 4, 1.0)]).step
    (4, 2)
    """
    base, last, highest = looks[0], looks[-1], best(looks)
    if not _clearly_above(highest, base):
        return base
    if _clearly_above(last, base) and not _clearly_above(highest, last):
        return last
    return highest


def _clearly_above(look: Look, other: Look) -> bool:
    """Whether ``look`` is better by more than a standard error of the difference, taken prompt by prompt."""
    gain_P = np.subtract(look.right, other.right)
    error = float(gain_P.std(ddof=1) / np.sqrt(len(gain_P))) if len(gain_P) > 1 else 0.0
    return float(gain_P.mean()) > error


def _without_effect(adapter: Mapping[str, Any]) -> dict[str, Any]:
    """The same adapter as the base model: a LoRA layer adds B A, so a B of zeros adds nothing, as before the first step."""
    return {name: value * 0 if "lora_B" in name else value for name, value in adapter.items()}


def look_prompts(
    examples: Sequence[Example], routed: Collection[str], held_out: Sequence[Prompt], limit: int
) -> list[Example]:
    """Labelled train prompts that are not among the held-out ones, evenly from the categories; those in ``routed`` come last.

    Raises InputError where there is none.
    """
    taken = {str(p) for p in held_out}
    labelled = [e for e in examples if e.verify is not None and str(e.prompt) not in taken]
    if not labelled:
        raise InputError(
            "eval.keep: best looks at labelled train prompts, and none is left that is not held out; "
            "give data.answer_kind and an answer column, or use eval.keep: last"
        )
    order = sorted(labelled, key=lambda e: (e.id in routed, keyed.uniform(0, "look", 0, e.id)))
    return balanced(order, limit)


class Looks:
    """The looks of one run and the best adapter so far. All processes must call :meth:`look` alike."""

    def __init__(
        self, config: Config, examples: Sequence[Example], policy: Policy, ranks: Ranks
    ) -> None:
        """``examples``: what is looked at."""
        self.config, self.examples, self.policy, self.ranks = (
            config.eval,
            list(examples),
            policy,
            ranks,
        )
        self.looks: list[Look] = []
        self.adapter: dict[str, Any] = {}

    def due(self, step: int, steps: int) -> bool:
        """Whether there is a look after ``step`` of ``steps`` steps: before the first, every ``look_every``, after the last."""
        return step % self.config.look_every == 0 or step == steps

    @property
    def stopped(self) -> bool:
        """Whether ``patience`` looks in a row brought nothing better."""
        if self.config.patience is None or not self.looks:
            return False
        since = len(self.looks) - 1 - self.looks.index(best(self.looks))
        return since >= self.config.patience

    def look(
        self, step: int, tick: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[str, Any]:
        """Measure the present policy; returns the entry for the log."""
        settings = self.config
        gold = measure(
            self.policy,
            self.examples,
            self.ranks,
            settings.max_new_tokens,
            settings.batch,
            tick,
            settings.look_samples,
        )
        self.looks.append(Look(step, gold.right, float(np.mean(gold.finished))))
        if best(self.looks) is self.looks[-1]:
            self.adapter = self.policy.adapter_state("policy")
        return self.entry(self.looks[-1])

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
        chosen = kept(self.looks)
        if chosen is not self.looks[-1]:
            is_base = chosen is self.looks[0]
            self.policy.load_adapter(_without_effect(self.adapter) if is_base else self.adapter)
            self.policy.sync()
        return chosen

    def summary(self) -> dict[str, Any]:
        """What summary.json says of it."""
        chosen = kept(self.looks)
        return {
            "step": chosen.step,
            "last_step": self.looks[-1].step,
            "stopped_early": self.stopped,
            "gold": chosen.gold,
            "base": self.looks[0].gold,
            "last": self.looks[-1].gold,
            "prompts": len(self.examples),
            "samples": self.config.look_samples,
            "looks": [{"step": x.step, "gold": x.gold, "finished": x.finished} for x in self.looks],
        }

    def state_dict(self) -> list[dict[str, Any]]:
        """All looks as plain data; the best adapter's tensors are :attr:`adapter`."""
        return [asdict(look) for look in self.looks]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], adapter: dict[str, Any]) -> None:
        """Restore what a checkpoint holds."""
        self.looks, self.adapter = [Look(**look) for look in state], adapter
