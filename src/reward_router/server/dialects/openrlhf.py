"""OpenRLHF 0.11 (``--reward.remote_url http://host:port/get_reward``), as its client sends it.

Read in ``openrlhf/utils/agent.py`` (``_fetch_rewards_via_http``, lines 329-369) and
``trainer/ppo_utils/samples_generator.py``: one query a request, no step and no group; ``scores``
drive dynamic filtering, so they lie in [0, 1] for every arm; every sample has the same extra logs.
A failed request would crash the trainer: where every arm failed it gets the group's mean.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from reward_router.server.dialect import Dialect, Label, Spoken
from reward_router.server.fields import MOST
from reward_router.server.group import Reward, Sample
from reward_router.server.groups import Groups
from reward_router.server.refusal import Refused

ENDS = ("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>")
"""What ends a response of common models; ``query`` keeps special tokens."""


class Query(Spoken):
    """One row a response."""

    query: Annotated[list[str], Field(min_length=1, max_length=MOST)]
    prompts: Annotated[list[str], Field(max_length=MOST)]
    labels: Annotated[list[Label], Field(max_length=MOST)] = []


class Rewards(BaseModel):
    """One number a response in every list."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


def answer(body: Query, groups: Groups) -> dict[str, Any]:
    """Rewards are calibrated; scores are their share of a normal population."""
    labels = body.labels or [None] * len(body.query)
    for field, column in (("prompts", body.prompts), ("labels", labels)):
        if len(column) != len(body.query):
            line = f"{field}: {len(column)} values for {len(body.query)} queries; allowed one each"
            raise Refused(422, line, field)
    given: list[Reward] = []
    for query, prompt, label in zip(body.query, body.prompts, labels, strict=True):
        given.append(groups.reward(Sample(prompt, response_of(query, prompt), label)))
    logs = {"router_failed": [float(not reward.arm) for reward in given]}
    logs["router_propensity"] = [reward.propensity for reward in given]
    for arm in groups.desk.session.dispatcher.arms:
        logs[f"router_arm_{arm}"] = [float(reward.arm == arm) for reward in given]
    rewards = [reward.value for reward in given]
    return {"rewards": rewards, "scores": [reward.share for reward in given], "extra_logs": logs}


def response_of(query: str, prompt: str) -> str:
    """What follows the prompt, without the token that ends it.

    >>> response_of("<s>2 + 2 = 4</s>", "2 + 2 =")
    ' 4'
    """
    at = query.find(prompt) if prompt else -1
    text = query[at + len(prompt) :] if at >= 0 else query
    trimmed = text.rstrip("\n")
    for end in ENDS:
        if trimmed.endswith(end):
            return trimmed.removesuffix(end)
    return text


DIALECT = Dialect(
    "/get_reward",
    Query,
    answer,
    Rewards,
    "OpenRLHF's remote reward model: rewards, scores in [0, 1], and extra_logs.",
)
