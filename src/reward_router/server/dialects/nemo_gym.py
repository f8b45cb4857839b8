"""NeMo-Gym 0.4 to 0.7: a resources server's ``POST /verify``.

Read in ``nemo_gym/base_resources_server.py``, lines 87-147. The request holds
``responses_create_params`` and ``response`` in the form of OpenAI's Responses; the answer repeats
its fields and adds ``reward``, and ``reward_components`` whose sum it is.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from reward_router import chat
from reward_router.chat import Prompt
from reward_router.server.dialect import Dialect, Spoken, judged
from reward_router.server.fields import read_prompt
from reward_router.server.group import Sample
from reward_router.server.groups import Groups
from reward_router.server.refusal import Refused


class Verify(Spoken):
    """A rollout; other fields are repeated in the answer."""

    model_config = ConfigDict(extra="allow", strict=True)

    responses_create_params: Annotated[dict[str, Any], Field(description="with ``input``")]
    response: Annotated[dict[str, Any], Field(description="with ``output``: items of type message")]


class Verified(BaseModel):
    """The request with its reward."""

    model_config = ConfigDict(extra="allow")

    reward: float
    reward_components: dict[str, float]


def answer(body: Verify, groups: Groups) -> dict[str, Any]:
    """The reward is the calibrated score; 503 where nobody could score."""
    prompt = _prompt(body.responses_create_params.get("input"))
    reward = judged(groups, Sample(prompt, _response(body.response.get("output"))))
    components = {reward.arm: reward.value}
    return {**body.model_dump(), "reward": reward.value, "reward_components": components}


def _prompt(given: Any) -> Prompt:
    try:
        return read_prompt(given)
    except ValueError as error:
        field = "responses_create_params.input"
        raise Refused(422, f"{field}: {error}", field) from None


def _response(items: Any) -> str:
    """The text of all messages of an output; reasoning and tool calls are left out."""
    field = "response.output"
    if not isinstance(items, list):
        raise Refused(422, f"{field}: allowed a list of items, found {chat.shown(items)!r}", field)
    texts = []
    for i, item in enumerate(items):
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            continue
        try:
            texts.append(chat.content_text(item.get("content"), "the message"))
        except chat.Unreadable as error:
            raise Refused(422, f"{field}.{i}: {error}", f"{field}.{i}") from None
    if not texts:
        raise Refused(422, f"{field}: no item of it is a message", field)
    return "\n".join(texts)


DIALECT = Dialect(
    "/verify", Verify, answer, Verified, "NeMo-Gym's resources server: the request with its reward."
)
