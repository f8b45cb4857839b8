"""One prompt group: what trainers send of it, what they get, and what is known meanwhile."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.chat import Prompt
from reward_router.types import Decision
from reward_router.verdicts.batch import Batch, Unit


@dataclass(frozen=True)
class Sample:
    """One response of a trainer.

    Args:
        prompt: what was asked.
        response: what the policy wrote.
        label: the right answer where the trainer sends one.
        group: the trainer's name of the prompt's group; '': equal prompts are one group.
        size: how many responses the group has; None: what the server was told.
        step: the trainer's step.
    """

    prompt: Prompt
    response: str
    label: str | None = None
    group: str = ""
    size: int | None = None
    step: int = 0


@dataclass(frozen=True)
class Reward:
    """What a trainer gets for one response.

    Args:
        value: calibrated: standard deviations above the arm's mean; the group's mean where nobody
            could score, and 0 where nothing is known.
        score: in the arm's own units, NaN where nobody gave one.
        arm: whose score it is, '' where nobody gave one.
        decision_id: of the group, '' where nobody could be routed to.
        propensity: with which the group's arm was drawn.
    """

    value: float
    score: float
    arm: str = ""
    decision_id: str = ""
    propensity: float = 1.0

    @property
    def share(self) -> float:
        """``value`` in [0, 1]: the share of a normal population below it."""
        return 0.5 * math.erfc(-self.value / math.sqrt(2.0))


@dataclass
class Member:
    """One response of a group.

    Args:
        text: the response.
        gold: 1 right, 0 wrong, NaN unknown.
        own: the score of the group's own arm, NaN where it abstained or was not asked yet.
        value: the calibrated score, NaN where there is none.
        judged: whether the group's own arm was asked about it and did not fail.
        answered: whether the trainer has its reward.
    """

    text: str
    gold: float
    own: float = math.nan
    value: float = math.nan
    judged: bool = False
    answered: bool = False

    def kept(self) -> dict[str, Any]:
        """What lies beside the ledger while the group is open."""
        return {
            "text": self.text,
            "gold": self.gold,
            "own": self.own,
            "value": self.value,
            "judged": self.judged,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Member":
        """The member that was ``kept``: it was answered."""
        gold, own, value = (_number(kept[name]) for name in ("gold", "own", "value"))
        return cls(kept["text"], gold, own, value, kept["judged"], answered=True)


@dataclass
class Group:
    """A group: its one decision, and its responses by their numbers.

    Args:
        key: the trainer's name of it, or the prompt's.
        prompt: what was asked.
        unit: the id of what was decided about.
        step: the step it was decided in.
        size: how many responses it takes.
        opened: the time at which it was opened.
        decision: whose arm judges all of its responses.
        members: its responses so far.
        closed: whether it takes no more.
    """

    key: str
    prompt: Prompt
    unit: str
    step: int
    size: int
    opened: float
    decision: Decision
    members: dict[int, Member] = field(default_factory=dict)
    closed: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it is closed and all of its responses are answered."""
        return self.closed and all(member.answered for member in self.members.values())

    def join(self, member: Member) -> int:
        """The number of a new response: the first free one, for a kill may leave gaps."""
        number = next(n for n in range(len(self.members) + 1) if n not in self.members)
        self.members[number] = member
        self.closed = len(self.members) >= self.size
        return number

    def asking(self, number: int) -> Batch:
        """What an arm is asked about one response, under its number in the group."""
        texts = [""] * number + [self.members[number].text]
        batch = Batch(self.step, [self.prompt], [self.unit], [texts])
        batch.units = [Unit(self.unit, ((0, (number,)),))]
        batch.decisions = [self.decision]
        return batch

    def judged(self) -> Batch:
        """All responses that the group's own arm judged, as a payoff is made of them."""
        members = [member for member in self.members.values() if member.judged]
        texts = [member.text for member in members]
        batch = Batch(self.step, [self.prompt], [self.unit], [texts])
        batch.units = [Unit(self.unit, ((0, tuple(range(len(texts)))),))]
        batch.decisions = [self.decision]
        own_N = np.array([member.own for member in members])
        batch.verdicts.scores = [[own_N]]
        batch.verdicts.own = [[own_N]]
        gold_N = np.array([member.gold for member in members])
        if np.isfinite(gold_N).any():
            batch.gold = [gold_N]
        return batch

    def mean(self) -> float:
        """The mean calibrated score so far, 0 where there is none."""
        values = [m.value for m in self.members.values() if math.isfinite(m.value)]
        return float(np.mean(values)) if values else 0.0

    def kept(self) -> dict[str, Any]:
        """What lies beside the ledger while it is open; its decision lies in it."""
        return {
            "key": self.key,
            "prompt": self.prompt,
            "unit": self.unit,
            "step": self.step,
            "size": self.size,
            "opened": self.opened,
        }


def prompt_id(prompt: Prompt) -> str:
    """A name that equal prompts share, on every machine."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return f"{keyed.key(0, 'data', 0, text):032x}"[:16]


def _number(kept: float | None) -> float:
    return math.nan if kept is None else float(kept)
