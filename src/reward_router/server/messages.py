"""Bodies of the stable endpoints, and how they become what the desk is asked.

Axes as everywhere: B prompts, N responses to each, D features of a context.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from reward_router import chat
from reward_router.chat import Prompt
from reward_router.dispatch.inputs import MAX_STEP
from reward_router.server.asked import Asked
from reward_router.server.refusal import Refused
from reward_router.types import Float

MOST = 1024
"""Most prompts of a request, most responses of a prompt, and most payoffs of a request."""


def read_prompt(value: Any) -> Prompt:
    """A prompt as a template reads it; ValueError where it is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"allowed {chat.SHAPE}, found {chat.shown(value)!r}")
    return chat.messages(value, "a prompt")


_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": list(chat.ROLES)},
        "content": {"type": "string"},
    },
}
_PROMPT = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": _MESSAGE}]}

PromptField = Annotated[Any, BeforeValidator(read_prompt), WithJsonSchema(_PROMPT)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Step = Annotated[int, Field(ge=0, lt=MAX_STEP, description="your step; draws are keyed by it")]
RequestId = Annotated[
    Name | None,
    Field(description="your name of this request: sent again, it has the same answer"),
]
Ids = Annotated[
    list[Name] | None,
    Field(max_length=MOST, description="your names of the prompts, none twice; none: 0, 1, ..."),
]
Prompts = Annotated[
    list[PromptField], Field(min_length=1, max_length=MOST, description="texts, or messages")
]
Responses = Annotated[
    list[Annotated[list[str], Field(min_length=1, max_length=MOST)]],
    Field(max_length=MOST, description="for each prompt, its responses"),
]
Rows = Annotated[
    list[list[Finite]] | None,
    Field(max_length=MOST, description="for each prompt, what the router sees; none: computed"),
]
DecisionId = Annotated[str, Field(max_length=64, description="32 hexadecimal digits")]


class Body(BaseModel):
    """A request; a key that is unknown is refused, and no value is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


EXAMPLE: Any = {
    "request_id": "run-7/step-12/rank-0",
    "step": 12,
    "prompts": ["What is 3 + 4?", [{"role": "user", "content": "Say hi."}]],
    "responses": [["7", "It is 8."], ["Hi!", "Hello there."]],
}


class JudgeRequest(Body):
    """Prompts with their responses."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    prompts: Prompts
    responses: Responses
    ids: Ids = None
    step: Step = 0
    request_id: RequestId = None
    contexts: Rows = None
    gold: Annotated[
        list[list[Finite | None]] | None,
        Field(max_length=MOST, description="for each response 1 right, 0 wrong, null unknown"),
    ] = None

    def asked(self) -> Asked:
        """What the desk judges; Refused where the columns do not fit together."""
        _fits("responses", len(self.responses), len(self.prompts))
        gold = None
        if self.gold is not None:
            _fits("gold", len(self.gold), len(self.prompts))
            gold = [
                _gold(row, len(self.responses[i]), f"gold.{i}") for i, row in enumerate(self.gold)
            ]
        return Asked(
            prompts=self.prompts,
            responses=self.responses,
            ids=_ids(self.ids, len(self.prompts)),
            step=self.step,
            request_id=self.request_id,
            contexts=_contexts(self.contexts, len(self.prompts)),
            gold=gold,
            body=_spelled(self),
        )


class RouteRequest(Body):
    """Prompts alone."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"request_id": "eval-1", "prompts": ["What is 3 + 4?"], "ids": ["sum-1"]}]
        },
    )

    prompts: Prompts
    ids: Ids = None
    step: Step = 0
    request_id: RequestId = None
    contexts: Rows = None

    def asked(self) -> Asked:
        """What the desk routes; Refused where the columns do not fit together."""
        return Asked(
            prompts=self.prompts,
            responses=[[] for _ in self.prompts],
            ids=_ids(self.ids, len(self.prompts)),
            step=self.step,
            request_id=self.request_id,
            contexts=_contexts(self.contexts, len(self.prompts)),
        )


class ScoreRequest(Body):
    """Prompts with their responses, and who scores them: one arm, or the arms of decisions."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"arm": "short", "prompts": ["Say hi."], "responses": [["Hi!", "Hello."]]}]
        },
    )

    prompts: Prompts
    responses: Responses
    arm: Annotated[Name | None, Field(description="the name of an arm")] = None
    decision_ids: Annotated[
        list[DecisionId] | None,
        Field(max_length=MOST, description="for each prompt, its decision of /v1/route"),
    ] = None
    request_id: RequestId = None

    def asked(self) -> Asked:
        """What the desk scores; Refused where it is not said by whom."""
        _fits("responses", len(self.responses), len(self.prompts))
        if (self.arm is None) == (self.decision_ids is None):
            raise Refused(422, "arm: give either arm or decision_ids, and not both", "arm")
        if self.decision_ids is not None:
            _fits("decision_ids", len(self.decision_ids), len(self.prompts))
        return Asked(
            prompts=self.prompts,
            responses=self.responses,
            ids=_ids(None, len(self.prompts)),
            request_id=self.request_id,
            body=_spelled(self),
        )


