"""Prompt groups for trainers that send one response at a time and say nothing of groups.

The first response to a prompt opens a group: one decision, one arm. Responses that follow join it,
so that one arm judges what a trainer compares. It closes after ``size`` responses, or ``seconds``
after it was opened; the next response to the prompt opens another one. Every response is answered
at once.

What this means for propensities: the decision and its propensity are those of the group, drawn
once when it opens, with the router's knowledge of that moment. Responses are no decisions of their
own. A group that closes by time is a decision about fewer responses.

What the ledger does not know of an open group (its name, its responses and their labels) lies
beside it until the group closes, so that the group is still open after a restart.
"""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from reward_router.dispatch.inputs import decision_key, key_of
from reward_router.errors import AllArmsResting, InputError
from reward_router.grading import grade
from reward_router.server.desk import Desk
from reward_router.server.group import Group, Member, Reward, Sample, prompt_id
from reward_router.server.refusal import Refused, told
from reward_router.verdicts.batch import Batch

log = logging.getLogger(__name__)


class Groups:
    """The open groups of a server; those that were open when it ended are open again.

    Args:
        desk: judges.
        size: responses of a group, where a trainer does not say.
        seconds: how long a group stays open, also while the server is down.
        answer_kind: how a label is compared with a response; None: labels are not read.
        clock: seconds that go on while the server is down.
    """

    def __init__(
        self,
        desk: Desk,
        size: int,
        seconds: float = 600.0,
        answer_kind: str | None = None,
        clock: Callable[[], float] = time.time,
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
        # Taken before the ledger's lock, except where a whole request holds that (``one_commit``).
        self._lock = threading.Lock()
        self._reopen()

    @property
    def open(self) -> int:
        """How many groups are open."""
        return len(self._open)

    def reward(self, sample: Sample) -> Reward:
        """Judge one response by its group's arm; it costs one call."""
        # Comparing a formula may take seconds, for which nobody else has to wait.
        member = Member(sample.response, self._gold(sample))
        with self.desk.one_commit():
            try:
                group, number = self._join(sample, member)
            except Refused as refused:
                if isinstance(refused.__cause__, AllArmsResting):
                    return Reward(0.0, math.nan)
                raise
            try:
                reward = self._judge(group, number)
            finally:
                with self._lock:
                    member.answered = True
                    is_done = group.is_done
            if is_done:
                self._end(group)
            return reward

    # opening and closing --------------------------------------------------------------------------

    def _join(self, sample: Sample, member: Member) -> tuple[Group, int]:
        """The sample's group, and the member's number in it."""
        self._expire()
        key = sample.group or prompt_id(sample.prompt)
        with self._lock:
            group = self._open.get(key)
            if group is None:
                group = self._opened(key, sample)
                self._open[key] = group
            number = group.join(member)
            if group.closed:
                del self._open[key]
        return group, number

    def _opened(self, key: str, sample: Sample) -> Group:
        name = self._unused(prompt_id(sample.prompt), sample.step)
        batch = Batch(sample.step, [sample.prompt], [name], [[sample.response]])
        batch.contexts = self.desk.encoded([sample.prompt])
        with self.desk.together():
            self.desk.route_batch(batch, is_new=True)
            group = Group(
                key=key,
                prompt=sample.prompt,
                unit=name,
                step=sample.step,
                size=sample.size or self.size,
                opened=self._clock(),
                decision=batch.decisions[0],
            )
            self.desk.ledger.remember(_name(group), group.kept())
        return group

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

    def _expire(self) -> None:
        """Close the groups whose time is over."""
        done = []
        with self._lock:
            now = self._clock()
            while self._open:
                key, oldest = next(iter(self._open.items()))
                if now - oldest.opened < self.seconds:
                    break
                del self._open[key]
                oldest.closed = True
                if oldest.is_done:
                    done.append(oldest)
        for group in done:
            self._end(group)

    def _end(self, group: Group) -> None:
        """Pay a closed group's decision where verdicts and gold make a payoff, and forget it."""
        batch = group.judged()
        found = self.desk.ledger.find([key_of(group.decision.id)])
        is_paid = any(paid is not None for _, paid in found.values())
        if len(batch.texts(batch.units[0].cells[0])) > 1 and not is_paid:
            self.desk.learn(batch)
        members = [_name(group, number) for number in group.members]
        with told():
            self.desk.ledger.forget([_name(group), *members])

    # judging --------------------------------------------------------------------------------------

    def _judge(self, group: Group, number: int) -> Reward:
        with self._lock:
            batch = group.asking(number)
            member = group.members[number]
        self.desk.ask(batch)
        with self._lock, self.desk.together():
            [judgement] = self.desk.record(batch)
            score = float(judgement.scores[0])
            member.judged = 0 not in batch.verdicts.failed
            member.own = float(batch.verdicts.own[0][0][0])
            member.value = float(judgement.calibrated[0])
            kept = {"number": number, **member.kept()}
            self.desk.ledger.remember(_name(group, number), kept)
            value = member.value if math.isfinite(member.value) else group.mean()
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

    # after a restart ------------------------------------------------------------------------------

    def _reopen(self) -> None:
        """Open the groups that were open when the server ended; end those that were only not paid.

        O(what lies beside the ledger).
        """
        ledger = self.desk.ledger
        members: dict[str, dict[int, Member]] = {}
        for name in ledger.named("response/", "number"):
            _, decision_id, _ = name.split("/")
            kept = ledger.meta(name)
            members.setdefault(decision_id, {})[kept["number"]] = Member.of(kept)
        for name in ledger.named("group/", "opened"):
            kept = ledger.meta(name)
            _, decision_id = name.split("/")
            answered = members.get(decision_id, {})
            try:
                group = self._again(kept, decision_id)
            except Refused as refused:
                log.warning("group %s stays closed: %s", kept["key"], refused.message)
                ledger.forget([name, *(f"response/{decision_id}/{n}" for n in answered)])
                continue
            group.members = answered
            group.closed = len(answered) >= group.size
            if group.closed:
                self._end(group)
            else:
                self._open[group.key] = group
        self._expire()

    def _again(self, kept: dict[str, Any], decision_id: str) -> Group:
        """The group as it was opened; its decision comes from the ledger, not from the router."""
        found = self.desk.ledger.find([key_of(decision_id)])
        if not found:
            raise Refused(404, f"no decision {decision_id!r} is in the ledger")
        [(row, _)] = found.values()
        batch = Batch(kept["step"], [kept["prompt"]], [kept["unit"]], [[]])
        context_D = row.context_D
        batch.contexts = None if context_D is None else context_D[None]
        self.desk.route_batch(batch)
        return Group(decision=batch.decisions[0], **kept)


def _name(group: Group, number: int | None = None) -> str:
    """Under which a group, or one of its responses, lies beside the ledger."""
    decision_id = group.decision.id
    return f"group/{decision_id}" if number is None else f"response/{decision_id}/{number}"
