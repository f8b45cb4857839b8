"""A language model as judge, behind any OpenAI-compatible chat endpoint.

- pointwise: one request a response, for a score, several criteria, or the expected score under the
  model's own probabilities.
- pairwise: two requests a pair of responses, one in each order; where the two disagree, the pair is
  a tie.
- listwise: one request a prompt with all its responses, in an order drawn by their hash.

What a judge says outside the form it was asked for is a failure, never a score; its tokens are on
the bill all the same. Scores of pairwise and listwise judges compare the responses of one prompt
with each other and say nothing across prompts.

Left out: images, tools, several turns with the judge.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind
from reward_router.rewards.metered import Answer, ArmFailed
from reward_router.rewards.names import nearest
from reward_router.rewards.remote.arm import Price, Question, RemoteArm, UnreadableAnswer, number
from reward_router.rewards.remote.policy import CallPolicy
from reward_router.rewards.remote.reading import fill, follow, places, plain
from reward_router.rewards.remote.wire import Wire
from reward_router.secrecy import refuse_secrets
from reward_router.types import Float

MODES = ("pointwise", "pairwise", "listwise")
RUBRIC = (
    "A good response does what the prompt asks, is correct, and says nothing that is not needed."
)
TEMPLATES = {
    "pointwise": "Judge a response to a prompt. {rubric}\n\n<prompt>\n{prompt}\n</prompt>\n\n"
    "<response>\n{response}\n</response>\n\n{form}",
    "pairwise": "Compare two responses to a prompt. {rubric}\n\n<prompt>\n{prompt}\n</prompt>\n\n"
    "<response A>\n{a}\n</response A>\n\n<response B>\n{b}\n</response B>\n\n{form}",
    "listwise": "Judge all responses to a prompt side by side. {rubric}\n\n"
    "<prompt>\n{prompt}\n</prompt>\n\n{responses}\n\n{form}",
}
NEEDED = {"pointwise": {"response"}, "pairwise": {"a", "b"}, "listwise": {"responses"}}
FIRST = {"A": 1.0, "B": 0.0}
"""P(the first response is better) of a verdict."""
TIE = 0.5
LEAST_MASS = 0.5
"""Probability that must lie on the allowed tokens for an expected score to be one."""


class Judge:
    """Scores of a chat model that was asked to judge.

    >>> from reward_router.testing.transport import FakeTransport
    >>> says = {"choices": [{"message": {"content": '{"score": 7}'}, "finish_reason": "stop"}]}
    >>> fake = FakeTransport(lambda body: says)
    >>> arm = Judge("http://localhost:8000/v1", "any", calls={"canaries": 0}, transport=fake)
    >>> arm.score(["Say hi."], [["hi"]]).tolist()
    [[7.0]]
    """

    raw = False

    def __init__(  # noqa: PLR0913 (the options of the kind)
        self,
        url: str,
        model: str,
        *,
        mode: str = "pointwise",
        rubric: str = RUBRIC,
        prompt: str | None = None,
        criteria: Mapping[str, float] | None = None,
        scale: Sequence[int] | None = None,
        logprobs: bool = False,
        rivals: int | None = None,
        schema: bool = True,
        temperature: float | None = 0.0,
        max_tokens: int | None = None,
        extra: Mapping[str, Any] | None = None,
        key_env: str | None = None,
        calls: Mapping[str, Any] | None = None,
        price: Mapping[str, Any] | None = None,
        transport: Any = None,
    ) -> None:
        """Sends nothing; InputError where an option cannot be right.

        Args:
            url: The base of the API, such as ``https://host/v1``; ``/chat/completions`` is added.
            model: The judge's name there. Several prompts of one model are several arms.
            mode: pointwise, pairwise or listwise.
            rubric: What a good response is, in a sentence or many.
            prompt: The whole instruction instead, with places {prompt}, {response} (pairwise: {a}
                and {b}; listwise: {responses}), {rubric} and {form}.
            criteria: pointwise: names and weights; the judge scores each, and the score is their
                weighted mean.
            scale: Lowest and highest score; [1, 10], or [0, 9] with ``logprobs``.
            logprobs: Whether the expected score (pairwise: P(A)) is computed from the probabilities
                of the answer's first token.
            rivals: pairwise: with how many of the others each response is compared (the next ones,
                in a ring); None: all.
            schema: Whether the form is enforced by a JSON schema; false for servers that know none.
            temperature: 0 where None is not given; None leaves it to the server.
            max_tokens: Most tokens of an answer; 512, or 1 with ``logprobs``.
            extra: Further keys of the request, e.g. ``{seed: 1}``; null takes one of ours away.
            key_env: The environment variable that holds the key.
            calls: Limits and more, see `CallPolicy`.
            price: Prices a million tokens, see `Price`.
            transport: Takes the place of the network in tests.
        """
        refuse_secrets({"url": url, "extra": extra or {}}, "kind judge")
        if mode not in MODES:
            raise InputError(f"mode {mode!r} is unknown{nearest(str(mode), MODES)}")
        if not isinstance(model, str) or not model:
            raise InputError(
                "kind judge needs the option model: "
                "the name under which the endpoint serves the judge"
            )
        self.mode = mode
        self.rubric = rubric
        self.logprobs = bool(logprobs)
        self.schema = bool(schema)
        self.template = _checked_template(prompt, mode)
        self.criteria = _checked_criteria(criteria, mode, self.logprobs)
        self.low, self.high = _checked_scale(scale, self.logprobs)
        if rivals is not None and (mode != "pairwise" or not isinstance(rivals, int) or rivals < 1):
            raise InputError(
                f"rivals is {rivals!r}; allowed a whole number of at least 1, with mode: pairwise"
            )
        if self.logprobs and mode == "listwise":
            raise InputError(
                "logprobs has no use in mode listwise, whose answer is longer than one token"
            )
        self.rivals = rivals
        self.groupwise = mode != "pointwise"
        self.facts: Sequence[str] = ("/version",)
        self.fixed: dict[str, Any] = {"model": model}
        settings = {
            "temperature": temperature,
            "max_tokens": max_tokens or (1 if self.logprobs else 512),
            **(extra or {}),
        }
        self.fixed |= {key: value for key, value in settings.items() if value is not None}
        if self.logprobs:
            self.fixed |= {"logprobs": True, "top_logprobs": 20}
        self.bias = PositionBias()
        wire = Wire(_chat_url(url), CallPolicy.of(calls), key_env, transport=transport)
        self.arm = RemoteArm(wire, self, Price.of(price))

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN beyond a row's end; the first failure is raised."""
        return self.score_with_bill(prompts, responses).scores()

    def score_with_bill(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Answer:
        """Scores with errors by row, seconds and prices.

        A prompt with N responses takes N requests, N (N - 1), or one, by mode.
        """
        return self.arm.score_with_bill(prompts, responses)

    def served(self) -> str:
        """A fingerprint of the served judge."""
        return self.arm.served()

    def render(self, prompt: Prompt, response: str) -> str:
        """What the judge reads about one response (two equal ones, where it compares)."""
        copies = 1 if self.mode == "pointwise" else 2
        return self._question_text(prompt, [response] * copies)

    def remarks(self) -> list[str]:
        """The position bias, where pairs were compared."""
        return [self.bias.told()] if self.bias.pairs else []

    # the plan

    def questions(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> tuple[list[Question], dict[int, ArmFailed]]:
        """Of every prompt, in order."""
        questions: list[Question] = []
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            if self.mode == "pointwise":
                questions += [self._pointwise(b, n, prompt, text) for n, text in enumerate(row)]
            elif self.mode == "pairwise":
                # Both orders, one after the other: `combine` and `note` read them in twos.
                for i, j in compared_pairs(len(row), self.rivals):
                    questions.append(self._pairwise(b, i, j, prompt, row))
                    questions.append(self._pairwise(b, j, i, prompt, row))
            elif row:
                questions.append(self._listwise(b, prompt, row))
        return questions, {}

    def divided(self, question: Question) -> list[Question]:
        """A judge's request is about what has to be judged together."""
        return []

    def combine(
        self, scores_BN: Float, questions: Sequence[Question], values: Sequence[Any]
    ) -> None:
        """Scores as they were given, or the share of comparisons won."""
        if self.mode == "pairwise":
            _won(scores_BN, questions, values)
            return
        for question, value in zip(questions, values, strict=True):
            if value is not None:
                for (b, n), score in zip(question.cells, value, strict=True):
                    scores_BN[b, n] = score

    def note(self, questions: Sequence[Question], values: Sequence[Any]) -> None:
        """Count how often the response that came first won."""
        if self.mode == "pairwise":
            for there, back in zip(values[::2], values[1::2], strict=True):
                if there is not None and back is not None:
                    self.bias.add(there, back)

    # requests

    def _pointwise(self, b: int, n: int, prompt: Prompt, text: str) -> Question:
        names = list(self.criteria) or ["score"]
        schema = {name: self._score_schema() for name in names}
        text_of_question = self._question_text(prompt, [text])
        body = self._body(text_of_question, schema)
        read = self._read_expected if self.logprobs else self._read_scores
        return Question(body, ((b, n),), read)

    def _pairwise(
        self, b: int, first: int, second: int, prompt: Prompt, row: Sequence[str]
    ) -> Question:
        schema = {"better": {"type": "string", "enum": ["A", "B", "tie"]}}
        text = self._question_text(prompt, [row[first], row[second]])
        cells = ((b, first), (b, second))
        return Question(self._body(text, schema), cells, self._read_better)

    def _listwise(self, b: int, prompt: Prompt, row: Sequence[str]) -> Question:
        # By hash, so that a judge's taste for the first place favours no arm and no sample.
        prompt_text = plain(prompt)

        def hashed(n: int) -> bytes:
            return blake2b(f"{prompt_text}\x1f{row[n]}".encode()).digest()

        count = len(row)
        order = sorted(range(count), key=hashed)
        schema = {f"response_{place + 1}": self._score_schema() for place in range(count)}
        text = self._question_text(prompt, [row[n] for n in order])
        body = self._body(text, schema)
        # The cells stand in the order shown, so that the judge's k-th score finds its response.
        cells = tuple((b, n) for n in order)
        return Question(body, cells, lambda answer: self._read_list(answer, count))

    def _body(self, text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        body = {**self.fixed, "messages": [{"role": "user", "content": text}]}
        if self.schema and not self.logprobs:
            form = {
                "type": "object",
                "properties": dict(properties),
                "required": list(properties),
                "additionalProperties": False,
            }
            verdict = {"name": "verdict", "strict": True, "schema": form}
            body["response_format"] = {"type": "json_schema", "json_schema": verdict}
        return body

    def _score_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def _question_text(self, prompt: Prompt, texts: Sequence[str]) -> str:
        listed = [
            f"<response_{n + 1}>\n{text}\n</response_{n + 1}>" for n, text in enumerate(texts)
        ]
        values = {"prompt": plain(prompt), "rubric": self.rubric, "form": self._form(len(texts))}
        values |= {
            "response": str(texts[0]),
            "a": str(texts[0]),
            "b": str(texts[-1]),
            "responses": "\n\n".join(listed),
        }
        return str(fill(self.template, values))

    def _form(self, count: int) -> str:
        """How the judge is told to answer."""
        scale = f"an integer from {self.low} (worst) to {self.high} (best)"
        if self.mode == "pairwise":
            if self.logprobs:
                return "Which response is better? Answer with the letter A or B and nothing else."
            return (
                "Which response is better? Answer with JSON only: "
                '{"better": "A"}, {"better": "B"} or {"better": "tie"}.'
            )
        if self.logprobs:
            return (
                f"Answer with one digit from {self.low} (worst) to {self.high} (best) "
                "and nothing else."
            )
        names = list(self.criteria) or ["score"]
        if self.mode == "listwise":
            names = [f"response_{n + 1}" for n in range(count)]
        keys = ", ".join(f'"{name}": n' for name in names)
        return f"Answer with JSON only: {{{keys}}}, where n is {scale}."

    # answers

    def _read_scores(self, answer: Any) -> list[float]:
        verdict = _verdict(answer)
        if not self.criteria:
            return [self._on_scale(verdict, "score")]
        # Weights may be negative: a criterion that counts against a response.
        total_weight = sum(abs(weight) for weight in self.criteria.values())
        weighted = [
            weight * self._on_scale(verdict, name) for name, weight in self.criteria.items()
        ]
        return [sum(weighted) / total_weight]

    def _read_list(self, answer: Any, count: int) -> list[float]:
        verdict = _verdict(answer)
        names = [f"response_{place + 1}" for place in range(count)]
        if len(verdict) != count:
            raise UnreadableAnswer(f"the judge scored {len(verdict)} of {count} responses")
        return [self._on_scale(verdict, name) for name in names]

    def _read_better(self, answer: Any) -> float:
        """P(the first of the two is better): 1, 0 or 1/2 where it only says so."""
        if self.logprobs:
            share = _token_shares(answer, FIRST)
            return float(share["A"])
        better = _verdict(answer).get("better")
        if better == "tie":
            return TIE
        if better not in FIRST:
            raise UnreadableAnswer(
                f"the judge says better: {json.dumps(better)[:40]}; A, B or tie is expected"
            )
        return FIRST[better]

    def _read_expected(self, answer: Any) -> list[float]:
        """sum_k k p(k) over the digits of the scale, p renormalised on them."""
        scores = range(self.low, self.high + 1)
        digits = {str(score): float(score) for score in scores}
        share = _token_shares(answer, digits)
        expected = 0.0
        for digit, score in digits.items():
            expected += score * share[digit]
        return [expected]

    def _on_scale(self, verdict: Mapping[str, Any], name: str) -> float:
        if name not in verdict:
            raise UnreadableAnswer(f"the judge gave no {name}")
        score = number(verdict[name], name)
        if not self.low <= score <= self.high:
            raise UnreadableAnswer(
                f"the judge gave {name} {score:g}; allowed {self.low} to {self.high}"
            )
        return score


@dataclass
class PositionBias:
    """How often the response that stands first wins, over pairs compared in both orders."""

    pairs: int = 0
    first: float = 0.0
    disagreed: int = 0

    def add(self, there: float, back: float) -> None:
        """P(the first wins) in either order of one pair."""
        self.pairs += 1
        # Without bias the response shown first wins as often as not.
        self.first += (there + back) / 2

        # A tie out of two verdicts that were none: the orders contradicted each other.
        is_tie = pair_outcome(there, back) == TIE
        self.disagreed += is_tie and there != TIE

    @property
    def share(self) -> float:
        """The share of comparisons that the first response wins; 0.5 without a bias."""
        return self.first / self.pairs if self.pairs else math.nan

    def told(self) -> str:
        """A sentence."""
        by_order = self.disagreed / self.pairs
        return (
            f"position bias over {self.pairs} pairs in both orders: "
            f"the first response won {self.share:.1%} of the comparisons, "
            f"{by_order:.1%} of the pairs were decided by the order and count as ties"
        )


def pair_outcome(there: float, back: float) -> float:
    """P(i better than j), from both orders of a pair.

    ``there`` is P(the first is better) with i first, ``back`` with j first. Verdicts (0, 1/2, 1)
    that disagree make a tie; probabilities are averaged over the two orders.

    >>> pair_outcome(1, 0), pair_outcome(1, 1), round(pair_outcome(0.9, 0.3), 2)
    (1.0, 0.5, 0.8)
    """
    if {there, back} <= {0.0, TIE, 1.0}:
        return float(there) if there == 1 - back else TIE
    return (there + 1 - back) / 2


def compared_pairs(count: int, rivals: int | None) -> list[tuple[int, int]]:
    """Which of ``count`` responses are compared: all, or each with the next ``rivals`` in a ring.

    >>> compared_pairs(3, None), compared_pairs(4, 1)
    ([(0, 1), (0, 2), (1, 2)], [(0, 1), (0, 3), (1, 2), (2, 3)])
    """
    every_pair = list(combinations(range(count), 2))
    if rivals is None:
        return every_pair
    compared = []
    for i, j in every_pair:
        # How far apart two responses stand in the ring, the shorter way round.
        distance = min(j - i, count - j + i)
        if distance <= rivals:
            compared.append((i, j))
    return compared


def _won(scores_BN: Float, questions: Sequence[Question], values: Sequence[Any]) -> None:
    """The share of its comparisons that each response won; NaN where it had none."""
    won_BN = np.zeros_like(scores_BN)
    count_BN = np.zeros_like(scores_BN)
    for question, there, back in zip(questions[::2], values[::2], values[1::2], strict=True):
        if there is None or back is None:
            continue
        i, j = question.cells
        better = pair_outcome(there, back)
        won_BN[i] += better
        won_BN[j] += 1 - better
        count_BN[i] += 1
        count_BN[j] += 1
    is_compared_BN = count_BN > 0
    scores_BN[is_compared_BN] = won_BN[is_compared_BN] / count_BN[is_compared_BN]


def _content(answer: Any) -> str:
    """What the judge wrote; `UnreadableAnswer` where it refused or was cut."""
    choice = follow(answer, ["choices", 0])
    message = follow(choice, ["message"])
    if isinstance(message, Mapping) and message.get("refusal"):
        raise UnreadableAnswer("the judge refused")
    if choice.get("finish_reason") == "length" and not choice.get("logprobs"):
        raise UnreadableAnswer("the judge's answer was cut by max_tokens")
    content = follow(message, ["content"])
    if not isinstance(content, str) or not content.strip():
        raise UnreadableAnswer("the judge wrote nothing")
    return content.strip()


def _verdict(answer: Any) -> dict[str, Any]:
    """The JSON object that the judge wrote, in a code fence or not."""
    text = _content(answer)
    if text.startswith("```"):
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        verdict = json.loads(text)
    except ValueError:
        raise UnreadableAnswer("the judge wrote no JSON") from None
    if not isinstance(verdict, dict):
        raise UnreadableAnswer("the judge wrote JSON that is no object")
    return verdict


def _token_shares(answer: Any, allowed: Mapping[str, float]) -> dict[str, float]:
    """P(token) of the allowed ones as the answer's first token, renormalised on them."""
    choice = follow(answer, ["choices", 0])
    if not isinstance(choice, Mapping) or not choice.get("logprobs"):
        raise UnreadableAnswer("the server offers no log-probabilities; set logprobs: false")
    candidates = follow(choice, ["logprobs", "content", 0, "top_logprobs"])
    if not isinstance(candidates, list):
        candidates = []

    # Several tokens may be one word, with a blank before it or without.
    mass = dict.fromkeys(allowed, 0.0)
    for candidate in candidates:
        token = str(follow(candidate, ["token"])).strip()
        if token in mass:
            logprob = number(follow(candidate, ["logprob"]), "a log-probability")
            # Rounding on the server may put it above 0.
            mass[token] += math.exp(min(logprob, 0.0))

    total = sum(mass.values())
    # A judge that hardly thinks of the allowed words answers another question.
    if total < LEAST_MASS:
        raise UnreadableAnswer(f"only {total:.0%} of the probability lies on {', '.join(allowed)}")
    return {token: share / total for token, share in mass.items()}


def _chat_url(url: Any) -> Any:
    if not isinstance(url, str):
        return url
    bare = url.rstrip("/")
    return bare if bare.endswith("/chat/completions") else f"{bare}/chat/completions"


def _checked_template(prompt: str | None, mode: str) -> str:
    if prompt is None:
        return TEMPLATES[mode]
    missing = sorted(NEEDED[mode] - places(prompt)) if isinstance(prompt, str) else [*NEEDED[mode]]
    if missing:
        raise InputError(f"prompt needs a place {{{missing[0]}}} in mode {mode}")
    return prompt


def _checked_criteria(
    criteria: Mapping[str, float] | None, mode: str, logprobs: bool
) -> dict[str, float]:
    if criteria is None:
        return {}
    if mode != "pointwise" or logprobs:
        raise InputError("criteria belong to mode: pointwise without logprobs")
    weights = list(criteria.values()) if isinstance(criteria, Mapping) else []
    if not weights or not all(map(_is_weight, weights)):
        raise InputError(
            f"criteria is {criteria!r}; names and weights are expected, "
            "such as {correct: 2, brief: 1}"
        )
    return {str(name): float(weight) for name, weight in criteria.items()}


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value != 0


def _checked_scale(scale: Sequence[int] | None, logprobs: bool) -> tuple[int, int]:
    low, high = (0, 9) if logprobs else (1, 10)
    if scale is not None:
        is_pair = isinstance(scale, list | tuple) and len(scale) == 2
        if not is_pair or not all(isinstance(end, int) for end in scale) or scale[0] >= scale[1]:
            raise InputError(
                f"scale is {scale!r}; the lowest and the highest score are expected, "
                "such as [1, 10]"
            )
        low, high = scale
    if logprobs and not (low >= 0 and high <= 9):
        raise InputError(
            f"scale is [{low}, {high}]; with logprobs a score is one digit, allowed within [0, 9]"
        )
    return low, high


KIND = ArmKind(
    "judge",
    Judge,
    "a language model that judges, behind an OpenAI-compatible chat endpoint",
    hidden=("transport",),
    ragged=True,
    remote=True,
    names_model=True,
    check=lambda options: Judge(**options).arm.wire.check(),
    code=lambda options: None,
)
