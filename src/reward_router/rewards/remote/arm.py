"""An arm behind an endpoint: its questions are asked once each, and every response has its score, its error and its bill.

A kind (`reward_router.rewards.kinds`) only says which questions to ask and what their answers mean
(`Plan`); cache, canaries, prices and failures are the same for all and live here.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from reward_router.errors import InputError
from reward_router.rewards.metered import Answer, ArmFailed, ArmStops
from reward_router.rewards.names import nearest
from reward_router.rewards.remote.canary import CANARIES, Watch, facts_of
from reward_router.rewards.remote.memory import Memory, key_of, memory_of
from reward_router.rewards.remote.wire import Reply, Wire
from reward_router.rewards.template import Prompt
from reward_router.types import Float

NAMES = ("model", "system_fingerprint")
"""What an OpenAI-compatible answer says of its model; an alias that moved is seen there."""


class Unreadable(ValueError):
    """An answer that is JSON and yet says nothing: why."""


@dataclass(frozen=True)
class Question:
    """One request: its ``body``, the ``cells`` (prompt, response) it is about, and how its answer is read.

    ``read`` turns the JSON of an answer into what the kind combines (JSON again: it is cached), or
    raises `Unreadable`. The cells share its bill evenly.
    """

    body: Any = field(repr=False)
    cells: tuple[tuple[int, int], ...]
    read: Callable[[Any], Any] = field(repr=False)


@dataclass(frozen=True)
class Heard:
    """What came of a question: ``value`` or ``error``, wall ``seconds`` and ``price`` (NaN: not measured)."""

    value: Any = None
    error: ArmFailed | None = None
    seconds: float = 0.0
    price: float = math.nan


class Plan(Protocol):
    """What a kind asks, and what the answers mean.

    ``facts``: paths of the server that tell what is served. ``raw``: whether scores are unbounded.
    """

    facts: Sequence[str]
    raw: bool

    def questions(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> tuple[list[Question], dict[int, ArmFailed]]:
        """The questions about these rows, and the rows that cannot be asked about."""
        ...

    def combine(
        self, scores_BN: Float, questions: Sequence[Question], values: Sequence[Any]
    ) -> None:
        """Write the scores of answered questions into ``scores_BN``; the value of an unanswered one is None."""
        ...

    def note(self, questions: Sequence[Question], values: Sequence[Any]) -> None:
        """What a kind measures of itself, on whatever was asked beside the canaries."""
        ...

    def divided(self, question: Question) -> list[Question]:
        """The same about single responses, where a request was refused for what it held; [] where it cannot be divided."""
        ...


@dataclass(frozen=True)
class Price:
    """Written as ``price: {input: 0.15, output: 0.6}``: per million tokens; ``call`` per request. In the unit of the arms' ``cost``."""

    input: float = 0.0
    output: float = 0.0
    call: float = 0.0

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "Price | None":
        """None where none is given: then a call counts as the arm's ``cost``."""
        if given is None:
            return None
        known = [each.name for each in fields(cls)]
        if not isinstance(given, Mapping) or not given:
            raise InputError(
                f"price is {given!r}; a mapping such as {{input: 0.15, output: 0.6}} is expected"
            )
        for name, value in given.items():
            if name not in known:
                raise InputError(f"price has no key {name!r}{nearest(str(name), known)}")
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise InputError(f"price.{name}={value!r}; allowed a number of at least 0")
        return cls(**given)

    def bill(self, reply: Reply) -> float:
        """What one request cost. A request that nobody answered costs nothing."""
        if reply.error is not None and reply.error.away:
            return 0.0
        tokens = self.input * reply.tokens_in + self.output * reply.tokens_out
        return self.call + tokens / 1e6


