"""LLaMA-Factory 0.9.5 (``reward_model_type: api``), PPO: ``{"model", "messages": [text, ...]}``.

Read in ``llamafactory/train/ppo/ppo_utils.py``, lines 34-40. A text is prompt and response in one,
without a boundary: it is routed by the whole text, and arms see it as the response to an empty
prompt. There are no groups, no retries and no time limit.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from reward_router.server.dialect import Dialect, Spoken, judged_alone
from reward_router.server.fields import MOST
from reward_router.server.groups import Groups


class Texts(Spoken):
    """Rendered conversations."""

    messages: Annotated[list[str], Field(min_length=1, max_length=MOST)]


class Scores(BaseModel):
    """One number a text."""

    scores: list[float]


def answer(body: Texts, groups: Groups) -> dict[str, Any]:
    """Calibrated; 0, what an arm says on average, where nobody could score."""
    return {"scores": [reward.value for reward in judged_alone(groups, body.messages)]}


DIALECT = Dialect(
    "/llamafactory", Texts, answer, Scores, "LLaMA-Factory's PPO reward server: scores."
)