class Payoff(Body):
    """What one decision earned."""

    decision_id: DecisionId
    value: Finite


class PayoffsRequest(Body):
    """Payoffs by decision id, all or none."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"payoffs": [{"decision_id": "00000000000c" + "0" * 20, "value": 0.8}]},
                {
                    "payoffs": [{"decision_id": "00000000000c" + "0" * 20, "value": -1.73}],
                    "raw": True,
                    "source": "neg_loss",
                },
            ]
        },
    )

    payoffs: Annotated[list[Payoff], Field(min_length=1, max_length=MOST)]
    raw: Annotated[
        bool, Field(description="whether values are any numbers, to be scaled to [0, 1]")
    ] = False
    source: Annotated[Name, Field(description="what the values are, for the report")] = "client"

    def pairs(self) -> list[tuple[str, float]]:
        """(decision id, value); Refused for one out of [0, 1] that is not raw."""
        for i, payoff in enumerate(self.payoffs):
            if not self.raw and not 0.0 <= payoff.value <= 1.0:
                field = f"payoffs.{i}.value"
                raise Refused(
                    422,
                    f"{field}: {payoff.value!r}; allowed 0 to 1, or any number with raw: true",
                    field,
                )
        return [(payoff.decision_id, payoff.value) for payoff in self.payoffs]


def _spelled(body: JudgeRequest | ScoreRequest) -> bytes:
    """The body in one spelling, where it may come again: equal bodies are equal bytes."""
    return b"" if body.request_id is None else body.model_dump_json().encode()


def _fits(field: str, count: int, prompts: int) -> None:
    if count != prompts:
        raise Refused(
            422, f"{field}: {count} rows for {prompts} prompts; allowed one for each", field
        )


def _ids(ids: Sequence[str] | None, prompts: int) -> list[str]:
    if ids is None:
        return [str(i) for i in range(prompts)]
    _fits("ids", len(ids), prompts)
    seen: set[str] = set()
    for i, name in enumerate(ids):
        if name in seen:
            raise Refused(422, f"ids.{i}: {name!r} occurs twice; allowed different ids", f"ids.{i}")
        seen.add(name)
    return list(ids)


def _contexts(rows: list[list[float]] | None, prompts: int) -> Float | None:
    if rows is None:
        return None
    _fits("contexts", len(rows), prompts)
    width = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != width or not row:
            field = f"contexts.{i}"
            raise Refused(
                422, f"{field}: {len(row)} numbers; allowed one length of at least 1", field
            )
    return np.array(rows, np.float64)


def _gold(row: Sequence[float | None], responses: int, field: str) -> Float:
    if len(row) != responses:
        raise Refused(
            422, f"{field}: {len(row)} values for {responses} responses; allowed one each", field
        )
    for n, value in enumerate(row):
        if value not in (None, 0.0, 1.0):
            where = f"{field}.{n}"
            raise Refused(422, f"{where}: {value!r}; allowed 1, 0 or null", where)
    return np.array([np.nan if value is None else value for value in row], np.float64)
