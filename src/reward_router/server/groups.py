"""Prompt groups for trainers that send one response at a time and say nothing of groups.

The first response to a prompt opens a group: one decision, one arm. Responses that follow join it,
so that one arm judges what a trainer compares. It closes after ``size`` responses, or ``seconds``
after it was opened; the next response to the prompt opens another one. Every response is answered
at once.

What this means for propensities: the decision and its propensity are those of the group, drawn
once when it opens, with the router's knowledge of that moment. Responses are no decisions of their
own. A group that closes by time is a decision about fewer responses. Open groups are in memory:
after a restart the next response opens a new group, and what the old one would have been paid by
gold is lost; its decision and calls are in the ledger.
"""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from reward_router import keyed
from reward_router.chat import Prompt
from reward_router.dispatch.inputs import decision_key
from reward_router.errors import AllArmsResting, InputError
from reward_router.grading import grade
from reward_router.server.desk import Desk
from reward_router.server.refusal import Refused
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
class Group:
    """An open group: its decision, and what is known of its responses by their numbers."""

    key: str
    prompt: Prompt
    unit: str
    step: int
    size: int
    opened: float
    decision: Decision
    texts: list[str] = field(default_factory=list)
    golds: list[float] = field(default_factory=list)
    own: dict[int, float] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    answered: int = 0
    closed: bool = False


class Groups:
    """The open groups of a server.

    Args:
        desk: judges.
        size: responses of a group, where a trainer does not say.
        seconds: how long a group stays open.
        answer_kind: how a label is compared with a response; None: labels are not read.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        desk: Desk,
        size: int,
        seconds: float = 600.0,
        answer_kind: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """InputError for a size or a time that cannot be right."""
        if size < 1 or not seconds > 0:
            raise InputError(
                f"group size {size}, {seconds} seconds; allowed 1 or more, and above 0"
            )
        self.desk = desk
        self.size = size
        self.seconds = seconds
        self.answer_kind = answer_kind
        self._clock = clock
        self._open: OrderedDict[str, Group] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        """How many groups are open."""
        return len(self._open)

    def reward(self, sample: Sample) -> Reward:
        """Judge one response by its group's arm; it costs one call."""
        try:
            group, number = self._join(sample)
        except Refused as refused:
            if isinstance(refused.__cause__, AllArmsResting):
                return Reward(0.0, math.nan)
            raise
        try:
            reward = self._judge(group, number)
        finally:
            is_whole = self._answered(group)
        if is_whole:
            self._pay(group)
        return reward

    def _answered(self, group: Group) -> bool:
        """One response more is answered; whether it was the last one of a closed group."""
        with self._lock:
            group.answered += 1
            return group.closed and group.answered == len(group.texts)

    def close(self) -> None:
        """Close all groups and pay those whose responses are all answered."""
        self._expire(everything=True)

    # opening and closing --------------------------------------------------------------------------

    def _join(self, sample: Sample) -> tuple[Group, int]:
        """The sample's group, and its number in it."""
        self._expire()
        key = sample.group or prompt_id(sample.prompt)
        with self._lock:
            group = self._open.get(key)
            if group is None:
                group = self._opened(key, sample)
                self._open[key] = group
            number = len(group.texts)
            group.texts.append(sample.response)
            group.golds.append(self._gold(sample))
            if len(group.texts) >= group.size:
                group.closed = True
                del self._open[key]
        return group, number

    def _opened(self, key: str, sample: Sample) -> Group:
        name = self._unused(prompt_id(sample.prompt), sample.step)
        batch = Batch(sample.step, [sample.prompt], [name], [[sample.response]])
        self.desk.route_batch(batch, is_new=True)
        return Group(
            key=key,
            prompt=sample.prompt,
            unit=name,
            step=sample.step,
            size=sample.size or self.size,
            opened=self._clock(),
            decision=batch.decisions[0],
        )

    def _unused(self, prompt: str, step: int) -> str:
        """A unit's name that has no decision in this step: the prompt's, numbered by its visits.

        Numbers are used in order, so that the first unused one is found by halving. O(log visits).
        """

        def is_used(visit: int) -> bool:
            key = decision_key(step, f"group/{prompt}/{visit}")
            return bool(self.desk.ledger.find([key]))

        unused = 0
        stride = 1
        while is_used(unused):
            unused += stride
            stride *= 2
        used = unused - stride // 2 if unused else -1
        while unused - used > 1:
            middle = (used + unused) // 2
            if is_used(middle):
                used = middle
            else:
                unused = middle
        return f"group/{prompt}/{unused}"

    def _expire(self, everything: bool = False) -> None:
        whole = []
        with self._lock:
            now = self._clock()
            while self._open:
                key, oldest = next(iter(self._open.items()))
                if not everything and now - oldest.opened < self.seconds:
                    break
                del self._open[key]
                oldest.closed = True
                if oldest.answered == len(oldest.texts):
                    whole.append(oldest)
        for group in whole:
            self._pay(group)

    # judging and paying ---------------------------------------------------------------------------

    def _judge(self, group: Group, number: int) -> Reward:
        with self._lock:
            texts = list(group.texts[: number + 1])
        batch = Batch(group.step, [group.prompt], [group.unit], [texts])
        batch.units = [Unit(group.unit, ((0, (number,)),))]
        batch.decisions = [group.decision]
        self.desk.ask(batch)
        [judgement] = self.desk.record(batch)
        failed = 0 in batch.verdicts.failed
        score, value = float(judgement.scores[0]), float(judgement.calibrated[0])
        with self._lock:
            if not failed:
                group.own[number] = float(batch.verdicts.own[0][0][0])
            if math.isfinite(value):
                group.values.append(value)
            elif group.values:
                value = float(np.mean(group.values))
            else:
                value = 0.0
        arm = judgement.arm if math.isfinite(score) else ""
        return Reward(value, score, arm, judgement.decision_id, judgement.propensity)

    def _gold(self, sample: Sample) -> float:
        """1 right, 0 wrong, NaN where it is not known."""
        if self.answer_kind is None or sample.label is None:
            return math.nan
        try:
            return float(grade(self.answer_kind, sample.response, sample.label))
        except InputError:  # the label holds no such answer: nothing is known
            return math.nan

    def _pay(self, group: Group) -> None:
        """Where verdicts and gold make a payoff, the group's decision gets it."""
        numbers = sorted(group.own)
        if len(numbers) < 2:
            return
        batch = Batch(group.step, [group.prompt], [group.unit], [group.texts])
        batch.units = [Unit(group.unit, ((0, tuple(numbers)),))]
        batch.decisions = [group.decision]
        own_N = np.array([group.own[number] for number in numbers])
        batch.verdicts.scores = [[own_N]]
        batch.verdicts.own = [[own_N]]
        if np.isfinite(group.golds).any():
            batch.gold = [np.array(group.golds)]
        self.desk.learn(batch)


def prompt_id(prompt: Prompt) -> str:
    """A name that equal prompts share, on every machine."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return f"{keyed.key(0, 'data', 0, text):032x}"[:16]
