"""An arm behind an endpoint: every response has its score, its error and its bill.

A kind (`reward_router.rewards.kinds`) only says which questions to ask and what their answers mean
(`RequestPlan`); cache, canaries, prices and failures are the same for all and live here.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.rewards.metered import Answer, ArmFailed, ArmStops
from reward_router.rewards.names import nearest
from reward_router.rewards.remote.canary import CANARIES, CanaryWatch, facts_of
from reward_router.rewards.remote.memory import Memory, memory_of, request_key
from reward_router.rewards.remote.wire import Wire, WireReply
from reward_router.types import Float

NAMES = ("model", "system_fingerprint")
"""What an OpenAI-compatible answer says of its model; an alias that moved is seen there."""


class UnreadableAnswer(ValueError):
    """An answer that is JSON and yet says nothing: why."""


@dataclass(frozen=True)
class Question:
    """One request.

    Args:
        body: what is sent.
        cells: the (prompt, response) places it is about, which share its bill evenly.
        read: turns the JSON of an answer into what the kind combines (JSON again, as it is cached),
            or raises `UnreadableAnswer`.
    """

    body: Any = field(repr=False)
    cells: tuple[tuple[int, int], ...]
    read: Callable[[Any], Any] = field(repr=False)


@dataclass(frozen=True)
class Heard:
    """What came of a question.

    Args:
        value: what was read out of the answer.
        error: why there is none.
        seconds: wall time.
        price: what it cost; NaN: not measured.
    """

    value: Any = None
    error: ArmFailed | None = None
    seconds: float = 0.0
    price: float = math.nan


class RequestPlan(Protocol):
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
        """Write the scores of answered questions into ``scores_BN``.

        The value of an unanswered question is None.
        """
        ...

    def note(self, questions: Sequence[Question], values: Sequence[Any]) -> None:
        """What a kind measures of itself, on whatever was asked beside the canaries."""
        ...

    def divided(self, question: Question) -> list[Question]:
        """The same about single responses, where a request was refused for what it held.

        An empty list where the request cannot be divided.
        """
        ...


@dataclass(frozen=True)
class Price:
    """Prices in the unit of the arms' ``cost``, written as ``price: {input: 0.15, output: 0.6}``.

    Args:
        input: that of a million tokens of the request.
        output: that of a million tokens of the answer.
        call: that of a request.
    """

    input: float = 0.0
    output: float = 0.0
    call: float = 0.0

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "Price | None":
        """None where none is given: then a call counts as the arm's ``cost``."""
        if given is None:
            return None
        keys = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or not given:
            raise InputError(
                f"price is {given!r}; a mapping such as {{input: 0.15, output: 0.6}} is expected"
            )
        for name, value in given.items():
            if name not in keys:
                raise InputError(f"price has no key {name!r}{nearest(str(name), keys)}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value < math.inf:
                raise InputError(f"price.{name}={value!r}; allowed a number of at least 0")
        return cls(**given)

    def bill(self, reply: WireReply) -> float:
        """What one request cost. A request that nobody answered costs nothing."""
        unanswered = reply.error is not None and reply.error.away
        if unanswered:
            return 0.0
        # Prices are of a million tokens, as providers state them.
        token_price = self.input * reply.tokens_in + self.output * reply.tokens_out
        return self.call + token_price / 1e6


class RemoteArm:
    """A plan on a wire.

    ``score_with_bill`` makes it `metered.Metered`, and ``served`` `metered.Served`.
    """

    def __init__(self, wire: Wire, plan: RequestPlan, price: Price | None = None) -> None:
        """Asks nothing yet: the first request scores the canaries before it."""
        self.wire = wire
        self.plan = plan
        self.price = price
        self.policy = wire.policy
        self.watch: CanaryWatch | None = None
        self.since = 0
        self.drifted = False
        self.hits = 0
        self.told: dict[str, str] = {}

    def score_with_bill(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Answer:
        """Scores, errors by row, seconds and prices.

        The canaries' bill is on the first response of the request that they precede.
        """
        count = sum(map(len, responses))
        if not count:
            return self._scored(prompts, responses)
        # Before the scores, so that none is taken from a server that has changed.
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
        if self.watch is None:
            # Canaries are switched off: only the endpoint's name is known.
            return _place(self.wire.url, self._canary_questions())
        return self.watch.fingerprint

    @cached_property
    def memory(self) -> Memory:
        """What was answered before; a file is opened at the first question."""
        return memory_of(self.policy.cache)

    # canaries

    def _look(self) -> tuple[list[str], float]:
        """Score the canaries where that is due; what to tell, and what it cost.

        `ArmFailed` where the arm must not judge.
        """
        every = self.policy.canaries
        if not every or (self.watch is not None and self.since < every and not self.drifted):
            return [], 0.0
        spent = [0.0]
        scores_BN = self._canary_scores(spent)
        if scores_BN is None:
            # Unreachable: the first scoring raises.
            raise ArmFailed("the canaries could not be scored")
        facts = facts_of({path: self.wire.get(path) for path in self.plan.facts}) | self.told
        is_first = self.watch is None
        if self.watch is None:
            self.watch = CanaryWatch(_place(self.wire.url, self._canary_questions()), self.plan.raw)
        differences, moved = self.watch.differences(
            facts, scores_BN, lambda: self._canary_scores(spent, strict=False)
        )
        self.since = 0
        notices = [f"{self.wire.shown}: {'; '.join(differences)}"] if differences else []
        doubts = self.watch.doubts(scores_BN) if is_first else []
        notices += [f"{self.wire.shown}: {doubt}" for doubt in doubts]
        self.drifted = moved and self.policy.on_drift != "warn"
        if self.drifted:
            message = (
                f"what is served has changed since its canaries were last scored: {notices[0]}"
            )
            raise ArmStops(message) if self.policy.on_drift == "stop" else ArmFailed(message)
        if self.watch.baseline is None or differences:
            self.watch.adopt(facts, scores_BN)
        return notices, spent[0]

    def _canary_questions(self) -> list[Question]:
        prompts, responses = _canary_rows()
        questions, _ = self.plan.questions(prompts, responses)
        return questions

    def _canary_scores(self, spent: list[float], *, strict: bool = True) -> Float | None:
        """(C, 2) scores, never from the cache.

        Where a canary fails, its error is raised (``strict``), or there are none.
        """
        prompts, responses = _canary_rows()
        answer = self._scored(prompts, responses, remember=False)
        # Canaries are paid for, too, whatever comes of them.
        spent[0] += float(np.nansum(answer.price_BN))

        if answer.errors and not strict:
            return None
        return answer.scores()

    # questions

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
        # A request that was too large is asked again in parts.
        questions, heard = self._divided(questions, heard, remember)

        n_responses = max((len(row) for row in responses), default=0)
        shape = (len(prompts), n_responses)
        scores_BN = np.full(shape, np.nan)
        values = [each.value for each in heard]
        self.plan.combine(scores_BN, questions, values)
        if remember:
            self.plan.note(questions, values)

        # One error spoils its whole row: scores of half a row order nothing.
        for question, each in zip(questions, heard, strict=True):
            if each.error is not None:
                for b, _ in question.cells:
                    errors.setdefault(b, each.error)
        scores_BN[list(errors)] = np.nan
        seconds_BN, price_BN = _bills(shape, questions, heard)
        return Answer(scores_BN, seconds_BN, price_BN, errors)

    def _ask(self, questions: Sequence[Question], remember: bool) -> list[Heard]:
        """One answer a question: what the cache knows, and one request for each of the others."""
        keys: list[bytes] = []
        kept_values: list[Any] = [None] * len(questions)
        remember = remember and self.policy.cache is not False
        if remember:
            fingerprint = self.watch.fingerprint if self.watch else ""
            keys = [
                request_key(fingerprint, self.wire.url, question.body) for question in questions
            ]
            kept_values = [self.memory.get(key) for key in keys]
        # What the cache holds costs nothing now.
        heard = [Heard(value, price=0.0) for value in kept_values]

        new = [i for i, value in enumerate(kept_values) if value is None]
        self.hits += len(questions) - len(new)
        if not new:
            return heard
        replies = self.wire.post_all([questions[i].body for i in new])
        for i, reply in zip(new, replies, strict=True):
            answer = self._heard(questions[i], reply)
            heard[i] = answer
            # An error may be gone the next time, so it is not kept.
            if remember and answer.error is None:
                self.memory.put(keys[i], answer.value)
        return heard

    def _heard(self, question: Question, reply: WireReply) -> Heard:
        price = self.price.bill(reply) if self.price else math.nan
        # The model that really answered, as far as the answer says so.
        if isinstance(reply.value, dict):
            names = [name for name in NAMES if reply.value.get(name)]
            self.told = {f"answered by {name}": str(reply.value[name]) for name in names}

        if reply.error is not None:
            return Heard(None, reply.error, reply.seconds, price)
        try:
            value = question.read(reply.value)
        except UnreadableAnswer as error:
            # It answered, and it costs, but it says nothing.
            failure = self.wire.unreadable(reply.value, str(error))
            return Heard(None, failure, reply.seconds, price)
        return Heard(value, None, reply.seconds, price)

    def _divided(
        self, questions: list[Question], heard: list[Heard], remember: bool
    ) -> tuple[list[Question], list[Heard]]:
        """Requests that were refused for what they held are asked again about their parts."""
        parts: list[Question] = []
        kept_questions: list[Question] = []
        kept_answers: list[Heard] = []
        for question, answer in zip(questions, heard, strict=True):
            refused = answer.error is not None and answer.error.divides
            smaller = self.plan.divided(question) if refused else []
            if smaller:
                parts += smaller
            else:
                kept_questions.append(question)
                kept_answers.append(answer)
        if parts:
            kept_questions += parts
            kept_answers += self._ask(parts, remember)
        return kept_questions, kept_answers


def _canary_rows() -> tuple[list[str], list[list[str]]]:
    """The canaries as prompts and rows of responses."""
    prompts = [prompt for prompt, _ in CANARIES]
    responses = [list(pair) for _, pair in CANARIES]
    return prompts, responses


def _bills(
    shape: tuple[int, int], questions: Sequence[Question], heard: Sequence[Heard]
) -> tuple[Float, Float]:
    """(B, N) seconds and prices: those of a question are shared evenly among its cells."""
    seconds_BN = np.zeros(shape)
    price_BN = np.full(shape, np.nan)
    for question, answer in zip(questions, heard, strict=True):
        cell_count = max(len(question.cells), 1)
        seconds_share = answer.seconds / cell_count
        price_share = answer.price / cell_count
        for cell in question.cells:
            seconds_BN[cell] += seconds_share
            # NaN says that no question was about the cell yet.
            before = 0.0 if np.isnan(price_BN[cell]) else price_BN[cell]
            price_BN[cell] = before + price_share
    return seconds_BN, price_BN


def _place(url: str, questions: Sequence[Question]) -> str:
    """A name for an endpoint and the way it is asked."""
    return request_key("", url, [question.body for question in questions]).hex()


def number(value: Any, what: str = "a score") -> float:
    """A finite number out of JSON; `UnreadableAnswer` says what it is instead."""
    # a bool is an int in Python, and is no score here
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number:
        raise UnreadableAnswer(f"{what} is {json.dumps(value)[:60]}, a number is expected")
    if not math.isfinite(value):
        raise UnreadableAnswer(f"{what} is {value}, a finite number is expected")
    return float(value)
