"""Bodies of the stable endpoints, and how they become what the desk is asked."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from reward_router.server import fields
from reward_router.server.asked import Asked
from reward_router.server.fields import (
    MOST,
    DecisionId,
    Finite,
    Ids,
    Name,
    Prompts,
    RequestId,
    Responses,
    Rows,
    Step,
)
from reward_router.server.refusal import Refused


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
        fields.check_length("responses", len(self.responses), len(self.prompts))
        gold = None
        if self.gold is not None:
            fields.check_length("gold", len(self.gold), len(self.prompts))
            gold = [
                fields.gold_row(row, len(self.responses[i]), f"gold.{i}")
                for i, row in enumerate(self.gold)
            ]
        return Asked(
            prompts=self.prompts,
            responses=self.responses,
            ids=fields.names(self.ids, len(self.prompts)),
            step=self.step,
            request_id=self.request_id,
            contexts=fields.contexts(self.contexts, len(self.prompts)),
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
            ids=fields.names(self.ids, len(self.prompts)),
            step=self.step,
            request_id=self.request_id,
            contexts=fields.contexts(self.contexts, len(self.prompts)),
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
        fields.check_length("responses", len(self.responses), len(self.prompts))
        if (self.arm is None) == (self.decision_ids is None):
            raise Refused(422, "arm: give either arm or decision_ids, and not both", "arm")
        if self.decision_ids is not None:
            fields.check_length("decision_ids", len(self.decision_ids), len(self.prompts))
        return Asked(
            prompts=self.prompts,
            responses=self.responses,
            ids=fields.names(None, len(self.prompts)),
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
