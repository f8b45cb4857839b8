"""Answers of the stable endpoints, as OpenAPI describes them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Scores = list[float | None]


class Verdict(BaseModel):
    """What was said of one prompt's responses; null where nobody gave a score."""

    id: str
    decision_id: Annotated[str, Field(description="the receipt: a payoff names it")]
    arm: Annotated[str, Field(description="whose scores these are")]
    propensity: Annotated[float, Field(description="the probability that the arm was drawn with")]
    scores: Annotated[Scores, Field(description="in the arm's own units")]
    calibrated: Annotated[
        Scores, Field(description="standard deviations above the arm's mean; null until known")
    ]
    ranking: Annotated[list[int], Field(description="numbers of responses, the best first")]
    payoff: Annotated[float | None, Field(description="null where it is not paid yet")]


class JudgeReply(BaseModel):
    """One verdict a prompt, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": "run-7/step-12/rank-0",
                    "verdicts": [
                        {
                            "id": "0",
                            "decision_id": "00000000000c" + "3f" * 10,
                            "arm": "short",
                            "propensity": 0.5,
                            "scores": [-1.0, -3.0],
                            "calibrated": [1.0, -1.0],
                            "ranking": [0, 1],
                            "payoff": None,
                        }
                    ],
                }
            ]
        }
    )

    request_id: str | None
    verdicts: list[Verdict]


class RoutedPrompt(BaseModel):
    """The arm that was drawn for one prompt."""

    id: str
    decision_id: str
    arm: str
    propensity: float
    probs: Annotated[list[float], Field(description="of all arms, in the order of ``arms``")]


class RouteReply(BaseModel):
    """One decision a prompt, in order."""

    request_id: str | None
    arms: list[str]
    decisions: list[RoutedPrompt]


class ScoredPrompt(BaseModel):
    """What one arm said of one prompt's responses."""

    arm: str
    scores: Scores
    calibrated: Scores


class ScoreReply(BaseModel):
    """One entry a prompt, in order."""

    request_id: str | None
    scores: list[ScoredPrompt]


class PayoffsReply(BaseModel):
    """What became of payoffs."""

    new: Annotated[list[bool], Field(description="false where this very payoff was there already")]


class State(BaseModel):
    """How the server is."""

    status: str


class Problem(BaseModel):
    """Why a request was not done; nothing of it was written."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "payoffs.0.value: 1.5; allowed 0 to 1, or any number with raw: true",
                    "field": "payoffs.0.value",
                }
            ]
        }
    )

    error: Annotated[str, Field(description="what is wrong and what is allowed, in one line")]
    field: Annotated[str, Field(description="where in the body; '' where it is not the body's")]
