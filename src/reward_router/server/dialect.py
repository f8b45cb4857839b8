"""What a dialect is: one path, the body that a trainer sends there, and the answer it reads.

A dialect lives in one file of ``dialects`` that ends with ``DIALECT = Dialect(...)``; nothing else
lists them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from reward_router.server.asked import Asked
from reward_router.server.group import Reward, Sample
from reward_router.server.groups import Groups
from reward_router.server.refusal import Refused


class Spoken(BaseModel):
    """A trainer's request. What it sends beyond the fields that are read is let pass."""

    model_config = ConfigDict(extra="ignore", strict=True)


def _label(value: Any) -> str | None:
    """A right answer as text; None where there is none, or it is no plain value."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    return str(value) if isinstance(value, str | int | float) else None


Label = Annotated[Any, BeforeValidator(_label), WithJsonSchema({})]
"""A trainer's right answer: what is no text and no number is no answer."""


@dataclass(frozen=True)
class Dialect:
    """How one trainer asks.

    Args:
        path: where it posts to.
        body: what it sends.
        answer: from the body to what it reads.
        reply: how OpenAPI describes that.
        sentence: which trainer it is, and what comes back.
    """

    path: str
    body: type[BaseModel]
    answer: Callable[[Any, Groups], Any]
    reply: Any
    sentence: str


def judged(groups: Groups, sample: Sample) -> Reward:
    """A reward that somebody really gave; Refused (503) where every arm failed.

    For clients that mend a failure by themselves: no reward is invented for them.
    """
    return given(groups.reward(sample))


def given(reward: Reward) -> Reward:
    """The same where an arm gave it; Refused (503) where every arm failed."""
    if not reward.arm:
        raise Refused(503, "no arm could score this response; send the same request again")
    return reward


def judged_alone(groups: Groups, texts: Sequence[str]) -> list[Reward]:
    """Rewards of texts that hold prompt and response in one, each with a decision of its own.

    They are routed by the whole text, and arms see it as the response to an empty prompt.
    """
    asked = Asked(
        prompts=[""] * len(texts),
        responses=[[text] for text in texts],
        ids=[str(i) for i in range(len(texts))],
        contexts=groups.desk.encoded(texts),
    )
    rewards = []
    for verdict in groups.desk.judge(asked)["verdicts"]:
        [score] = verdict["scores"]
        [calibrated] = verdict["calibrated"]
        arm = "" if score is None else verdict["arm"]
        reward = Reward(
            value=calibrated or 0.0,
            score=math.nan if score is None else score,
            arm=arm,
            decision_id=verdict["decision_id"],
            propensity=verdict["propensity"],
        )
        rewards.append(reward)
    return rewards