class RemoteArm:
    """A plan on a wire. ``score_with_bill`` is `metered.Metered`; ``served`` is `metered.Served`."""

    def __init__(self, wire: Wire, plan: Plan, price: Price | None = None) -> None:
        """Asks nothing yet: the first request scores the canaries before it."""
        self.wire, self.plan, self.price = wire, plan, price
        self.policy = wire.policy
        self.watch: Watch | None = None
        self.since = 0
        self.drifted = False
        self.hits = 0
        self.told: dict[str, str] = {}

    def score_with_bill(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Answer:
        """Scores, errors by row, seconds and prices; the canaries' bill is on the first response of the request they precede."""
        count = sum(map(len, responses))
        if not count:
            return self._scored(prompts, responses)
        notices, spent = self._look()
        answer = self._scored(prompts, responses)
        self.since += count
        if spent and answer.price_BN.size:
            first = next(b for b, row in enumerate(responses) if row)
            answer.price_BN[first, 0] += spent
        return Answer(
            answer.scores_BN, answer.seconds_BN, answer.price_BN, answer.errors, tuple(notices)
        )

    def served(self) -> str:
        """A fingerprint of what is served; `ArmFailed` where nobody answers."""
        if self.watch is None:
            self._look()
        return (
            self.watch.fingerprint
            if self.watch
            else _place(self.wire.url, self._canary_questions())
        )

    @cached_property
    def memory(self) -> Memory:
        """What was answered before; a file is opened at the first question."""
        return memory_of(self.policy.cache)

    # canaries ----------------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[list[str], float]:
        """Score the canaries where that is due; what to tell, and what it cost. `ArmFailed` where the arm must not judge."""
        every = self.policy.canaries
        if not every or (self.watch is not None and self.since < every and not self.drifted):
            return [], 0.0
        spent = [0.0]
        scores_BN = self._canary_scores(spent)
        if scores_BN is None:
            raise ArmFailed(
                "the canaries could not be scored"
            )  # unreachable: the first scoring raises
        facts = facts_of({path: self.wire.get(path) for path in self.plan.facts}) | self.told
        first = self.watch is None
        if self.watch is None:
            self.watch = Watch(_place(self.wire.url, self._canary_questions()), self.plan.raw)
        found, moved = self.watch.differences(
            facts, scores_BN, lambda: self._canary_scores(spent, strict=False)
        )
        self.since = 0
        notices = [f"{self.wire.shown}: {'; '.join(found)}"] if found else []
        doubts = self.watch.doubts(scores_BN) if first else []
        notices += [f"{self.wire.shown}: {doubt}" for doubt in doubts]
        self.drifted = moved and self.policy.on_drift != "warn"
        if self.drifted:
            told = f"what is served has changed since its canaries were last scored: {notices[0]}"
            raise (ArmStops if self.policy.on_drift == "stop" else ArmFailed)(told)
        if self.watch.baseline is None or found:
            self.watch.adopt(facts, scores_BN)
        return notices, spent[0]

    def _canary_questions(self) -> list[Question]:
        prompts, responses = (
            [prompt for prompt, _ in CANARIES],
            [list(pair) for _, pair in CANARIES],
        )
        return self.plan.questions(prompts, responses)[0]

    def _canary_scores(self, spent: list[float], *, strict: bool = True) -> Float | None:
        """(C, 2) scores, never from the cache; where one fails, its error is raised (``strict``), or None."""
        prompts, responses = (
            [prompt for prompt, _ in CANARIES],
            [list(pair) for _, pair in CANARIES],
        )
        answer = self._scored(prompts, responses, remember=False)
        spent[0] += float(np.nansum(answer.price_BN))
        if answer.errors and strict:
            raise next(iter(answer.errors.values()))
        return None if answer.errors else answer.scores_BN

    # questions ---------------------------------------------------------------------------------------------------------

    def _scored(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        *,
        remember: bool = True,
    ) -> Answer:
        """Ask everything about these rows."""
        questions, errors = self.plan.questions(prompts, responses)
        heard = self._ask(questions, remember)
        questions, heard = self._divided(questions, heard, remember)
        shape = (len(prompts), max((len(row) for row in responses), default=0))
        scores_BN = np.full(shape, np.nan)
        values = [each.value for each in heard]
        self.plan.combine(scores_BN, questions, values)
        if remember:
            self.plan.note(questions, values)
        for question, each in zip(questions, heard, strict=True):
            if each.error is not None:
                for b, _ in question.cells:
                    errors.setdefault(b, each.error)
        scores_BN[list(errors)] = np.nan
        seconds_BN, price_BN = _bills(shape, questions, heard)
        return Answer(scores_BN, seconds_BN, price_BN, errors)

    def _ask(self, questions: Sequence[Question], remember: bool) -> list[Heard]:
        """One answer a question: what the cache knows, and one request for each of the others."""
        fingerprint = self.watch.fingerprint if self.watch else ""
        keys = [key_of(fingerprint, self.wire.url, question.body) for question in questions]
        known = [self.memory.get(key) if remember else None for key in keys]
        unknown = [i for i, value in enumerate(known) if value is None]
        self.hits += len(questions) - len(unknown)
        replies = self.wire.post_all([questions[i].body for i in unknown]) if unknown else []
        heard = [Heard(value, price=0.0) for value in known]
        for i, reply in zip(unknown, replies, strict=True):
            heard[i] = self._heard(questions[i], reply)
            if remember and heard[i].error is None:
                self.memory.put(keys[i], heard[i].value)
        return heard

    def _heard(self, question: Question, reply: Reply) -> Heard:
        price = self.price.bill(reply) if self.price else math.nan
        if isinstance(reply.value, dict):
            self.told = {
                f"answered by {name}": str(reply.value[name])
                for name in NAMES
                if reply.value.get(name)
            }
        if reply.error is not None:
            return Heard(None, reply.error, reply.seconds, price)
        try:
            value = question.read(reply.value)
        except Unreadable as error:
            return Heard(None, self.wire.unreadable(reply.value, str(error)), reply.seconds, price)
        return Heard(value, None, reply.seconds, price)

    def _divided(
        self, questions: list[Question], heard: list[Heard], remember: bool
    ) -> tuple[list[Question], list[Heard]]:
        """Requests that were refused for what they held are asked again about their parts."""
        parts: list[Question] = []
        kept: list[tuple[Question, Heard]] = []
        for question, each in zip(questions, heard, strict=True):
            smaller = (
                self.plan.divided(question) if each.error is not None and each.error.divides else []
            )
            parts += smaller
            kept += [] if smaller else [(question, each)]
        if parts:
            kept += zip(parts, self._ask(parts, remember), strict=True)
        return [question for question, _ in kept], [each for _, each in kept]


def _bills(
    shape: tuple[int, int], questions: Sequence[Question], heard: Sequence[Heard]
) -> tuple[Float, Float]:
    """(B, N) seconds and prices: a question's seconds on each of its cells as they passed, its price shared among them."""
    seconds_BN, price_BN = np.zeros(shape), np.full(shape, np.nan)
    for question, each in zip(questions, heard, strict=True):
        share = each.price / max(len(question.cells), 1)
        for b, n in question.cells:
            seconds_BN[b, n] += each.seconds / max(len(question.cells), 1)
            price_BN[b, n] = share if np.isnan(price_BN[b, n]) else price_BN[b, n] + share
    return seconds_BN, price_BN


def _place(url: str, questions: Sequence[Question]) -> str:
    """A name for an endpoint and the way it is asked."""
    return key_of("", url, [question.body for question in questions]).hex()


def number(value: Any, what: str = "a score") -> float:
    """A finite number out of JSON; `Unreadable` says what it is instead."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{what} is {json.dumps(value)[:60]}, a number is expected")
    if not math.isfinite(value):
        raise Unreadable(f"{what} is {value}, a finite number is expected")
    return float(value)
