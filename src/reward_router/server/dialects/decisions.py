"""Decisions: verifiers' judge ``decision``, and the form of vLLM's ``/v1/decisions``.

verifiers 0.4 (``verifiers/v1/judges/decision.py``, lines 46-82) sends a state and named questions
of type ``score`` with criteria, worst first; the score lies in [0, levels - 1]. vLLM 0.33 sends an
input and a list of questions: ``score`` with levels, ``predicate``, and ``choice``, where the
choices are the responses to the input. Both clients fail a trace themselves where a judge fails, so
no score is invented for them.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from reward_router.server.asked import Asked
from reward_router.server.dialect import Dialect, Label, Spoken, given, judged, judged_alone
from reward_router.server.group import Reward, Sample
from reward_router.server.groups import Groups
from reward_router.server.refusal import Refused

Levels = Annotated[list[Any], Field(min_length=2, max_length=100)]


class State(Spoken):
    """What verifiers wants to be judged."""

    question: str
    response: str
    answer: Label = None


class Choice(Spoken):
    """One of several responses."""

    value: str


class Question(Spoken):
    """What is asked of the state or the input."""

    type: Literal["score", "predicate", "choice"]
    criteria: Levels | None = None
    levels: Levels | None = None
    choices: Annotated[list[Choice], Field(min_length=2, max_length=100)] | None = None


class Decide(Spoken):
    """Either form."""

    state: State | None = None
    input: Annotated[str | None, Field(description="vLLM's form: what is asked about")] = None
    questions: (
        Annotated[dict[str, Question], Field(min_length=1, max_length=100)]
        | Annotated[list[Question], Field(min_length=1, max_length=100)]
    )


def answer(body: Decide, groups: Groups) -> dict[str, Any]:
    """Answers by name for named questions, else in order."""
    if (body.state is None) == (body.input is None):
        raise Refused(422, "state: give either state or input, and not both", "state")
    if isinstance(body.questions, dict):
        named = {key: _one(body, q, f"questions.{key}") for key, q in body.questions.items()}
        answers = {key: _answered(body, q, groups) for key, q in named.items()}
        return {"answers": answers}
    listed = [_one(body, q, f"questions.{i}") for i, q in enumerate(body.questions)]
    return {"answers": [_answered(body, question, groups) for question in listed]}


def _one(body: Decide, question: Question, field: str) -> Question:
    """The question, found answerable before anything is asked."""
    if question.type == "choice" and (question.choices is None or body.input is None):
        raise Refused(422, f"{field}: choice needs choices, and an input", field)
    if question.type == "score" and not (question.criteria or question.levels):
        raise Refused(422, f"{field}: score needs criteria or levels, two or more", field)
    return question


def _answered(body: Decide, question: Question, groups: Groups) -> dict[str, Any]:
    if question.type == "choice":
        return _chosen(body.input or "", [c.value for c in question.choices or []], groups)
    share = _reward(body, groups).share
    if question.type == "predicate":
        return {"type": "predicate", "probability": share}
    levels = question.criteria or question.levels or []
    return {"type": "score", "score": share * (len(levels) - 1)}


def _reward(body: Decide, groups: Groups) -> Reward:
    if body.state is None:
        return given(judged_alone(groups, [body.input or ""])[0])
    return judged(groups, Sample(body.state.question, body.state.response, body.state.answer))


def _chosen(prompt: str, values: list[str], groups: Groups) -> dict[str, Any]:
    """The choices as responses to the input: a softmax of their calibrated scores."""
    verdict = groups.desk.judge(Asked([prompt], [values], ["0"]))["verdicts"][0]
    if not verdict["ranking"]:
        raise Refused(503, "no arm could score the choices; send the same request again")
    lowest = min((s for s in verdict["calibrated"] if s is not None), default=0.0)
    weights = [math.exp(lowest if s is None else s) for s in verdict["calibrated"]]
    probabilities = [weight / sum(weights) for weight in weights]
    best = verdict["ranking"][0]
    pairs = zip(values, probabilities, strict=True)
    return {
        "type": "choice",
        "choice": values[best],
        "probabilities": [{"value": value, "probability": p} for value, p in pairs],
        "confidence": probabilities[best],
    }


DIALECT = Dialect(
    "/v1/decisions",
    Decide,
    answer,
    dict[str, Any],
    "verifiers' decision judge, and vLLM's decisions: answers.",
)
