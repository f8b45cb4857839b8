"""Any trainer's own client: one response with whatever it knows of group, step and label.

Our clients for verl and others speak it. ``request_id`` makes it safe to send again: a client that
gave up waiting gets the same reward and nothing is counted twice.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from reward_router.server.dialect import Dialect, Label, Spoken
from reward_router.server.fields import MOST, Name, PromptField, RequestId, Step
from reward_router.server.group import Sample
from reward_router.server.groups import Groups


class OneResponse(Spoken):
    """A prompt with one response to it."""

    prompt: PromptField
    response: str
    label: Annotated[Label, Field(description="the right answer, where you know it")] = None
    group: Annotated[
        Name | None, Field(description="your name of the prompt's group; none: equal prompts")
    ] = None
    size: Annotated[
        int | None, Field(ge=1, le=MOST, description="responses of the group; none: --group-size")
    ] = None
    step: Step = 0
    request_id: RequestId = None


class OneReward(BaseModel):
    """What an arm said of the response."""

    reward: Annotated[float, Field(description="standard deviations above the arm's mean")]
    share: Annotated[float, Field(description="the reward in [0, 1]")]
    score: Annotated[float | None, Field(description="in the arm's own units")]
    arm: Annotated[str, Field(description="'' where every arm failed")]
    decision_id: str
    propensity: float


def answer(body: OneResponse, groups: Groups) -> dict[str, Any]:
    """The reward; the group's mean where every arm failed (``arm`` is empty then)."""

    def work() -> dict[str, Any]:
        sample = Sample(
            body.prompt, body.response, body.label, body.group or "", body.size, body.step
        )
        reward = groups.reward(sample)
        return {
            "reward": reward.value,
            "share": reward.share,
            "score": reward.score if reward.arm else None,
            "arm": reward.arm,
            "decision_id": reward.decision_id,
            "propensity": reward.propensity,
        }

    spelled = body.model_dump_json().encode()
    return groups.desk.answers.once("reward", body.request_id, spelled, work)


DIALECT = Dialect(
    "/v1/reward", OneResponse, answer, OneReward, "One response of a group: its reward."
)
